"""What a technique may say it did, and how to find out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from bluestab.techniques.base import Technique
from bluestab.testing.observed_training import (
    INSERTED,
    LAYERS,
    ObservedTraining,
    depth_of,
    is_head,
    is_layer,
)


def usual_decay(seen: ObservedTraining, plain: ObservedTraining) -> Mapping[str, float]:
    """Plain training's weight decay; what it has not is decayed if it is a matrix, as all there."""
    matrices = {n: decay for n, decay in plain.decay.items() if plain.start[n].ndim > 1}
    (decay,) = set(matrices.values())
    return {**plain.decay, **{n: decay * (seen.start[n].ndim > 1) for n in seen.added}}


def _multipliers(seen: ObservedTraining, plain: ObservedTraining) -> dict[str, Any]:
    """Depth -> factor on the plain run's learning rate, at every step where that is not zero."""
    found: dict[str, set[float]] = {}
    usual = next(iter(plain.rates.values()))
    assert all(rates == usual for rates in plain.rates.values())
    for name, rates in seen.rates.items():
        factors = {round(a / b, 9) for a, b in zip(rates, usual, strict=True) if b}
        found.setdefault(str(depth_of(name)), set()).update(factors)
    return {depth: next(iter(f)) if len(f) == 1 else sorted(f) for depth, f in found.items()}


def _distance(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """Euclidean distance of all weights together."""
    return math.sqrt(
        sum(float(((w.double() - other[n].double()) ** 2).sum()) for n, w in one.items())
    )


def _averaged_steps(seen: ObservedTraining) -> int | None:
    """Of how many last steps the final weights are the mean; None if of no number of them."""
    for n in range(1, len(seen.trail) + 1):
        last = seen.trail[-n:]
        mean: dict[str, Any] = {name: sum(w[name].double() for w in last) / n for name in seen.end}
        if _distance(seen.end, mean) <= 1e-3 * _distance(*seen.trail[-2:]):
            return n
    return None


def _distance_kept(seen: ObservedTraining, plain: ObservedTraining) -> float:
    """Of all that training began with at the checkpoint's values, and of what was put around it:
    how far it went, together."""
    kept = {n: w for n, w in seen.checkpoint.items() if n not in seen.changed}
    kept |= {n: seen.start[n] for n in seen.added}
    squares = [((seen.end[n].double() - w.double()) ** 2).sum() for n, w in kept.items()]
    return math.sqrt(sum(map(float, squares)))


def _masked(seen: ObservedTraining, plain: ObservedTraining) -> int:
    """Tensors whose first gradient has more zeros than it has in plain training (added: than 0)."""
    firsts = {n: [z for z in zeros if z is not None][:1] for n, zeros in seen.gradients.items()}
    usual = {
        n: max((z for z in zeros if z is not None), default=0.0)
        for n, zeros in plain.gradients.items()
    }
    return len([n for n, first in firsts.items() if first and first[0] > usual.get(n, 0.0)])


def _retrained_share(seen: ObservedTraining, plain: ObservedTraining) -> float:
    """Of the entries of all tensors that train and began at the checkpoint's values, or beside a
    layer: those of the tensors that moved."""
    gated = [n for n in seen.rates if not is_head(n) and n not in seen.changed]
    return seen.size([n for n in gated if n in seen.moved]) / max(1, seen.size(gated))


def _trains_from(seen: ObservedTraining, plain: ObservedTraining) -> dict[str, int]:
    """Depth -> first step in which anything there has a gradient."""
    found: dict[str, int] = {}
    for name, zeros in seen.gradients.items():
        steps = [step for step, share in enumerate(zeros) if share is not None]
        depth = str(depth_of(name))
        if steps:
            found[depth] = min(steps[0], found.get(depth, steps[0]))
    return found


def _trained_steps(seen: ObservedTraining, plain: ObservedTraining) -> dict[str, int]:
    """Tensors that have no gradient in some step -> in how many they have one."""
    counted = {n: sum(zeros is not None for zeros in z) for n, z in seen.gradients.items()}
    return {n: steps for n, steps in counted.items() if steps < len(seen.losses)}


def effects_problems(
    techniques: Mapping[str, Technique],
    effects: Mapping[str, Mapping[str, Any]],
    seen: ObservedTraining,
    plain: ObservedTraining,
    more: Mapping[str, Callable[[ObservedTraining, ObservedTraining], Any]] = MappingProxyType({}),
) -> list[str]:
    """What is untrue or missing in `effects`, one sentence each; empty if all agrees.

    seen   the training with these techniques
    plain  the training without any, everything else equal
    more   words beside those of `CLAIMS`, and how to find out their values
    """
    problems = []
    claimed = {**CLAIMS, **more}
    found = {word: see(seen, plain) for word, see in claimed.items()}
    usual = {word: see(plain, plain) for word, see in claimed.items()}
    for name, technique in techniques.items():
        claims = effects.get(name, {})
        if technique.is_neutral():
            if claims:
                problems.append(f"{name} stands at a neutral value, yet claims {dict(claims)}")
            continue
        if not claims:
            problems.append(f"{name} claims no effect, and no knob stands at its neutral value")
            continue
        for word, value in claims.items():
            if word in found:
                if not agree(value, found[word]):
                    problems.append(f"{name} claims {word} {value!r}, seen was {found[word]!r}")
            elif not hasattr(technique, word):
                problems.append(f"{name} claims {word} {value!r}, which nothing here can confirm")
            elif value != getattr(technique, word):
                problems.append(f"{name} claims {word} {value!r}, but its knob says otherwise")
        if all(agree(value, usual.get(word, value)) for word, value in claims.items()):
            problems.append(
                f"{name} claims nothing that plain training does not do as well: {dict(claims)}"
            )
    said = {word for claims in effects.values() for word in claims}
    for word in TRACES:
        if word not in said and not (
            agree(found[word], usual[word]) or _follows(word, said, found[word])
        ):
            problems.append(f"nobody claims {word}, seen was {found[word]!r}")
    idle = all(torch.equal(seen.end[name], plain.end[name]) for name in plain.end)
    if idle and not all(technique.is_neutral() for technique in techniques.values()):
        problems.append("the trained weights equal those of plain training, bit for bit")
    return problems


def _follows(word: str, said: set[str], value: Any) -> bool:
    """Fewer layers in the rates is what a declared freezing looks like; fewer layers that train
    from the start are not layers that train later."""
    if word == "trains_from":
        return not any(value.values())
    return word == "lr_multiplier_by_depth" and "frozen_tensors" in said


def agree(one: Any, other: Any) -> bool:
    """Equal, with floats to nine digits."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(agree(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(agree, sorted(one), sorted(other)))
    if isinstance(one, float) or isinstance(other, float):
        numbers = all(isinstance(x, int | float) for x in (one, other))
        return numbers and math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


CLAIMS: Mapping[str, Callable[[ObservedTraining, ObservedTraining], Any]] = {
    "frozen_tensors": lambda seen, plain: len(seen.frozen),
    "frozen_parameters": lambda seen, plain: seen.size(seen.frozen),
    "frozen_depths": lambda seen, plain: sorted({depth_of(n) for n in seen.frozen}),
    "moved_anyway": lambda seen, plain: len(set(seen.frozen) & set(seen.moved)),
    "without_dropout": lambda seen, plain: sorted(filter(is_layer, seen.silent)),
    "lr_multiplier_by_depth": _multipliers,
    "changed_tensors": lambda seen, plain: len(seen.changed),
    "changed_parameters": lambda seen, plain: seen.size(seen.changed),
    "blocks": lambda seen, plain: sorted({depth_of(n) for n in seen.changed} - {LAYERS + 1}),
    "pooler": lambda seen, plain: any(depth_of(n) > LAYERS for n in seen.changed),
    "extra_forwards": lambda seen, plain: seen.forwards - plain.forwards,
    "distance_from_last_step": lambda seen, plain: _distance(seen.end, seen.trail[-1]),
    "averaged_steps": lambda seen, plain: _averaged_steps(seen),
    "gold_share": lambda seen, plain: seen.gold_share,
    "entropy_weight": lambda seen, plain: seen.entropy_weight,
    # towards the pretrained point, and what is trained
    "mixed_tensors": lambda seen, plain: len(seen.mixing),
    "dropout_removed": lambda seen, plain: sum(
        rate > 0 == seen.dropout.get(path) for path, rate in plain.dropout.items()
    ),
    "undecayed_tensors": lambda seen, plain: len(
        [n for n, decay in seen.decay.items() if usual_decay(seen, plain)[n] > decay == 0]
    ),
    "distance": _distance_kept,
    "masked_tensors": _masked,
    "retrained_share": _retrained_share,
    "trains_from": _trains_from,
    "trained_steps": _trained_steps,
    # what was put around layers
    "adapters": lambda seen, plain: len(
        [
            n
            for n, w in seen.applied.items()
            if n.endswith(".weight") and not torch.allclose(w, seen.end[n], 0, 2e-7)
        ]
    ),
    "zeros": lambda seen, plain: sum(
        int((w == 0).sum()) for n, w in seen.applied.items() if n.endswith(".weight")
    ),
    "adapter_parameters": lambda seen, plain: seen.size([n for n in seen.added if n in seen.rates]),
    "opened_gates": lambda seen, plain: len([n for n in seen.moved if n.endswith(".gate")]),
    "inserted_parameters": lambda seen, plain: seen.size(
        [n for n in seen.added if n in seen.rates and n.startswith(INSERTED)]
    ),
    "trained_share": lambda seen, plain: seen.size(list(seen.rates)) / seen.size(list(seen.start)),
}
"""Word in `effects` -> its value found out here. A technique that needs a new word adds it."""


TRACES = ("frozen_tensors", "without_dropout", "lr_multiplier_by_depth", "changed_tensors",
          "extra_forwards", "distance_from_last_step", "gold_share", "entropy_weight",
          "mixed_tensors", "dropout_removed", "undecayed_tensors", "trains_from", "adapters",
          "opened_gates")  # fmt: skip
"""Words without which a difference from plain training would go unmentioned."""

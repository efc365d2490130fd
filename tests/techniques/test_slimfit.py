"""SlimFit: its schedule against another implementation, and that what is frozen stands still."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bluestab.core.seeding import stream_seed  # noqa: E402
from bluestab.techniques import slimfit  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.observed_training import ObservedTraining, depth_of, is_head  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

PLACE = ("gad", "tiny")
LONG = ("optim.steps=50", "trainer.eval_every=50")
TWELVE = ("optim.steps=12", "trainer.eval_every=12")  # a validation would empty all gradients


def asked(**knobs: Any) -> tuple[str, ...]:
    return chosen("slimfit", **{f"slimfit__{knob}": value for knob, value in knobs.items()})


def had_gradients(seen: ObservedTraining) -> list[set[str]]:
    """Step -> the tensors that had a gradient in it."""
    names = seen.gradients.items()
    return [{n for n, zeros in names if zeros[t] is not None} for t in range(len(seen.losses))]


def is_unit(name: str, weight: Any) -> bool:
    return not is_head(name) and (weight.ndim > 1 or name.endswith("LayerNorm.weight"))


def schedule(
    seen: ObservedTraining, *, rate: float, unit: str, per_rate: bool, reconsider: int | None
) -> Iterator[set[str]]:
    """Step -> the tensors frozen in it, from the weights as they were seen at every step; written
    after section 5.1 of the facts on the published code, in NumPy, without a look at ours."""
    key = (lambda n: n) if unit == "tensor" else (lambda n: str(depth_of(n)))
    members: dict[str, list[str]] = {}
    for name, weight in seen.start.items():
        if is_unit(name, weight):
            members.setdefault(key(name), []).append(name)
    # larger than any distance, so that all are tried before any is tried again
    d = {u: 1e10 * (1 + stream_seed(0, "slimfit", u) / 2**63) for u in members}
    d = {u: 1e11 - value for u, value in d.items()}
    idle = dict.fromkeys(members, 0)
    rates = next(iter(seen.rates.values()))
    weights: Sequence[Mapping[str, Any]] = [seen.start, *seen.trail]
    for step in range(len(seen.losses)):
        claim = dict(d)
        for u in members:
            if reconsider is not None and idle[u] > reconsider and d[u] < 1e9:
                claim[u] = 1e9 + idle[u]
        frozen = sorted(claim, key=claim.__getitem__)[: math.floor(rate * len(members) + 1e-9)]
        yield {name for u in frozen for name in members[u]}
        for u, names in members.items():
            idle[u] = idle[u] + 1 if u in frozen else 1
            if u in frozen or rates[step] == 0:
                continue
            old = np.concatenate([weights[step][n].numpy().ravel() for n in names]).astype("f8")
            new = np.concatenate([weights[step + 1][n].numpy().ravel() for n in names])
            moved = np.mean(np.abs(new - old) / np.maximum(np.abs(old), 1e-8))
            d[u] = moved / (rates[step] / 1e-3 if per_rate else 1.0)


@pytest.mark.parametrize(
    "knobs",
    [
        pytest.param(
            {"rate": 0.8, "unit": "tensor", "per_rate": False, "reconsider": None},
            id="as published",
        ),
        pytest.param(
            {"rate": 0.5, "unit": "block", "per_rate": True, "reconsider": 5},
            marks=pytest.mark.slow,
            id="ours",
        ),
    ],
)
def test_fifty_steps_are_those_of_another_implementation(lab: Lab, knobs: dict[str, Any]) -> None:
    shown = {k: str(v).lower() if isinstance(v, bool) else v for k, v in knobs.items()}
    _, seen = lab.trained(*PLACE, *asked(**shown), *LONG)
    every = set(seen.gradients)
    found = [every - names for names in had_gradients(seen)]
    expected = list(schedule(seen, **knobs))
    assert found == expected
    assert len({frozenset(names) for names in found}) > 5, "it changes over time"


def test_gradients_of_what_trains_are_those_of_plain_training(lab: Lab) -> None:
    """Bit for bit, in the first step, where the weights are the same."""

    def gradients(*overrides: str) -> dict[str, Any]:
        assembly = lab.assembly(lab.run(*PLACE, *overrides, "optim.steps=1", "optim.clip=null"))
        assembly.trainer.fit(assembly.module, assembly.loaders["train"])
        named = assembly.built.model.named_parameters()
        return {name: p.grad for name, p in named if p.grad is not None}

    plain, found = gradients("technique=none"), gradients(*asked(rate=0.8))
    assert 0 < len(found) < len(plain)
    for name, gradient in found.items():
        assert torch.equal(gradient, plain[name]), name


@pytest.mark.parametrize(
    "moments", ["keep", "drop", pytest.param("offload", marks=pytest.mark.slow)]
)
def test_a_frozen_unit_stands_still(lab: Lab, moments: str) -> None:
    """Neither moments nor weight decay move it, and its own count of steps stands still."""
    assembly, seen = lab.trained(*PLACE, *asked(rate=0.8, moments=moments), *TWELVE)
    had = had_gradients(seen)
    for step in range(1, 12):
        still = set(seen.gradients) - had[step]
        assert len(still) > 10
        for name in still:
            assert torch.equal(seen.trail[step - 1][name], seen.trail[step][name]), name
    state = assembly.trainer.optimizers[0].state
    for name, parameter in assembly.built.model.named_parameters():
        steps = sum(name in names for names in had)
        if moments == "drop":
            assert (parameter in state) == (name in had[-1])
        elif steps:
            assert float(state[parameter]["step"]) == steps, name
    bias_and_head = {n for n in seen.gradients if n.endswith("bias") or is_head(n)}
    assert all(bias_and_head <= names for names in had)


@pytest.mark.slow
def test_offloaded_moments_are_kept_moments(lab: Lab) -> None:
    _, kept = lab.trained(*PLACE, *asked(rate=0.8, moments="keep"), *TWELVE)
    _, offloaded = lab.trained(*PLACE, *asked(rate=0.8, moments="offload"), *TWELVE)
    assert kept.losses == offloaded.losses


@pytest.mark.slow
@pytest.mark.parametrize("knobs", [{"moments": "drop"}, {"unit": "block", "reconsider": 2}])
def test_interrupted_later_it_goes_on_with_the_same_bits(lab: Lab, knobs: dict[str, Any]) -> None:
    """After the start in which every unit is tried once: distances decide what trains."""
    overrides = (*asked(rate=0.7, **knobs), "optim.steps=9")
    _, seen = lab.trained(*PLACE, *overrides)
    _, spy, goes_on = lab.resumed(*PLACE, *overrides, step=6)
    assert spy.losses == seen.losses[6:]
    assert all(torch.equal(p, seen.end[n]) for n, p in goes_on.built.model.named_parameters())


@pytest.mark.slow
def test_the_rate_rises_to_its_value(lab: Lab) -> None:
    _, seen = lab.trained(*PLACE, *asked(rate=0.8, anneal=0.5), "optim.steps=12")
    frozen = [len(seen.gradients) - len(names) for names in had_gradients(seen)]
    assert frozen[0] == 0
    assert frozen == sorted(frozen)
    assert len(set(frozen[6:])) == 1
    assert frozen[3] == pytest.approx(frozen[6] / 2, abs=1)


def test_a_weight_of_zero_has_a_finite_distance() -> None:
    """In the published code it is 0 / 0, and its tensor trains for ever."""
    old, new = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 0.5, 1.5])
    assert float(slimfit.distance([old], [old], 1e-8)) == 0
    assert float(slimfit.distance([old], [new], 0.5)) == pytest.approx((0 + 1 + 0.5) / 3)


@pytest.mark.slow
def test_what_reinit_made_anew_always_trains(lab: Lab) -> None:
    names = chosen("reinit", "slimfit", slimfit__rate=0.8)
    _, seen = lab.trained(*PLACE, *names, "optim.steps=6")
    assert seen.changed
    assert all(set(seen.changed) <= names for names in had_gradients(seen))

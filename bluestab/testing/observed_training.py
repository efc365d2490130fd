"""An independent eye on one training: what weights, optimizer, dropout and batches really did.

Nothing here asks bluestab's own observers. Weights are compared with a checkpoint that plain
transformers reads, rates come from `optimizer.param_groups`, forward passes from a hook, depths
from the parameter names. `effects_problems` then holds what a technique says against all that.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from bluestab.core.config import compose, resolved
from bluestab.core.instantiate import instantiate
from bluestab.core.paths import conf_dir
from bluestab.techniques.base import Technique
from bluestab.testing.corpora import ANY_FILE
from bluestab.training.assemble import Assembly, assemble
from bluestab.training.check import Run, check
from bluestab.training.loop.checkpoints import find, identity

LAYERS = 2
"""Blocks of the tiny models."""

SHORT = ("optim.steps=3", "optim.lr=1e-3", "optim.batch_size=16", "trainer.eval_every=1")
"""Three real steps over 24 items: the second epoch begins, validation comes in between."""


def depth_of(name: str) -> int:
    """Depth of a parameter or module by its name: 0 embeddings, 1..L blocks, L+1 all above."""
    block = re.match(r"(?:\w+\.encoder\.layer|model\.layers)\.(\d+)(\.|$)", name)
    if block:
        return int(block[1]) + 1
    bottom = re.match(r"(bert|electra|roberta|model)\.embeddings(_project)?(\.|$)", name)
    return 0 if bottom else LAYERS + 1


def is_head(name: str) -> bool:
    return not name.startswith(("bert.", "electra.", "roberta.", "model."))


def is_layer(path: str) -> bool:
    """Whether a module path is one whole layer, as freezing counts them."""
    inside = r"embeddings|embeddings_project|encoder\.layer\.\d+|layers\.\d+"
    return bool(re.fullmatch(rf"\w+\.({inside})", path))


@dataclass(frozen=True)
class ObservedTraining:
    """One training as seen from outside.

    checkpoint  encoder weights as plain transformers reads them
    start, end  all weights before the first and after the last step
    gradient    names with `requires_grad`
    groups      names per optimizer group; an unknown tensor is called "?"
    rates       name -> learning rate at every step
    decay       name -> weight decay
    silent      modules that were in evaluation mode during every training forward
    forwards    forward passes in training mode
    batches     ids of the items of every step
    losses      training loss of every step
    trail       all weights as the optimizer left them at every step
    gold_share  what the loss holds of the target for the gold label; None in regression
    rows        the curve: scores of every validation
    dropout     dropout modules and their rates
    mixing      linear layers whose training forward does not use their weight as it is
    gradients   name -> per step, the share of exact zeros in its gradient; None: no gradient
    applied     weights of the linear layers that something was put around -> what they, together
                with it, apply in evaluation after the last step

    Names are those of a plain network; what was put around a layer adds names of its own.
    """

    checkpoint: Mapping[str, torch.Tensor]
    start: Mapping[str, torch.Tensor]
    end: Mapping[str, torch.Tensor]
    gradient: frozenset[str]
    groups: Sequence[Sequence[str]]
    rates: Mapping[str, tuple[float, ...]]
    decay: Mapping[str, float]
    silent: frozenset[str]
    forwards: int
    batches: Sequence[tuple[str, ...]]
    losses: Sequence[float]
    trail: Sequence[Mapping[str, torch.Tensor]]
    gold_share: float | None
    rows: Sequence[Mapping[str, Any]]
    dropout: Mapping[str, float] = field(default_factory=dict)
    mixing: frozenset[str] = frozenset()
    gradients: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    applied: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @cached_property
    def added(self) -> list[str]:
        """Parameters that a plain network has not."""
        layers = tuple(name.removesuffix("weight") for name in self.applied)
        return [
            name
            for name in self.start
            if name.startswith(layers) and name.rpartition(".")[0] + "." not in layers
        ]

    @cached_property
    def bare(self) -> Mapping[str, torch.Tensor]:
        """What a plain network must hold to compute what was trained."""
        return {n: self.applied.get(n, w) for n, w in self.end.items() if n not in self.added}

    @cached_property
    def frozen(self) -> list[str]:
        """Parameters that no optimizer group holds."""
        return [name for name in self.start if name not in self.rates]

    @cached_property
    def moved(self) -> list[str]:
        return [name for name in self.start if not torch.equal(self.start[name], self.end[name])]

    @cached_property
    def changed(self) -> list[str]:
        """Encoder parameters that were not at the checkpoint's value when training began."""
        return [n for n, w in self.checkpoint.items() if not torch.equal(w, self.start[n])]

    def size(self, names: Sequence[str]) -> int:
        return sum(self.start[name].numel() for name in names)


class EndOfProcess(BaseException):
    """Stands for whatever ends a process; nothing in between may catch it."""


@dataclass
class Spy(pl.Callback):
    """Notes rates, items and losses while the trainer runs, and ends it after so many steps."""

    names: Mapping[int, str]
    ids: Sequence[str]
    stop_after: int | None = None
    rates: dict[str, list[float]] = field(default_factory=dict)
    batches: list[tuple[str, ...]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    trail: list[Mapping[str, torch.Tensor]] = field(default_factory=list)
    gradients: dict[str, list[float | None]] = field(default_factory=dict)

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, _: int) -> None:
        self.batches.append(tuple(self.ids[i] for i in batch["items"].tolist()))
        for group in trainer.optimizers[0].param_groups:
            for parameter in group["params"]:
                self.rates.setdefault(self.names[id(parameter)], []).append(group["lr"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, _: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))
        self.trail.append(weights(module.model))
        for group in trainer.optimizers[0].param_groups:
            for parameter in group["params"]:
                grad = parameter.grad
                zeros = None if grad is None else float((grad == 0).float().mean())
                self.gradients.setdefault(self.names[id(parameter)], []).append(zeros)
        if len(self.losses) == self.stop_after:
            raise EndOfProcess


def spy_on(assembly: Assembly, stop_after: int | None = None) -> Spy:
    names = {id(p): name for name, p in named_parameters(assembly.built.model)}
    spy = Spy(names, [example.id for example in assembly.examples["train"]], stop_after)
    assembly.trainer.callbacks.append(spy)  # type: ignore[attr-defined]
    return spy


def fit(assembly: Assembly, checkpoint: Path | None = None) -> None:
    loaders = assembly.loaders["train"], assembly.loaders["validation"]
    assembly.trainer.fit(assembly.module, *loaders, ckpt_path=checkpoint, weights_only=True)


def watch(assembly: Assembly, checkpoint: Mapping[str, torch.Tensor]) -> ObservedTraining:
    """Train an assembly and see what happens."""
    model = assembly.built.model
    names = {id(p): name for name, p in named_parameters(model)}
    spy = spy_on(assembly)
    silent: list[frozenset[str]] = []

    def note(module: torch.nn.Module, inputs: Any) -> None:
        if module.training:
            silent.append(frozenset(p for p, m in module.named_modules() if not m.training))

    start = weights(model)
    hook = model.register_forward_pre_hook(note)
    fit(assembly)
    hook.remove()
    groups = assembly.trainer.optimizers[0].param_groups
    named = [[names.get(id(p), "?") for p in group["params"]] for group in groups]
    return ObservedTraining(
        checkpoint={name: checkpoint[name] for name in start if name in checkpoint},
        start=start,
        end=weights(model),
        gradient=frozenset(n for n, p in named_parameters(model) if p.requires_grad),
        groups=named,
        rates={name: tuple(rates) for name, rates in spy.rates.items()},
        decay={
            n: group["weight_decay"]
            for group, inside in zip(groups, named, strict=True)
            for n in inside
        },
        silent=frozenset.intersection(*silent) if silent else frozenset(),
        forwards=len(silent),
        batches=spy.batches,
        losses=spy.losses,
        trail=spy.trail,
        gold_share=gold_share(assembly),
        rows=[dict(row) for row in assembly.history.rows],
        dropout={p: m.p for p, m in model.named_modules() if isinstance(m, torch.nn.Dropout)},
        mixing=mixing(model),
        gradients=spy.gradients,
        applied=applied(model),
    )


def gold_share(assembly: Assembly) -> float | None:
    """Read off the gradient of the loss at logits 0, which is probability minus target."""
    batch = next(iter(assembly.loaders["validation"]))
    labels = batch["labels"]
    flags = labels.is_floating_point()
    if flags and labels.ndim == 1:
        return None
    shape = labels.shape if flags else (*labels.shape, len(assembly.data.labels))
    logits = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    loss: Any = assembly.built.loss(
        logits, {**batch, "labels": labels.double() if flags else labels}
    )
    loss.backward()
    assert logits.grad is not None
    if flags:
        return float((0.5 - logits.grad * labels.numel())[labels == 1][0])
    counted = labels != -100
    target = 1 / shape[-1] - logits.grad[counted] * counted.sum()
    return float(target.gather(1, labels[counted][:, None])[0])


@torch.no_grad()
def mixing(model: torch.nn.Module) -> frozenset[str]:
    """Linear layers that in training do not compute with their weight, moved away for a trial."""
    was, found = model.training, set()
    model.train()
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module.training:
            kept = module.weight.clone()
            random = torch.Generator().manual_seed(1)
            module.weight.add_(torch.randn(kept.shape, generator=random))
            features = torch.randn(64, kept.shape[1], generator=random)
            expected = torch.nn.functional.linear(features, module.weight, module.bias)
            if not torch.allclose(module(features), expected, rtol=1e-3, atol=1e-3):
                found.add(path)
            module.weight.copy_(kept)
    model.train(was)
    return frozenset(found)


@torch.no_grad()
def applied(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Name of its weight -> matrix (out, in) that a layer with another one inside it applies: what
    it makes of the unit vectors, less what it makes of zero."""
    was, found = model.training, {}
    model.eval()
    for path, module in model.named_modules():
        if hasattr(module, "base_layer"):
            units = torch.eye(module.base_layer.in_features)
            found[f"{path}.weight"] = (module(units) - module(torch.zeros_like(units))).T
    model.train(was)
    return found


def named_parameters(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """A layer that something was put around keeps its name."""
    return ((n.replace(".base_layer.", "."), p) for n, p in model.named_parameters())


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in named_parameters(model)}


def equal_weights(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """The same names with the same bits."""
    return one.keys() == other.keys() and all(torch.equal(w, other[n]) for n, w in one.items())


# --- what a technique may say it did, and how to find out ----------------------------------------


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
    usual = {n: max(z for z in zeros if z is not None) for n, zeros in plain.gradients.items()}
    return len([n for n, first in firsts.items() if first and first[0] > usual.get(n, 0.0)])


def _trains_from(seen: ObservedTraining, plain: ObservedTraining) -> dict[str, int]:
    """Depth -> first step in which anything there has a gradient."""
    found: dict[str, int] = {}
    for name, zeros in seen.gradients.items():
        steps = [step for step, share in enumerate(zeros) if share is not None]
        depth = str(depth_of(name))
        if steps:
            found[depth] = min(steps[0], found.get(depth, steps[0]))
    return found


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
    "trains_from": _trains_from,
    # what was put around layers
    "adapters": lambda seen, plain: len(
        [n for n, w in seen.applied.items() if not torch.allclose(w, seen.end[n], 0, 1e-6)]
    ),
    "adapter_parameters": lambda seen, plain: seen.size([n for n in seen.added if n in seen.rates]),
    "trained_share": lambda seen, plain: seen.size(list(seen.rates)) / seen.size(list(seen.start)),
}
"""Word in `effects` -> its value found out here. A technique that needs a new word adds it."""

TRACES = ("frozen_tensors", "without_dropout", "lr_multiplier_by_depth", "changed_tensors",
          "extra_forwards", "distance_from_last_step", "gold_share", "mixed_tensors",
          "dropout_removed", "undecayed_tensors", "trains_from", "adapters")  # fmt: skip
"""Words without which a difference from plain training would go unmentioned."""


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
            problems.append(f"{name} claims nothing that plain training does not do as well")
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


# --- where the trainings happen ------------------------------------------------------------------


class Lab:
    """Trains tiny models on the small corpora, each combination once.

    The models are read from checkpoints on disk whose every tensor differs from what random
    initialisation would give, so that a re-initialised tensor can always be told apart.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._configs: dict[tuple[str, ...], dict[str, Any]] = {}
        self._plain: dict[str, dict[str, torch.Tensor]] = {}
        self._seen: dict[tuple[str, ...], tuple[Assembly, ObservedTraining]] = {}

    def checkpoint(self, model: str) -> Path:
        """A folder as `save_pretrained` leaves it."""
        from transformers import AutoConfig, AutoModel

        from bluestab.models.description import Model
        from bluestab.models.tokenizers import load_tokenizer

        folder = self.folder / model
        if not folder.is_dir():
            node: Any = OmegaConf.to_container(
                OmegaConf.load(conf_dir() / "model" / f"{model}.yaml")
            )
            config = AutoConfig.for_model(node["family"], **node["config"])
            with torch.random.fork_rng():
                torch.manual_seed(1)
                network = AutoModel.from_config(config)
            random = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter += 0.05 * torch.randn(parameter.shape, generator=random)
            network.save_pretrained(folder)
            load_tokenizer(instantiate(node, Model, "model")).save_pretrained(folder)
        return folder

    def plain_transformers(self, model: str) -> dict[str, torch.Tensor]:
        """Names in the fine-tuned network -> weights of the checkpoint."""
        from transformers import AutoModel

        if model not in self._plain:
            network = AutoModel.from_pretrained(self.checkpoint(model), dtype=torch.float32)
            prefix = network.base_model_prefix
            self._plain[model] = {f"{prefix}.{n}": weight for n, weight in weights(network).items()}
        return self._plain[model]

    def composed(self, *asked: str) -> dict[str, Any]:
        """What the command line composes and resolves, each line once."""
        if asked not in self._configs:
            self._configs[asked] = resolved(compose((*SHORT, *ANY_FILE, *asked)))
        return self._configs[asked]

    def config(self, task: str, model: str, *overrides: str) -> dict[str, Any]:
        """Composing costs as much as training: task and model are composed once, and each technique
        with its knobs once; a test holds that together they are what one line gives."""
        path = f"model.path={self.checkpoint(model)}"
        ours = [o for o in overrides if o.startswith("technique")]
        rest = [o for o in overrides if o not in ours]
        cfg = dict(self.composed(f"task={task}", f"model={model}", path, *rest))
        if ours and ours[0] != "technique=none":
            assert ours[0].startswith("technique=")
            cfg["technique"] = {}
            for name in re.findall(r"\w+", ours[0].partition("=")[2]):
                knobs = [o for o in ours if o.startswith(f"technique.{name}.")]
                cfg["technique"] |= self.composed(f"technique={name}", *knobs)["technique"]
        return cfg

    def run(self, task: str, model: str, *overrides: str) -> Run:
        """Checked; techniques are new objects every time."""
        return check(self.config(task, model, *overrides))

    def assembly(
        self,
        run: Run,
        techniques: Mapping[str, Technique] | None = None,
        resume: Path | None = None,
        checkpoint_every: int | None = None,
    ) -> Assembly:
        return assemble(
            {**run.cfg, "checkpoint_every": checkpoint_every},
            data=run.data,
            model=run.model,
            techniques=run.techniques if techniques is None else techniques,
            seeds=run.seeds,
            device=torch.device("cpu"),
            progress=lambda *_: None,
            resume=resume,
        )

    def trained(self, task: str, model: str, *overrides: str) -> tuple[Assembly, ObservedTraining]:
        """The training of these overrides, done once."""
        asked = (task, model, *overrides)
        if asked not in self._seen:
            self._seen[asked] = self.train_again(task, model, *overrides)
        return self._seen[asked]

    def train_again(
        self, task: str, model: str, *overrides: str
    ) -> tuple[Assembly, ObservedTraining]:
        assembly = self.assembly(self.run(task, model, *overrides))
        return assembly, watch(assembly, self.plain_transformers(model))

    def resumed(
        self, task: str, model: str, *overrides: str, step: int = 2
    ) -> tuple[Spy, Spy, Assembly]:
        """A second start, ended one step after its checkpoint at `step`, and a third that goes on.

        Returns what the second saw, what the third saw, and what the third has become.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        asked = (task, model, *overrides)
        begun = self.assembly(self.run(*asked), resume=folder, checkpoint_every=step)
        lost = spy_on(begun, stop_after=step + 1)
        with contextlib.suppress(EndOfProcess):
            fit(begun)
        found = find(folder, identity("", torch.device("cpu")))
        assert found is not None
        assert found.step == step
        goes_on = self.assembly(self.run(*asked), resume=folder)
        spy = spy_on(goes_on)
        fit(goes_on, found.path)
        return lost, spy, goes_on


@contextlib.contextmanager
def laboratory(corpora: Path, checkpoints: Path) -> Iterator[Lab]:
    """A lab on the small corpora that lie there, on one thread of torch."""
    threads, before = torch.get_num_threads(), os.environ.get("BLUESTAB_DATA")
    torch.set_num_threads(1)
    os.environ["BLUESTAB_DATA"] = str(corpora)
    try:
        yield Lab(checkpoints)
    finally:
        torch.set_num_threads(threads)
        os.environ.pop("BLUESTAB_DATA")
        if before is not None:
            os.environ["BLUESTAB_DATA"] = before

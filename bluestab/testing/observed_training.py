"""An independent eye on one training: what weights, optimizer, dropout and batches really did.

Nothing here asks bluestab's own observers. Weights are compared with a checkpoint that plain
transformers reads, rates come from `optimizer.param_groups`, forward passes from a hook, depths
from the parameter names. `effects_problems` then holds what a technique says against all that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from bluestab.testing.corpora import ON_ANY_DEVICE
from bluestab.training.assemble import Assembly

LAYERS = 2
"""Blocks of the tiny models."""

SHORT = (
    *("optim.steps=3", "optim.lr=1e-3", "optim.batch_size=16", "trainer.eval_every=1"),
    *ON_ANY_DEVICE,  # the same on every machine
)
"""Three real steps over 24 items: the second epoch begins, validation comes in between."""


ENCODERS = (
    *("bert", "electra", "roberta", "model", "deberta", "distilbert", "mpnet", "albert"),
    "longformer",
)
BLOCKS = r"(?:encoder\.layer|layers|transformer\.layer|encoder\.albert_layer_groups)\.(\d+)"
BOTTOM = (
    r"embeddings|embeddings_project|embed_tokens|encoder\.(?:rel_embeddings|LayerNorm|"
    r"relative_attention_bias|embedding_hidden_mapping_in)"
)
"""What the families call their parts; written by hand, not found as a model's yaml may be."""

INSERTED = "insertions."
"""What layers between blocks are called, by the number of the block: they count as its part."""


def depth_of(name: str) -> int:
    """Depth of a parameter or module by its name: 0 embeddings, 1..L blocks, L+1 all above."""
    encoder, _, inner = name.partition(".")
    if name.startswith(INSERTED):
        return int(inner.partition(".")[0])
    if encoder not in ENCODERS:
        return LAYERS + 1
    if block := re.match(rf"{BLOCKS}(\.|$)", inner):
        return int(block[1]) + 1
    return 0 if re.match(rf"({BOTTOM})(\.|$)", inner) else LAYERS + 1


def is_head(name: str) -> bool:
    return name.partition(".")[0] not in ENCODERS and not name.startswith(INSERTED)


def is_layer(path: str) -> bool:
    """Whether a module path is one whole layer, as freezing counts them."""
    return bool(re.fullmatch(rf"\w+\.({BOTTOM}|{BLOCKS}|\d+)", path))


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
    entropy_weight  of KL(answer, uniform) in the loss, likewise
    rows        the curve: scores of every validation
    dropout     dropout modules and their rates
    mixing      linear layers whose training forward does not use their weight as it is
    gradients   name -> per step, the share of exact zeros in its gradient; None: no gradient
    applied     weights and biases of the linear layers that something was put around -> what they,
                together with it, apply in evaluation after the last step

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
    entropy_weight: float | None
    rows: Sequence[Mapping[str, Any]]
    dropout: Mapping[str, float] = field(default_factory=dict)
    mixing: frozenset[str] = frozenset()
    gradients: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    applied: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @cached_property
    def added(self) -> list[str]:
        """Parameters that a plain network has not."""
        layers = tuple({f"{name.rpartition('.')[0]}." for name in self.applied})
        return [
            n
            for n in self.start
            if n.startswith(INSERTED) or (n.startswith(layers) and n not in self.applied)
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
        entropy_weight=entropy_weight(assembly),
        rows=[dict(row) for row in assembly.history.rows],
        dropout={p: m.p for p, m in model.named_modules() if isinstance(m, torch.nn.Dropout)},
        mixing=mixing(model),
        gradients=spy.gradients,
        applied=applied(model),
    )


def at_zero(assembly: Assembly) -> tuple[torch.Tensor, torch.Tensor, Any] | None:
    """Logits of 0 for a batch, its labels, and the loss of the two; None in regression."""
    batch = next(iter(assembly.loaders["validation"]))
    labels = batch["labels"]
    flags = labels.is_floating_point()
    if flags and labels.ndim == 1:
        return None
    shape = labels.shape if flags else (*labels.shape, len(assembly.data.labels))
    logits = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    loss = assembly.built.loss(logits, {**batch, "labels": labels.double() if flags else labels})
    return logits, labels, loss


def gold_share(assembly: Assembly) -> float | None:
    """Read off the gradient of the loss at logits 0, which is probability minus target."""
    if (found := at_zero(assembly)) is None:
        return None
    logits, labels, loss = found
    loss.backward()
    assert logits.grad is not None
    if labels.is_floating_point():
        return float((0.5 - logits.grad * labels.numel())[labels == 1][0])
    counted = labels != -100
    target = 1 / logits.shape[-1] - logits.grad[counted] * counted.sum()
    return float(target.gather(1, labels[counted][:, None])[0])


def entropy_weight(assembly: Assembly) -> float | None:
    """Read off the second derivative of the loss at logits 0, whatever the targets there: that of
    cross-entropy is the covariance of the logits under the answer, and so is that of KL(answer,
    uniform)."""
    if (found := at_zero(assembly)) is None:
        return None
    logits, labels, loss = found
    along = torch.randn(
        logits.shape, dtype=logits.dtype, generator=torch.Generator().manual_seed(0)
    )
    (slope,) = torch.autograd.grad(loss, logits, create_graph=True)
    (bend,) = torch.autograd.grad((slope * along).sum(), logits)
    if labels.is_floating_point():
        plain = along.square().mean() / 4
    else:
        plain = along[labels != -100].var(dim=-1, correction=0).mean()
    return float((bend * along).sum() / plain) - 1


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
    """What a layer with another one inside it applies: name of its weight -> matrix (out, in), what
    it makes of the unit vectors, less what it makes of zero; name of its bias -> the latter."""
    was, found = model.training, {}
    model.eval()
    for path, module in model.named_modules():
        if hasattr(module, "base_layer"):
            units = torch.eye(module.base_layer.in_features)
            bias = module(torch.zeros_like(units[:1]))
            found[f"{path}.weight"] = (module(units) - bias).T
            if module.base_layer.bias is not None:
                found[f"{path}.bias"] = bias[0]
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


# --- where the trainings happen ------------------------------------------------------------------

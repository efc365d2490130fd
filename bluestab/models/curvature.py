"""Curvature of a network's log-likelihood at a point: diagonal and Kronecker-factored Fisher.

The Fisher information of weights w over items x is F = mean over x of E_y[g g'], g the gradient of
log p(y | x), which for words is the sum over the labelled word pieces. It is the Hessian of the
mean Kullback-Leibler divergence from the network as it stands, so 1/2 d' F d says how much a change
d of the weights changes its answers. What stands for F here, one block per module:

Linear     A (x) G over [W b]: A = mean of x x' (x with a 1 appended if there is a bias), G = mean
           of g g', g the gradient at its output (Martens & Grosse 2015, arXiv 1503.05671). F d is
           G D A for D = [dW db]: no inverse, no eigenvectors. For word pieces, which share weights
           (Eschenhagen et al. 2023, arXiv 2311.00636): `expand` sums x x' and g g' over pieces,
           `reduce` takes the mean of x and the sum of g over an item's pieces first.
Embedding  the same with x one-hot, so that A is diagonal: how often each row is looked up. The
           vocabulary is never squared. Always expanded.
the rest   a diagonal (norms, and a weight that two modules share: its gradient is that of both).

Where gradients are asked for, items pass one at a time, so that these are those of items and not of
the mean of a batch. Networks are in evaluation mode; padding takes no part. Factors of several
tasks stay apart: a sum of Kronecker products is none.

Own code, since curvlinops 3.0 factors Linear and Conv2d alone and gets tied weights wrong where it
works with hooks, and nngeometry 0.4 makes embedding factors of the square of the vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from bluestab.core.types import Batch
from bluestab.models.likelihood import Labels, add_square, answer_gradients, evaluating, parts_of
from bluestab.models.passes import inputs_of, text_mask

if TYPE_CHECKING:
    import torch
    from torch import nn

Sharing = Literal["expand", "reduce"]
SHARING: tuple[Sharing, ...] = ("expand", "reduce")
PIECES_AT_ONCE = 1024  # of items that pass together, where no gradient is asked for

Tensors = Mapping[str, "torch.Tensor"]
"""Parameter name -> tensor of its shape."""


# --- blocks --------------------------------------------------------------------------------------


class Block(Protocol):
    """A symmetric, positive semi-definite matrix over the parameters `names`, taken together."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def times(self, delta: Tensors) -> dict[str, torch.Tensor]:
        """The matrix times the part of a change of the weights that it speaks of."""
        ...

    def trace(self) -> float: ...

    def scaled(self, factor: float) -> Self: ...

    def factors(self) -> tuple[torch.Tensor, ...]:
        """What is stored of it."""
        ...


@dataclass(frozen=True)
class Diagonal:
    """Of one parameter: f has its shape."""

    name: str
    f: torch.Tensor

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def times(self, delta: Tensors) -> dict[str, torch.Tensor]:
        return {self.name: self.f * delta[self.name]}

    def trace(self) -> float:
        return float(self.f.double().sum())

    def scaled(self, factor: float) -> Self:
        return replace(self, f=self.f * factor)

    def factors(self) -> tuple[torch.Tensor, ...]:
        return (self.f,)


@dataclass(frozen=True)
class KroneckerBlock:
    """A (x) G of a Linear: weight (O, I), a (I, I) or, with the bias, (I + 1, I + 1), g (O, O)."""

    weight: str
    bias: str | None
    a: torch.Tensor
    g: torch.Tensor

    @property
    def names(self) -> tuple[str, ...]:
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def times(self, delta: Tensors) -> dict[str, torch.Tensor]:
        import torch

        change = delta[self.weight]
        if self.bias is None:
            return {self.weight: self.g @ change @ self.a}
        together = self.g @ torch.cat([change, delta[self.bias][:, None]], dim=1) @ self.a
        return {self.weight: together[:, :-1], self.bias: together[:, -1]}

    def trace(self) -> float:
        return float(self.a.double().trace() * self.g.double().trace())

    def scaled(self, factor: float) -> Self:
        return replace(self, g=self.g * factor)

    def factors(self) -> tuple[torch.Tensor, ...]:
        return (self.a, self.g)


@dataclass(frozen=True)
class LookupBlock:
    """diag(a) (x) G of an Embedding: weight (V, E), a (V,) how often each row is used, g (E, E)."""

    weight: str
    a: torch.Tensor
    g: torch.Tensor

    @property
    def names(self) -> tuple[str, ...]:
        return (self.weight,)

    def times(self, delta: Tensors) -> dict[str, torch.Tensor]:
        return {self.weight: self.a[:, None] * (delta[self.weight] @ self.g)}

    def trace(self) -> float:
        return float(self.a.double().sum() * self.g.double().trace())

    def scaled(self, factor: float) -> Self:
        return replace(self, g=self.g * factor)

    def factors(self) -> tuple[torch.Tensor, ...]:
        return (self.a, self.g)


@dataclass(frozen=True)
class Curvature:
    """Blocks that stand for F; what is between them counts as zero."""

    blocks: tuple[Block, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for block in self.blocks for name in block.names)

    def times(self, delta: Tensors) -> dict[str, torch.Tensor]:
        """F d, by parameter name: the gradient of `half_quadratic`."""
        return {n: value for block in self.blocks for n, value in block.times(delta).items()}

    def half_quadratic(self, delta: Tensors) -> float:
        """1/2 d' F d, the penalty, in float64."""
        products = self.times(delta)
        return 0.5 * sum(float((delta[n].double() * v.double()).sum()) for n, v in products.items())

    def scaled(self, factor: float) -> Curvature:
        return Curvature(tuple(block.scaled(factor) for block in self.blocks))

    def normalised(self, delta: Tensors) -> Curvature:
        """With a mean of 1 on its diagonal, so that a strength has a meaning that does not depend
        on the task: at a mean of 1 an isotropic F is L2. All zero, it stays so.

        delta  anything of the shapes of the parameters
        """
        mean = sum(b.trace() for b in self.blocks) / sum(delta[n].numel() for n in self.names)
        return self.scaled(1.0 / mean) if mean > 0 else self

    def numbers(self) -> int:
        """How many are stored."""
        return sum(factor.numel() for block in self.blocks for factor in block.factors())


@dataclass(frozen=True)
class InputFactor:
    """A of one module alone: a (I, I), with a bias (I + 1, I + 1); of an Embedding its diagonal,
    (V,)."""

    weight: str
    bias: str | None
    a: torch.Tensor


# --- estimating them -----------------------------------------------------------------------------


class _Sums:
    """Sums over items, of one module with its own weight, towards its Kronecker factors.

    `module` is called any number of times per item; `seen` has its inputs and outputs.
    """

    def __init__(self, path: str, module: nn.Module, sharing: Sharing) -> None:
        self.path, self.module, self.sharing = path, module, sharing
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.positions = 0
        self.a: Any = 0.0
        self.g: Any = 0.0

    def hook(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        self.seen.append((inputs[0].detach(), output))

    def rows(self, value: torch.Tensor, mask: torch.Tensor, per_row: bool) -> torch.Tensor:
        """What belongs to real word pieces, (R, ...), of (S, T, ...) or of one vector (S, ...) for
        each text of an item, of which it has S.

        mask     (S, T) of the item's word pieces
        per_row  each row of the value is a number, not a vector
        """
        if value.ndim == (1 if per_row else 2):
            return value
        if len(value) == 1:  # positions are looked up once for all texts
            mask = mask.any(dim=0, keepdim=True)
        if value.shape[:2] != mask.shape:
            raise RuntimeError(
                f"{self.path} sees a tensor of shape {tuple(value.shape)} where {mask.numel()} "
                "word pieces of one item were expected: its curvature cannot be factored; try "
                "another attention kernel (trainer.attention)"
            )
        return value[mask]

    def add_inputs(self, mask: torch.Tensor) -> None:
        """Once per item."""
        import torch

        if isinstance(self.module, torch.nn.Embedding):
            ids = torch.cat([self.rows(x, mask, per_row=True) for x, _ in self.seen])
            n = self.module.num_embeddings
            self.a = self.a + torch.bincount(ids, minlength=n).to(self.module.weight.dtype)
            self.positions += len(ids)
            return
        x = torch.cat([self.rows(x, mask, per_row=False) for x, _ in self.seen]).to(
            self.module.weight.dtype  # type: ignore[arg-type]
        )
        if self.module.bias is not None:
            x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        if self.sharing == "reduce":
            x = x.mean(dim=0, keepdim=True)
        self.a = self.a + x.T @ x
        self.positions += len(x)

    def add_gradients(self, found: Sequence[torch.Tensor | None], mask: torch.Tensor) -> None:
        """Once per answer of an item: the gradients at the outputs."""
        import torch

        rows = [self.rows(g, mask, per_row=False) for g in found if g is not None]
        if not rows:
            return
        g = torch.cat(rows).to(self.module.weight.dtype)  # type: ignore[arg-type]
        if self.sharing == "reduce" and not isinstance(self.module, torch.nn.Embedding):
            g = g.sum(dim=0, keepdim=True)
        self.g = self.g + g.T @ g

    def inputs(self) -> InputFactor | None:
        """None if no input ever came here."""
        if not self.positions:
            return None
        bias = None if getattr(self.module, "bias", None) is None else f"{self.path}.bias"
        return InputFactor(f"{self.path}.weight", bias, self.a / self.positions)

    def block(self, n_items: int) -> Block | None:
        """None if no gradient ever came here."""
        import torch

        if not isinstance(self.g, torch.Tensor) or (seen := self.inputs()) is None:
            return None
        g = self.g / n_items
        if isinstance(self.module, torch.nn.Embedding):
            return LookupBlock(seen.weight, seen.a, g)
        return KroneckerBlock(seen.weight, seen.bias, seen.a, g)


def _factored(network: nn.Module, names: Collection[str], sharing: Sharing) -> list[_Sums]:
    """The modules whose weights, and biases if they have one, are all among `names` and theirs
    alone."""
    from torch import nn

    owners = Counter(
        id(p) for module in network.modules() for p in module.parameters(recurse=False)
    )
    found = []
    for path, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if (
            isinstance(module, nn.Linear | nn.Embedding)
            and all(f"{path}.{leaf}" in names for leaf in own)
            and all(owners[id(p)] == 1 for p in own.values())
        ):
            found.append(_Sums(path, module, sharing))
    return found


def _at_once(batch: Batch) -> int:
    """How many of its items pass together; those of several texts pass alone."""
    mask = batch["attention_mask"]
    return max(1, PIECES_AT_ONCE // mask.shape[1]) if mask.ndim == 2 else 1


def input_factors(
    network: nn.Module, names: Collection[str], batches: Iterable[Batch]
) -> list[InputFactor]:
    """A of every Linear and Embedding with weights of its own, all among `names`, over all items;
    labels play no part.

    Raises RuntimeError where a module's inputs cannot be told by word piece.
    """
    import torch

    modules = _factored(network, names, "expand")
    with evaluating(network, ()), torch.no_grad(), ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.module.register_forward_hook(module.hook).remove)
        for part in (part for batch in batches for part in parts_of(batch, _at_once(batch))):
            network(**inputs_of(part))
            mask, n = text_mask(part).bool(), len(part["labels"])
            for module in modules:
                # positions are looked up once for all items
                module.seen = [(x.expand(max(n, len(x)), *x.shape[1:]), y) for x, y in module.seen]
                if module.seen:
                    module.add_inputs(mask)
                module.seen.clear()
    return [factor for module in modules if (factor := module.inputs()) is not None]


def fisher(
    network: nn.Module,
    names: Collection[str],
    batches: Iterable[Batch],
    *,
    labels: Labels,
    sharing: Sharing | None,
    random: torch.Generator | None = None,
) -> Curvature:
    """The Fisher information of these parameters at the network's weights, over all items.

    sharing  how Kronecker factors treat the word pieces of an item; None: diagonal throughout
    random   draws the answers of `sampled`

    Raises RuntimeError where a module's inputs cannot be told by word piece.
    """
    import torch

    parameters = {n: p for n, p in network.named_parameters() if n in names}
    modules = [] if sharing is None else _factored(network, parameters, sharing)
    factored = {f"{m.path}.{leaf}" for m in modules for leaf in ("weight", "bias")}
    single = {name: p for name, p in parameters.items() if name not in factored}
    squares: dict[str, Any] = {}
    n_items = 0
    with evaluating(network, parameters.values()), ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.module.register_forward_hook(module.hook).remove)
        for item in (item for batch in batches for item in parts_of(batch)):
            n_items += 1
            for module in modules:
                module.seen.clear()
            logits = network(**inputs_of(item)).logits
            if n_items == 1:  # what no hook sees may still be used, by a fused kernel
                for module in [module for module in modules if not module.seen]:
                    modules.remove(module)
                    single |= dict(module.module.named_parameters(prefix=module.path))
            mask = text_mask(item).bool()
            for module in modules:
                if module.seen:
                    module.add_inputs(mask)
            outputs = [output for module in modules for _, output in module.seen]
            wanted = [*outputs, *single.values()]
            for vector in answer_gradients(logits.detach(), item["labels"], labels, random):
                gradients = torch.autograd.grad(
                    logits, wanted, vector, retain_graph=True, allow_unused=True
                )
                at = 0
                for module in modules:
                    n = len(module.seen)
                    module.add_gradients(gradients[at : at + n], mask)
                    at += n
                for (name, p), gradient in zip(single.items(), gradients[at:], strict=True):
                    if gradient is not None:
                        add_square(squares.setdefault(name, torch.zeros_like(p)), gradient)
            for module in modules:
                module.seen.clear()
    blocks = [block for module in modules if (block := module.block(n_items)) is not None]
    diagonals = [Diagonal(name, square / n_items) for name, square in squares.items()]
    return Curvature((*blocks, *diagonals))

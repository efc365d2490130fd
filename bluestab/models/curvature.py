"""Curvature of a network's log-likelihood at a point: a matrix over its weights, block by block.

The Fisher information of weights w over items x is F = mean over x of E_y[g g'], g the gradient of
log p(y | x), which for words is the sum over the labelled word pieces. It is the Hessian of the
mean Kullback-Leibler divergence from the network as it stands, so 1/2 d' F d says how much a change
d of the weights changes its answers. What stands for F here, one block per module:

Linear     A (x) G over [W b]: A = mean of x x' (x with a 1 appended if there is a bias), G = mean
           of g g', g the gradient at its output (Martens & Grosse 2015, arXiv 1503.05671). F d is
           G D A for D = [dW db]: no inverse, no eigenvectors.
Embedding  the same with x one-hot, so that A is diagonal: how often each row is looked up. The
           vocabulary is never squared.
the rest   a diagonal (norms, and a weight that two modules share: its gradient is that of both).

Factors of several tasks stay apart: a sum of Kronecker products is none. `models/fisher.py`
estimates them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]
"""Parameter name -> tensor of its shape."""


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
        import torch

        change, used = delta[self.weight], self.a.nonzero().squeeze(1)  # few rows of a large table
        found = torch.zeros_like(change)
        found[used] = self.a[used, None] * (change[used] @ self.g)
        return {self.weight: found}

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

    def of(self, names: Collection[str]) -> Curvature:
        """Its blocks of these parameters alone.

        Raises ValueError if one block speaks of some of them and of others.
        """
        found = [block for block in self.blocks if not set(block.names).isdisjoint(names)]
        if divided := [block for block in found if not set(block.names) <= set(names)]:
            raise ValueError(f"'{' and '.join(divided[0].names)}' have one block of curvature")
        return Curvature(tuple(found))

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

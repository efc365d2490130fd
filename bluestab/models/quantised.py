"""Tensors in fewer bytes: in equal steps, by a few points, as a mask.

What is promised of each stands in `activations.py`, which says when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch.nn import functional


class CompactTensor(Protocol):
    """A tensor in fewer bytes."""

    def tensors(self) -> list[torch.Tensor]:
        """What is kept of it."""
        ...

    def restored(self) -> torch.Tensor:
        """Of the shape and type of the tensor."""
        ...


# --- numbers in few bits -------------------------------------------------------------------------


def to_nibbles(codes: torch.Tensor) -> torch.Tensor:
    """uint8 codes below 16, (n,) -> two per byte, (ceil(n / 2),)."""
    if codes.numel() % 2:
        codes = torch.cat([codes, codes.new_zeros(1)])
    return codes[0::2] | (codes[1::2] << 4)


def from_nibbles(packed: torch.Tensor, n: int) -> torch.Tensor:
    """The inverse of `to_nibbles`, for n codes."""
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten()[:n]


def to_bits(flags: torch.Tensor) -> torch.Tensor:
    """bool (n,) -> eight per byte, (ceil(n / 8),)."""
    padded = functional.pad(flags.to(torch.uint8), (0, -flags.numel() % 8)).view(-1, 8)
    found = padded[:, 0].clone()
    for bit in range(1, 8):
        found |= padded[:, bit] << bit
    return found


def from_bits(packed: torch.Tensor, n: int) -> torch.Tensor:
    """The inverse of `to_bits`, for n flags."""
    return torch.stack([(packed >> bit) & 1 for bit in range(8)], dim=-1).flatten()[:n].bool()


@dataclass(frozen=True)
class Codes:
    """Codes below 2^bits (4 or 8), of a tensor of this shape and type."""

    codes: torch.Tensor
    bits: int
    shape: torch.Size
    dtype: torch.dtype

    @classmethod
    def of(cls, codes: torch.Tensor, bits: int, dtype: torch.dtype) -> Codes:
        flat = codes.flatten()
        return cls(to_nibbles(flat) if bits == 4 else flat, bits, codes.shape, dtype)

    def unpacked(self) -> torch.Tensor:
        """uint8, in the shape of the tensor."""
        codes = self.codes
        if self.bits == 4:
            codes = from_nibbles(codes, self.shape.numel())
        return codes.view(self.shape)


@dataclass(frozen=True)
class Quantised:
    """A tensor in equal steps from its smallest to its largest number, which are exact."""

    codes: Codes
    low: torch.Tensor
    step: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor, bits: int) -> Quantised:
        low, high = (end.float() for end in torch.aminmax(x.detach()))
        step = (high - low) / (2**bits - 1)
        scale = torch.where(step > 0, 1 / step, torch.zeros_like(step))
        codes = torch.sub(x.detach().float(), low).mul_(scale).round_().to(torch.uint8)
        return cls(Codes.of(codes, bits, x.dtype), low, step)

    def tensors(self) -> list[torch.Tensor]:
        return [self.codes.codes, self.low, self.step]

    def restored(self) -> torch.Tensor:
        codes = self.codes.unpacked().to(torch.float32)
        return codes.mul_(self.step).add_(self.low).to(self.codes.dtype)


@dataclass(frozen=True)
class Coded:
    """A tensor by the nearest of a few points, the same for every tensor."""

    codes: Codes
    points: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        return [self.codes.codes]

    def restored(self) -> torch.Tensor:
        return self.points.to(self.codes.dtype)[self.codes.unpacked().int()]


@dataclass(frozen=True)
class Mask:
    """A tensor of zeros and one other number, as dropout multiplies by; bool: of True and False."""

    bits: torch.Tensor
    value: torch.Tensor
    shape: torch.Size
    dtype: torch.dtype

    @classmethod
    def of(cls, x: torch.Tensor) -> Mask:
        return cls(to_bits((x != 0).flatten()), x.max(), x.shape, x.dtype)

    def tensors(self) -> list[torch.Tensor]:
        return [self.bits, self.value]

    def restored(self) -> torch.Tensor:
        flags = from_bits(self.bits, self.shape.numel()).view(self.shape)
        return flags if self.dtype == torch.bool else flags.to(self.dtype) * self.value


# --- activation functions ------------------------------------------------------------------------

WIDEST = 12.0
"""|x| beyond which the derivative of an activation function is that of its limit, to 1e-4."""


@lru_cache(maxsize=16)
def codebook(function: Callable[..., torch.Tensor], bits: int, more: str) -> Any:
    """(cells, points): inputs up to which each but the last code stands, and the input that stands
    for it, float32.

    The derivative varies as much within each cell, so that it is met to half of that.
    more  `approximate=tanh` or "": a knob of GELU
    """
    grid = torch.linspace(-WIDEST, WIDEST, 240_001, dtype=torch.float64)
    knobs = {"approximate": "tanh"} if more else {}
    slope = function(grid, **knobs).diff() / grid.diff()
    x = (grid[1:] + grid[:-1]) / 2
    travelled = torch.cat([slope.new_zeros(1), slope.diff().abs().cumsum(0)])
    n = 2**bits
    cell = (travelled / travelled[-1] * n).long().clamp_(max=n - 1)
    points, ends = [], []
    for code in range(n):
        inside = (cell == code).nonzero().flatten()
        here = slope[inside]
        middle = (here.min() + here.max()) / 2
        points.append(x[inside[(here - middle).abs().argmin()]])
        ends.append(x[inside[-1]])
    return torch.stack(ends[:-1]).float(), torch.stack(points).float()


def coded(
    x: torch.Tensor, function: Callable[..., torch.Tensor], bits: int, more: str = ""
) -> Coded:
    """The input of an activation function, for its backward pass."""
    ends, points = (part.to(x.device) for part in codebook(function, bits, more))
    codes = torch.bucketize(x.detach().float().contiguous(), ends, out_int32=True).to(torch.uint8)
    return Coded(Codes.of(codes, bits, x.dtype), points)

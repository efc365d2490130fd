"""What a forward pass saves for its backward pass: compressed, and seen by who counts it.

Autograd hands every tensor that it saves to a hook and takes from another what the backward pass
needs; which operation is under way is seen by a `TorchFunctionMode`. So all encoders and heads of
transformers compress without an edit. What a person may rely on, part by part (g: gradient of the
output, x: what was saved, x': what is restored, s: step of the quantiser):

activation   input of GELU and SiLU, by one of 2^bits points, at which the derivative f' is right to
             half a cell: |f'(x') - f'(x)| <= v / 2^(bits + 1), v the total variation of f' (1.52
             for GELU, 1.40 for SiLU): with 4 bits the gradient of x is off by at most 0.05 |g|
attention    operands of its products and what softmax gives, in 2^bits - 1 equal steps between
             the smallest and the largest of a tensor: |x' - x| <= s / 2, s = (max - min) /
             (2^bits - 1); a product's gradient g x^T is off by at most s / 2 times the sum of |g|
wide         the input of a linear layer that narrows (feed-forward, second half) while its weight
             trains, likewise: the gradient of a weight is off by at most s / 2 times the sum of |g|
             over all word pieces
norm         of a LayerNorm whose weight does not train, the share of each row's normalised values
             z that are largest by magnitude: the gradient of the input, rows of n, is off in
             Euclidean norm by at most 2 r |w g| |z - z'| / sqrt(n), r = 1 / sqrt(var + eps)
dropout      masks as bits: exact
linear       of a layer whose weight does not train, nothing: PyTorch's own doing, and exact

Forward passes are the plain ones, bit for bit. All else is kept as it is: activation functions of
several operations (`gelu_new`), RMS norms, elementwise products (gated feed-forward layers).

Source: Ardakani et al. 2024 (SlimFit, NAACL, arXiv 2305.18513), whose code has a fixed-point grid
without a scale (range -8 to 8; GELU -4 to 3.5 in 16 equal steps, whose derivative is off by up to
0.2); dropping all but the largest of a saved tensor is DropIT's (Chen et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bluestab.models.quantised import CompactTensor, Mask, Quantised, coded

SMALLEST = 1024
"""Tensors of fewer numbers are kept as they are."""


@dataclass(frozen=True)
class Compression:
    """Bits per number, and the share of a norm's values, that are kept; None: all as it is."""

    activation_bits: int | None
    attention_bits: int | None
    wide_bits: int | None
    norm_share: float | None

    @classmethod
    def of(cls, trainer: Mapping[str, Any]) -> Compression | None:
        """What the knobs of the trainer ask for; None: full activations."""
        if trainer["activations"] == "full":
            return None
        return cls(**{name: trainer[name] for name in cls.__dataclass_fields__})


# --- norms ---------------------------------------------------------------------------------------


class PrunedLayerNorm(torch.autograd.Function):
    """LayerNorm over the last dimension whose weight does not train; see `norm` above.

    The forward pass is the plain one, bit for bit. Kept are the largest of the normalised values
    of each row with their places (2 bytes), and 1 / sqrt(var + eps) of each row.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        eps: float,
        share: float,
    ) -> torch.Tensor:
        n = x.shape[-1]
        wide = x.float()
        variance, mean = torch.var_mean(wide, dim=-1, correction=0, keepdim=True)
        scale = torch.rsqrt(variance + eps)  # (..., 1)
        normalised = (wide - mean) * scale
        places = normalised.abs().topk(max(1, round(share * n)), dim=-1, sorted=False).indices
        kept = normalised.gather(-1, places).to(x.dtype)
        ctx.save_for_backward(kept, places.to(torch.int16), scale, weight)
        ctx.x_dtype = x.dtype
        return functional.layer_norm(x, (n,), weight, bias, eps)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        kept, places, scale, weight = ctx.saved_tensors
        (g,) = outer
        grad_x = grad_bias = None
        if ctx.needs_input_grad[0]:
            weighted = g.float() * weight.float()
            places = places.long()
            along = (weighted.gather(-1, places) * kept).sum(dim=-1, keepdim=True)
            grad_x = weighted - weighted.mean(dim=-1, keepdim=True)
            pruned = kept.float() * (along / weighted.shape[-1])
            grad_x = grad_x.scatter_add_(-1, places, -pruned).mul_(scale).to(ctx.x_dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = g.flatten(0, -2).sum(dim=0).to(weight.dtype)
        return grad_x, None, grad_bias, None, None


# --- which tensor is what ------------------------------------------------------------------------

PRODUCTS = frozenset(
    (
        *(torch.matmul, torch.bmm, torch.baddbmm, torch.einsum, torch.Tensor.matmul),
        *(torch.Tensor.__matmul__, torch.Tensor.bmm, functional.scaled_dot_product_attention),
    )
)
SOFTMAX = frozenset((functional.softmax, torch.softmax, torch.Tensor.softmax))
FUNCTIONS: Mapping[Any, Callable[..., torch.Tensor]] = {
    functional.gelu: functional.gelu,
    functional.silu: functional.silu,
}


class Compressing(TorchFunctionMode):
    """Knows which operation saves a tensor, and how that tensor is kept."""

    def __init__(self, compression: Compression) -> None:
        super().__init__()
        self.how = compression
        self._now: tuple[Any, tuple[Any, ...], Mapping[str, Any]] = (None, (), {})

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        kwargs = kwargs or {}
        before = self._now
        try:
            if func is functional.layer_norm and (pruned := self._pruned(*args, **kwargs)):
                self._now = (None, (), {})
                return PrunedLayerNorm.apply(*pruned)  # type: ignore[no-any-return, no-untyped-call]
            self._now = (func, args, kwargs)
            return func(*args, **kwargs)  # type: ignore[no-any-return]
        finally:
            self._now = before

    def _pruned(
        self,
        input: torch.Tensor,  # torch's names: it may be called with them
        normalized_shape: Any,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        eps: float = 1e-5,
    ) -> tuple[Any, ...] | None:
        """What `PrunedLayerNorm` is called with; None: this norm is left as it is."""
        shape = tuple(normalized_shape)
        wanted = (
            self.how.norm_share is not None
            and torch.is_grad_enabled()
            and input.requires_grad
            and weight is not None
            and not weight.requires_grad
            and len(shape) == 1
            and shape[0] <= torch.iinfo(torch.int16).max
            and input.numel() >= SMALLEST
        )
        return (input, weight, bias, eps, self.how.norm_share) if wanted else None

    def packed(self, x: torch.Tensor) -> CompactTensor | None:
        """A tensor that is being saved, in fewer bytes; None: as it is."""
        func, args, kwargs = self._now
        if x.numel() < SMALLEST or (x.dtype != torch.bool and not x.is_floating_point()):
            return None
        if func is functional.dropout:
            return Mask.of(x)
        how, bits = self.how, None
        if func in FUNCTIONS:
            if how.activation_bits is None:
                return None
            more = str(kwargs.get("approximate", "")).replace("none", "")
            return coded(x, FUNCTIONS[func], how.activation_bits, more)
        if (func in SOFTMAX and x.dim() == 4) or (
            func in PRODUCTS and x.dim() >= 3 and not _is_sum_of_attention(func, args, x)
        ):
            bits = how.attention_bits
        elif func is functional.linear and _is_wide_input(args, x):
            bits = how.wide_bits
        return None if bits is None or x.dtype == torch.bool else Quantised.of(x, bits)


def _is_sum_of_attention(func: Any, args: tuple[Any, ...], x: torch.Tensor) -> bool:
    """The logarithms of the sums that a fused attention divides by, (B, heads, T): never packed."""
    fused = func is functional.scaled_dot_product_attention
    return fused and x.shape == args[0].shape[:-1]


def _is_wide_input(args: tuple[Any, ...], x: torch.Tensor) -> bool:
    """Whether x is the input (..., in) of a layer that narrows, up to eight times, and trains. (A
    head narrows more.)"""
    entered, weight = args[0], args[1]
    out, wide = weight.shape
    return bool(
        weight.requires_grad
        and out < wide <= 8 * out
        and x.shape[-1] == wide
        and x.numel() == entered.numel() != weight.numel()
    )


# --- hooks ---------------------------------------------------------------------------------------


class Observer(Protocol):
    """Who is told of what autograd holds."""

    unpacked: int
    """Bytes of the largest tensor that was restored."""

    def hold(self, x: torch.Tensor) -> int | None:
        """A tensor is held from now on; gives the place of its storage, None: it counts nothing."""
        ...

    def release(self, place: int) -> None:
        """One that was held is no longer."""
        ...


class Held:
    """What autograd holds in place of a tensor; its end is that of the tensor."""

    __slots__ = ("observer", "places", "what")

    def __init__(self, what: torch.Tensor | CompactTensor, observer: Observer | None) -> None:
        self.what, self.observer = what, observer
        self.places: list[int] = []
        if observer is not None:
            tensors = [what] if isinstance(what, torch.Tensor) else what.tensors()
            self.places = [p for p in map(observer.hold, tensors) if p is not None]

    def tensor(self) -> torch.Tensor:
        if isinstance(self.what, torch.Tensor):
            return self.what
        found = self.what.restored()
        if self.observer is not None:
            self.observer.unpacked = max(self.observer.unpacked, found.untyped_storage().nbytes())
        return found

    def __del__(self) -> None:
        for place in self.places:
            self.observer.release(place)  # type: ignore[union-attr]


@contextmanager
def saving(compression: Compression | None, observer: Observer | None = None) -> Iterator[None]:
    """What forward passes inside save is compressed, and an observer told of it; None: neither."""
    if compression is None and observer is None:
        yield
        return
    mode = None if compression is None else Compressing(compression)

    def pack(x: torch.Tensor) -> Held:
        packed = None if mode is None else mode.packed(x)
        # detached: an output that autograd holds would else hold its own graph
        return Held(x.detach() if packed is None else packed, observer)

    with torch.autograd.graph.saved_tensors_hooks(pack, Held.tensor), mode or nullcontext():
        yield

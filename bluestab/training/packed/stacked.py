"""A network with S sets of weights: the items of S batches pass through it one behind another.

What is stacked are the leaves. A transformers network stays what it is, and so do all heads; its
linear layers, tables and norms are exchanged for such as hold `(S, ...)` and give the items of each
sibling its own weight (one batched product). Attention, which has no weights, sees S times the
items. Parameters that do not train are the same for all and stay as they are, unstacked.

The sum of the S losses has in every slice of the stack the gradient of one of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bluestab.training.loop.module import run_in_float32
from bluestab.training.packed.drops import CountedDropout, Drops

ATTENTION = "bluestab_packed"
"""What the attention of a stacked network is called where transformers keeps its kernels."""


class Stacked(nn.Module):
    """A layer with a weight per sibling. `items`, of one sibling, is set before every pass."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self.items = 1


class StackedLinear(Stacked):
    """`nn.Linear` with weight (S, out, in) and bias (S, out).

    used  what becomes of the weight in a pass of training (mixout)
    """

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.weight: nn.Parameter
        self.bias: nn.Parameter | None
        self.used: Callable[[torch.Tensor], torch.Tensor] | None = None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        weight: torch.Tensor = self.weight
        if self.used is not None and self.training:
            weight = self.used(weight)
        rows = values.reshape(self.n, -1, values.shape[-1])
        if self.bias is None:
            found = torch.bmm(rows, _each(weight, self.n).transpose(1, 2))
        else:
            bias = _each(self.bias, self.n, 1).unsqueeze(1)
            found = torch.baddbmm(bias, rows, _each(weight, self.n).transpose(1, 2))
        return found.reshape(*values.shape[:-1], found.shape[-1])


def _each(value: torch.Tensor, n: int, dimensions: int = 2) -> torch.Tensor:
    """A weight per sibling, of one that they share if it is not stacked."""
    return value if value.dim() > dimensions else value.expand(n, *value.shape)


class StackedEmbedding(Stacked):
    """`nn.Embedding` with weight (S, rows, size); the row of padding has no gradient."""

    def __init__(self, n: int, padding: int | None) -> None:
        super().__init__(n)
        self.weight: nn.Parameter
        self.padding = padding

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        if len(places) != self.n * self.items:  # the same for every item
            places = places.expand(self.n * self.items, *places.shape[1:])
        n_rows, size = self.weight.shape[1:]
        first = torch.arange(self.n, device=places.device) * n_rows
        first = first.repeat_interleave(self.items).view(-1, *[1] * (places.dim() - 1))
        found = functional.embedding(places + first, self.weight.reshape(-1, size))
        if self.padding is None:
            return found
        return torch.where((places == self.padding).unsqueeze(-1), found.detach(), found)


class StackedNorm(Stacked):
    """`nn.LayerNorm` over the last dimension with weight and bias (S, size)."""

    def __init__(self, n: int, eps: float) -> None:
        super().__init__(n)
        self.weight: nn.Parameter
        self.bias: nn.Parameter | None
        self.eps = eps

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normed = functional.layer_norm(values, values.shape[-1:], eps=self.eps)
        shape = (self.n, -1, values.shape[-1])
        found = normed.reshape(shape) * _each(self.weight, self.n, 1).unsqueeze(1)
        if self.bias is not None:
            found = found + _each(self.bias, self.n, 1).unsqueeze(1)
        return found.reshape(values.shape)


def stacked_like(layer: nn.Module, n: int) -> Stacked | None:
    """The stacked kind of a leaf, still without its weights; None if there is none."""
    if type(layer) is nn.Linear:
        return StackedLinear(n)
    if type(layer) is nn.Embedding and layer.max_norm is None and not layer.scale_grad_by_freq:
        return StackedEmbedding(n, layer.padding_idx)
    if type(layer) is nn.LayerNorm and len(layer.normalized_shape) == 1:
        return StackedNorm(n, layer.eps)
    return None


class Stack:
    """The network of a group and what each sibling has in it.

    network   as transformers made it, with stacked leaves; trains and evaluates all at once
    weights   name of every parameter that trains -> (S, ...)
    linears   path -> linear layer with a weight per sibling
    drops     what is dropped in the pass that is under way
    passes    forward passes of training so far
    """

    def __init__(
        self,
        pattern: nn.Module,
        trains: frozenset[str],
        head: Sequence[str],
        seeds: Sequence[int],
        device: torch.device,
        kernel: str,
    ) -> None:
        """
        pattern  a network of one sibling, on the CPU, as its techniques left it
        trains   names of the parameters that train
        head     paths that compute in float32 whatever the precision of the rest
        seeds    dropout seed of every sibling
        kernel   attention where nothing is dropped: eager or sdpa
        """
        self.n, self.device = len(seeds), device
        self.drops = Drops(seeds, device)
        self.passes = 0
        self.network = copy.deepcopy(pattern)
        self.weights: dict[str, nn.Parameter] = {}
        self.linears: dict[str, StackedLinear] = {}
        self._stacked: list[Stacked] = []
        for path, layer in list(self.network.named_modules()):
            self._exchange(path, layer, trains)
        lost = trains - self.weights.keys()
        if lost:
            raise TypeError(f"no stacked kind of the layer that holds '{min(lost)}'")
        self.network.to(device)
        for path in head:
            run_in_float32(self.network.get_submodule(path))
        config: Any = self.network.config
        _register()
        config._attn_implementation = ATTENTION
        for path, layer in self.network.named_modules():
            if hasattr(layer, "config"):
                layer.packed_attention = partial(_attention, f"{path}.probabilities", self, kernel)
        self.network.register_forward_pre_hook(self._begin, with_kwargs=True)

    def _exchange(self, path: str, layer: nn.Module, trains: frozenset[str]) -> None:
        if type(layer) is nn.Dropout:
            self._put(path, CountedDropout(layer.p, path, self.drops), layer)
            return
        own = dict(layer.named_parameters(recurse=False))
        if not any(f"{path}.{leaf}" in trains for leaf in own):
            return
        exchanged = stacked_like(layer, self.n)
        if exchanged is None:
            return
        for leaf in ("weight", "bias"):
            value = own.get(leaf)
            name = f"{path}.{leaf}"
            if value is not None and name in trains:
                # on the device at once: S times a large model would not fit elsewhere
                value = nn.Parameter(value.new_empty((self.n, *value.shape), device=self.device))
                self.weights[name] = value
            exchanged.register_parameter(leaf, value)
        self._put(path, exchanged, layer)
        self._stacked.append(exchanged)
        if isinstance(exchanged, StackedLinear) and f"{path}.weight" in trains:
            self.linears[path] = exchanged

    def _put(self, path: str, new: nn.Module, old: nn.Module) -> None:
        new.training = old.training
        parent, _, name = path.rpartition(".")
        setattr(self.network.get_submodule(parent), name, new)

    def _begin(self, network: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        items = len(kwargs["input_ids"]) // self.n
        for layer in self._stacked:
            layer.items = items
        self.passes += int(network.training)

    def take_in(self, place: int, network: nn.Module) -> None:
        """Copy the weights of a sibling into its place; from here on its network is a view."""
        shared = dict(self.network.named_parameters())
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name in self.weights:
                    self.weights[name][place].copy_(parameter)
                    parameter.data = self.weights[name].data[place]
                else:
                    parameter.data = shared[name].data
        for name, buffer in list(network.named_buffers()):
            owner, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(owner), leaf, buffer.to(self.device))

    def unflatten(self, values: torch.Tensor) -> torch.Tensor:
        """(S * B, ...) -> (S, B, ...)."""
        return values.reshape(self.n, -1, *values.shape[1:])

    @contextmanager
    def other_dropout(self, *names: str | int) -> Iterator[None]:
        """Passes inside drop other units than the first pass of the step does."""
        with self.drops.passing(*names):
            yield

    def pass_number(self) -> int:
        """Which pass of the step is under way: 0 is the first, and all that drop the same."""
        return self.drops.number()

    def save_memory(self) -> None:
        """Compute the blocks again on the way back; they drop what they dropped on the way up."""

        def contexts() -> tuple[Any, Any]:
            return nullcontext(), self.drops.passing(*self.drops.names)

        kwargs = {"use_reentrant": False, "context_fn": contexts}
        self.network.gradient_checkpointing_enable(kwargs)  # type: ignore[operator]


def _register() -> None:
    from transformers.masking_utils import AttentionMaskInterface, eager_mask
    from transformers.modeling_utils import AttentionInterface

    def attention(module: Any, *args: Any, **kwargs: Any) -> Any:
        return module.packed_attention(module, *args, **kwargs)

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)


def _attention(
    site: str,
    stack: Stack,
    kernel: str,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers' eager kernel computes it, but for what is dropped.

    Where nothing is, by the kernel that was asked for: no other can be told which units to drop.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    p = dropout if module.training else 0.0
    if kernel == "sdpa" and p == 0.0:
        # as true and false, which needs no number of the kernel's own precision
        seen = None if attention_mask is None else attention_mask == 0
        found = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, scale=scaling
        )
        return found.transpose(1, 2).contiguous(), None
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = functional.softmax(weights, dim=-1)
    if p > 0.0:
        weights = stack.drops.drop(site, weights, p)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None

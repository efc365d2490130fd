"""Which parameters of a network techniques speak of: blocks, kinds, what is still pretrained."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from bluestab.core.rules import Rule, whole
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built

if TYPE_CHECKING:
    import torch
    from torch import nn


def blocks(low: int, model: ModelFacts, null: bool = False, high: int | None = None) -> Rule:
    """A whole number from `low` to `high` (all blocks of the model); says how many it has."""
    holds, expected = whole(low, null, model.layers if high is None else high)
    return holds, f"{expected} ({model.name} has {model.layers} blocks)"


def pretrained(built: Built) -> list[str]:
    """Parameters that still have a pretrained value: no head, nothing re-initialised."""
    random = built.fresh | built.layers.head
    return [name for name in built.layers.depth if name not in random]


def is_bias(model: nn.Module, name: str) -> bool:
    return name.endswith("bias")


def is_layernorm(model: nn.Module, name: str) -> bool:
    """Whether the module that holds this parameter is a norm of any family."""
    return "norm" in type(model.get_submodule(name.rpartition(".")[0])).__name__.lower()


def is_attention(name: str) -> bool:
    """Whether a path, of a module or of a parameter, leads through an attention."""
    return bool({"attention", "attn", "self_attn"}.intersection(name.split(".")))


def block_matrices(built: Built) -> list[str]:
    """Weights of the linear layers of the blocks that still have a pretrained value."""
    from torch import nn

    inside = set(built.layers.names(*range(1, built.layers.n_layers + 1)))
    return [
        name
        for name in pretrained(built)
        if name in inside
        and name.endswith(".weight")
        and isinstance(built.model.get_submodule(name.removesuffix(".weight")), nn.Linear)
    ]


def held(optimizer: torch.optim.Optimizer, names: Collection[str]) -> dict[str, nn.Parameter]:
    """Those of these parameters that the optimizer moves, by name, in its order."""
    return {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        if name in names
    }


def pin_eval(module: nn.Module) -> None:
    """Put a module in evaluation mode for good: later calls of `.train()` leave it there."""
    module.eval()
    module.train = lambda mode=True: module  # type: ignore[method-assign]

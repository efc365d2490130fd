"""Layers inserted into a bare network, by a formula of its own: the witness of `inner_adaptors`."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch

from bluestab.testing.observed_training import BLOCKS, depth_of

NAME = re.compile(r"insertions\.(\d+)\.(?:layer\.)?(.+)")


def put_in(network: torch.nn.Module, weights: Mapping[str, torch.Tensor], scale: float) -> None:
    """After each block l with weights `insertions.l.*`: h <- h + scale gate (f(h) - h).

    network  of plain transformers, its own weights in place
    """
    found: dict[int, dict[str, torch.Tensor]] = {}
    for name, weight in weights.items():
        if match := NAME.fullmatch(name):
            found.setdefault(int(match[1]), {})[match[2]] = weight
    for number, own in found.items():
        block = _block(network, number)
        block.register_forward_hook(
            _after(_layer(block, own), scale * own["gate"]), with_kwargs=True
        )


def _block(network: torch.nn.Module, number: int) -> torch.nn.Module:
    paths = (
        path
        for path, _ in network.named_modules()
        if re.fullmatch(rf"\w+\.{BLOCKS}", path) and depth_of(path) == number
    )
    return network.get_submodule(next(paths))


def _layer(block: torch.nn.Module, own: Mapping[str, torch.Tensor]) -> Any:
    """f, in evaluation mode."""
    if "down.weight" in own:
        return lambda h, *_, **__: h + _linear(own, "up", _gelu(_linear(own, "down", h)))
    layer = copy.deepcopy(block).eval()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            path = name.removesuffix("weight")
            parameter.copy_(own[name])
            if f"{path}lora_a" in own:
                parameter.add_(own[f"{path}lora_b"] @ own[f"{path}lora_a"])
    return layer


def _linear(own: Mapping[str, torch.Tensor], name: str, h: torch.Tensor) -> torch.Tensor:
    return h @ own[f"{name}.weight"].T + own[f"{name}.bias"]


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def _after(layer: Any, gate: torch.Tensor) -> Any:
    def after(block: Any, args: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
        h = output if isinstance(output, torch.Tensor) else output[0]
        found = layer(h, *args[1:], **kwargs)
        found = found if isinstance(found, torch.Tensor) else found[0]
        mixed = h + gate * (found - h)
        return mixed if isinstance(output, torch.Tensor) else (mixed, *output[1:])

    return after

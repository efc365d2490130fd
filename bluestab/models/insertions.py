"""Layers inserted after chosen blocks of a network whose own weights stay: two routes, one network.

A hook on block l hands its output h to the inserted layer f_l and passes on h + g_l (f_l(h) - h).
The gate g_l begins at 0: the network gives the bits it gave before. On the *text* route the hooks
do nothing: the blocks alone compute, whatever was trained beside them. Which route is taken is
said per call, or per item of a batch (`route`). After Wang et al. 2025 (AAAI, arXiv 2408.12902),
whose layers have no gate.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bluestab.core.errors import ConfigError
from bluestab.core.plain_files import read_json
from bluestab.core.rules import problems
from bluestab.models.insertion_places import INSIDE, MARK, is_inserted, place_rules


class Bottleneck(nn.Module):
    """h (B, T, H) -> h + W2 gelu(W1 h), W1 (size, H), W2 (H, size): Houlsby et al. 2019 (ICML)."""

    def __init__(self, hidden: int, size: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, size)
        self.up = nn.Linear(size, hidden)

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        inside = nn.functional.gelu(self.down(hidden_states))
        return hidden_states + self.up(inside)  # type: ignore[no-any-return]


class LowRank(nn.Module):
    """A linear layer with an update of low rank: W x + b + B A x, A (size, in), B (out, size)."""

    def __init__(self, linear: nn.Linear, size: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_a = nn.Parameter(torch.empty(size, linear.in_features))
        self.lora_b = nn.Parameter(torch.zeros(linear.out_features, size))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        linear = nn.functional.linear
        update = linear(linear(features, self.lora_a), self.lora_b)
        return linear(features, self.weight, self.bias) + update


class Insertion(nn.Module):
    """One inserted layer with its gate, and the hook that applies it.

    adapted  whether it acts: True, False, or per item of the batch (B,)
    """

    def __init__(self, layer: nn.Module, gate_scale: float) -> None:
        super().__init__()
        self.layer = layer
        self.gate = nn.Parameter(torch.zeros(()))  # no dimension: it takes the dtype of h
        self.gate_scale = gate_scale
        self.adapted: bool | torch.Tensor = True

    def after(self, block: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
        """What goes on in place of the block's output, whose first (or only) part is h (B, T, H);
        the inserted layer sees the masks and positions that the block was called with."""
        if self.adapted is False:
            return None
        h = output if isinstance(output, torch.Tensor) else output[0]
        others = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        found = self.layer(h, *args[1:], **others)
        found = found if isinstance(found, torch.Tensor) else found[0]
        moved = h + (self.gate_scale * self.gate) * (found - h)
        if isinstance(self.adapted, torch.Tensor):
            moved = torch.where(self.adapted.view(-1, 1, 1).to(h.device), moved, h)
        return moved if isinstance(output, torch.Tensor) else (moved, *output[1:])


def insert(
    network: nn.Module, blocks: Mapping[int, str], *, kind: str, size: int, gate_scale: float
) -> list[str]:
    """Insert a layer after each of these blocks; the names of what is new and has no value yet.

    blocks      number of a block, from 1 -> its path
    kind        layer: a copy of the block; lora: a copy of which only updates of rank `size` are to
                train; bottleneck: `size` units wide
    gate_scale  what the learnt number of a gate is multiplied by
    """
    config: Any = network.config
    own = nn.ModuleDict()
    for number, path in blocks.items():
        block = network.get_submodule(path)
        layer: nn.Module = Bottleneck(config.hidden_size, size)
        if kind != "bottleneck":
            layer = _bare_copy(block)
        if kind == "lora":
            _add_updates(layer, size)
        insertion = own[str(number)] = Insertion(layer, gate_scale)
        # before the hooks of others, which then see what goes on
        block.register_forward_hook(insertion.after, with_kwargs=True, prepend=True)
    network.add_module(INSIDE, own)
    said = {"after": list(blocks), "kind": kind, "size": size, "gate_scale": gate_scale}
    setattr(config, MARK, said)
    drawn = {"layer": (), "lora": (".lora_",), "bottleneck": (".layer.",)}[kind]
    names = (f"{INSIDE}.{name}" for name, _ in own.named_parameters())
    return [name for name in names if any(part in name for part in drawn)]


def _bare_copy(block: nn.Module) -> nn.Module:
    """The same weights without what others have hung on the block (hooks, a fixed mode)."""
    layer = copy.deepcopy(block)
    for module in layer.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        module.__dict__.pop("train", None)
    return layer.train()


def _add_updates(layer: nn.Module, size: int) -> None:
    for path, module in list(layer.named_modules()):
        if type(module) is nn.Linear:
            layer.set_submodule(path, LowRank(module, size))


def fill(parameter: torch.Tensor, name: str, random: torch.Generator) -> None:
    """The start of an update of low rank, as in `techniques/lora.py`: B = 0, A uniform."""
    with torch.no_grad():
        if name.endswith("lora_b"):
            parameter.zero_()
        else:
            bound = math.sqrt(1.0 / parameter.shape[1])
            parameter.uniform_(-bound, bound, generator=random)


def insertions_of(network: nn.Module) -> list[Insertion]:
    """Those of a network; none if nothing was inserted."""
    return [module for module in network.modules() if isinstance(module, Insertion)]


@contextmanager
def route(network: nn.Module, adapted: bool | torch.Tensor) -> Iterator[None]:
    """Calls of the network inside take the adapted route (True) or the text route (False).

    adapted  or one flag per item of the batch (B,): neither kind of item sees the other's route
    """
    own = insertions_of(network)
    before = [insertion.adapted for insertion in own]
    try:
        for insertion in own:
            insertion.adapted = adapted
        yield
    finally:
        for insertion, was in zip(own, before, strict=True):
            insertion.adapted = was


def insert_as_saved(network: nn.Module, blocks: str, folder: Path) -> set[str]:
    """Insert the layers that saved weights hold; the names of their parameters, which are to be
    read; none if nothing was inserted.

    blocks  path of the list of blocks inside the encoder
    folder  of the weights

    Raises ConfigError for a config that says nothing usable of them.
    """
    where = folder / "config.json"
    said = read_json(where).get(MARK)
    if said is None:
        return set()
    config: Any = network.config
    own = place_rules(config.num_hidden_layers, config.hidden_size)
    if not isinstance(said, Mapping) or said.keys() != own.keys():
        raise ConfigError(f"{where} has {MARK} {said!r}: expected a map of {', '.join(own)}")
    if wrong := problems({f"{MARK}.{n}": (said[n], own[n]) for n in own}):
        raise ConfigError(*(f"{where}: {problem}" for problem in wrong))
    rest = {name: said[name] for name in ("kind", "size", "gate_scale")}
    inside = f"{network.base_model_prefix}.{blocks}"
    insert(network, {n: f"{inside}.{n - 1}" for n in said["after"]}, **rest)
    return {name for name, _ in network.named_parameters() if is_inserted(name)}

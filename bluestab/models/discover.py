"""A checkpoint without a yaml: what `auto` stands for in the description of a model.

The network is made as its config says, without its weights, and one short text passes through it.
Blocks are the one list of modules that hand a state (1, T, H) from each to the next; what is called
before them, or is a table that is never called, is depth 0; what is called after them is the final
norm (it gives a state again) or the pooler (it gives one vector). Whatever does not fit is refused,
with its name: filed under a guess it would silently be trained at a wrong rate.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import ConfigError
from bluestab.core.keys import NEUTRAL, OF_THE_MODEL
from bluestab.core.paths import expanded, real
from bluestab.core.plain_files import read_json
from bluestab.models.clean_config import clean_config
from bluestab.models.foreign import foreign
from bluestab.models.frozen_tower import described_tower

if TYPE_CHECKING:
    from torch import nn

AUTO = "auto"
FOUND = (
    *("name", "family", "embeddings", "blocks", "pooler", "final_norm"),
    *("layers", "hidden_size", "max_length"),
)
"""Fields of a model that may be `auto`."""
PIECES = 16  # of the text that passes; a multiple of the blocks and windows of sparse attention


@dataclass(frozen=True)
class Structure:
    """What a network is made of, paths inside its encoder; passes: how often a text runs through
    the list of blocks (ALBERT: 12 times through one)."""

    embeddings: tuple[str, ...]
    blocks: str
    pooler: str | None
    final_norm: str | None
    layers: int
    passes: int


@dataclass
class _Call:
    """One call of a module. given, gave: the states (1, T, ...) it was called with and returned."""

    path: str
    given: Any = None
    gave: Any = None


@dataclass
class _Calls:
    """All calls of a pass, in the order in which they began and ended."""

    events: list[tuple[str, str]] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    open: dict[str, list[_Call]] = field(default_factory=dict)

    def begin(self, path: str, given: Any) -> None:
        call = _Call(path, given=given)
        self.calls.append(call)
        self.events.append(("begin", path))
        self.open.setdefault(path, []).append(call)

    def end(self, path: str, gave: Any) -> None:
        self.open[path].pop().gave = gave
        self.events.append(("end", path))


def described(node: Mapping[str, Any]) -> dict[str, Any]:
    """The yaml of a model with what its checkpoint says in the place of every `auto`, and knobs
    that came later than an own yaml at the value that does nothing.

    Raises ConfigError where the checkpoint is not here, or does not say it beyond doubt.
    """
    node = {**{knob: NEUTRAL[knob] for knob in OF_THE_MODEL}, **node}
    node["vision"] = described_tower(node["vision"])
    wanted = [name for name in FOUND if node.get(name) == AUTO]
    if not wanted:
        return node
    folder = _config_folder(node)
    found: dict[str, Any] = {"name": _name(node)}
    if wanted != ["name"]:
        found |= _facts(str(folder), (folder / "config.json").stat().st_mtime_ns)
    if found.get("max_length", 0) is None and "max_length" in wanted:
        raise ConfigError(
            f"{folder / 'config.json'} does not say the longest input (no max_position_embeddings);"
            " say model.max_length=N"
        )
    return {**node, **{name: found[name] for name in wanted}}


def _name(node: Mapping[str, Any]) -> str:
    if node.get("path") is not None:
        return real(str(node["path"])).name
    return str(node.get("hub")).rpartition("/")[2]


def _config_folder(node: Mapping[str, Any]) -> Path:
    """The folder of the checkpoint, or of its config.json alone."""
    from bluestab.models.hub import config_folder, hub_overrides

    if node.get("path") is not None:
        folder = expanded(str(node["path"]))
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model.path is '{node['path']}': no folder with a config.json")
        return folder
    if node.get("hub") is None:
        raise ConfigError(
            "model=auto needs the checkpoint: model.path=FOLDER, or model.hub=OWNER/NAME "
            "model.revision=COMMIT"
        )
    hub, revision = str(node["hub"]), node.get("revision")
    return config_folder(hub, revision, hub_overrides("model=auto model", hub, revision))


@lru_cache(maxsize=8)
def _facts(folder: str, _changed: int) -> dict[str, Any]:
    """Everything `auto` may stand for but the name."""
    from transformers import AutoConfig

    where = Path(folder) / "config.json"
    said = read_json(where)
    kept = clean_config(said, where)
    with foreign(folder, "describes no network"):
        config: Any = AutoConfig.for_model(said["model_type"], **kept)
        network = _empty(config)
        try:
            found = structure(network)
        except ValueError as error:
            raise ConfigError(
                f"{folder}, family {said['model_type']}: what belongs where is not found: {error}"
            ) from error
    return {
        "family": said["model_type"],
        "embeddings": list(found.embeddings),
        "blocks": found.blocks,
        "pooler": found.pooler,
        "final_norm": found.final_norm,
        "layers": found.layers,
        "hidden_size": int(config.hidden_size),
        "max_length": longest_input(network),
    }


def _empty(config: Any) -> nn.Module:
    """The network of a config, its weights whatever the memory holds."""
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.initialization import no_init_weights
    from transformers.utils import logging

    logging.set_verbosity_error()
    with no_init_weights(), torch.random.fork_rng(devices=[]):
        network: nn.Module = AutoModelForSequenceClassification.from_config(
            config, attn_implementation="eager", dtype=torch.float32
        )
    return network.eval()


def longest_input(network: nn.Module) -> int | None:
    """Word pieces that a network can read; None if its config does not limit them.

    Where a table of positions has a row for padding, positions are numbered from the next row on
    (RoBERTa and its kin): that many pieces fewer fit.
    """
    positions = getattr(network.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    taken = [
        module.padding_idx + 1
        for path, module in network.named_modules()
        if path.endswith("position_embeddings")
        and getattr(module, "padding_idx", None) is not None
        and len(module.weight) == positions
    ]
    return positions - max(taken, default=0)


# --- the pass ------------------------------------------------------------------------------------


def structure(network: nn.Module) -> Structure:
    """What a transformers network with a head for texts is made of.

    Raises ValueError, half a sentence, where that is not plain.
    """
    encoder = _encoder(network)
    _check_kind(network, encoder)
    calls = _passed(network, encoder)
    blocks, passes = _blocks(encoder, calls)
    begins, ends = _span(blocks, calls)
    embeddings, above = [], {}
    for unit in _units(encoder, blocks):
        events = [i for i, (_, path) in enumerate(calls.events) if _inside(path, unit)]
        if not events and _is_table(encoder, unit):
            embeddings.append(unit)  # DeBERTa reads its relative positions without a call
        elif not events:
            raise ValueError(f"'{unit}' has parameters that no pass uses")
        elif max(events) < begins:
            embeddings.append(unit)
        elif min(events) > ends:
            above[unit] = next(call for call in reversed(calls.calls) if call.path == unit)
        else:
            raise ValueError(f"'{unit}' works between the blocks of '{blocks}'")
    last = [call.gave for call in calls.calls if _is_block(call.path, blocks)][-1]
    pooler, final_norm = _above(above, last)
    layers = len(encoder.get_submodule(blocks))  # type: ignore[arg-type]
    return Structure(tuple(embeddings), blocks, pooler, final_norm, layers, passes)


def _encoder(network: nn.Module) -> nn.Module:
    prefix = str(getattr(network, "base_model_prefix", ""))
    encoder: nn.Module | None = getattr(network, prefix, None) if prefix else None
    if encoder is None:
        raise ValueError(f"{type(network).__name__} does not name its encoder")
    return encoder


def _check_kind(network: nn.Module, encoder: nn.Module) -> None:
    if "attention_mask" not in inspect.signature(encoder.forward).parameters:
        raise ValueError("its networks take no attention_mask: padding would be read as text")
    if fixed := [name for name, p in network.named_parameters() if not p.requires_grad]:
        raise ValueError(f"its family never trains '{fixed[0]}', which would be trained here")


def _passed(network: nn.Module, encoder: nn.Module) -> _Calls:
    """Pass a text, and note what is called inside the encoder."""
    import torch

    calls, handles = _Calls(), []
    for path, module in encoder.named_modules():
        if path:
            handles += _listen(module, path, calls)
    lowest = 3 + max(int(getattr(network.config, "pad_token_id", None) or 0), 0)
    words = int(network.config.vocab_size)  # type: ignore[union-attr, arg-type]
    pieces = (torch.arange(PIECES).unsqueeze(0) + lowest) % words
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            network(input_ids=pieces, attention_mask=torch.ones_like(pieces))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _listen(module: nn.Module, path: str, calls: _Calls) -> list[Any]:
    def begin(_: nn.Module, args: Any, kwargs: Any) -> None:
        calls.begin(path, _state((*args, *kwargs.values())))

    def end(_: nn.Module, args: Any, output: Any) -> None:
        calls.end(path, _state(output))

    return [
        module.register_forward_pre_hook(begin, with_kwargs=True),
        module.register_forward_hook(end),
    ]


def _state(values: Any) -> Any:
    """The first tensor of floats in what a module takes or gives."""
    import torch

    if isinstance(values, torch.Tensor):
        return values if values.is_floating_point() else None
    if isinstance(values, Mapping):
        values = list(values.values())
    for value in values if isinstance(values, list | tuple) else ():
        if (found := _state(value)) is not None:
            return found
    return None


def _inside(path: str, unit: str) -> bool:
    return path == unit or path.startswith(unit + ".")


def _is_block(path: str, blocks: str) -> bool:
    parent, _, number = path.rpartition(".")
    return parent == blocks and number.isdigit()


def _blocks(encoder: nn.Module, calls: _Calls) -> tuple[str, int]:
    """The one list of modules that carries the state; how often a text runs through it."""
    from torch import nn

    lists = [
        path
        for path, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and any(True for _ in module.parameters())
    ]
    outermost = [p for p in lists if not any(_inside(p, other) for other in lists if other != p)]
    found = {path: n for path in outermost if (n := _passes(path, encoder, calls))}
    if len(found) == 1:
        ((path, n),) = found.items()
        return path, n
    what = f"{len(found)} lists ({', '.join(found)})" if found else "no list"
    raise ValueError(
        f"{what} of its modules hand a state from each to the next (looked at "
        f"{', '.join(outermost) or 'none'})"
    )


def _passes(path: str, encoder: nn.Module, calls: _Calls) -> int:
    """How often the state runs through the whole list at `path`; 0: it does not."""
    members = encoder.get_submodule(path)
    own = [call for call in calls.calls if _is_block(call.path, path)]
    if not own or {call.path for call in own} != {f"{path}.{i}" for i in range(len(members))}:  # type: ignore[arg-type]
        return 0
    numbers = [int(call.path.rpartition(".")[2]) for call in own]
    if len({type(member) for member in members.children()}) != 1 or numbers != sorted(numbers):
        return 0
    for call in own:
        for state in (call.given, call.gave):
            if state is None or state.ndim != 3 or state.shape[:2] != (1, own[0].given.shape[1]):
                return 0
            if state.shape[-1] != encoder.config.hidden_size:  # type: ignore[union-attr]
                return 0
    if any(before.gave is not after.given for before, after in pairwise(own)):
        return 0
    return len(own) // len(members)  # type: ignore[arg-type]


def _span(blocks: str, calls: _Calls) -> tuple[int, int]:
    """Where in the pass the first block begins and the last one ends."""
    places = [i for i, (_, path) in enumerate(calls.events) if _is_block(path, blocks)]
    return places[0], places[-1]


def _units(encoder: nn.Module, blocks: str) -> list[str]:
    """The largest parts of the encoder beside its blocks that hold parameters."""
    found: dict[str, None] = {}
    for name, _ in encoder.named_parameters():
        if _inside(name, blocks):
            continue
        parts = name.split(".")
        unit = next(
            path
            for n in range(1, len(parts) + 1)
            if not _inside(blocks, path := ".".join(parts[:n]))
        )
        found[unit] = None
    return list(found)


def _is_table(encoder: nn.Module, unit: str) -> bool:
    from torch import nn

    return isinstance(dict(encoder.named_modules()).get(unit), nn.Embedding)


def _above(parts: Mapping[str, _Call], last: Any) -> tuple[str | None, str | None]:
    """Which part is the pooler, which the final norm."""
    norms = [u for u, call in parts.items() if _same_shape(call.gave, last) and call.given is last]
    poolers = [
        u for u, call in parts.items() if call.gave is not None and call.gave.ndim < last.ndim
    ]
    rest = [unit for unit in parts if unit not in (*norms, *poolers)]
    if rest or len(norms) > 1 or len(poolers) > 1:
        raise ValueError(
            f"above the blocks stand {', '.join(parts)}: more than one norm and one pooler"
        )
    return next(iter(poolers), None), next(iter(norms), None)


def _same_shape(one: Any, other: Any) -> bool:
    return one is not None and one.shape == other.shape

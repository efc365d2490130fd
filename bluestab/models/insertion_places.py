"""Where layers are inserted into a network, and of which kind, in words: needs no torch.

`insertions.py` inserts them; a config of saved weights says under `MARK` what was inserted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bluestab.core.errors import ConfigError
from bluestab.core.paths import expanded
from bluestab.core.plain_files import read_json
from bluestab.core.rules import Rule, above, list_of, one_of, whole

MARK = "bluestab_insertions"
"""Entry in `config.json` of saved weights: plain transformers would leave the layers out."""
BASE = "bluestab_base"
"""The same, of weights without those of the encoder: `encoder`, what that is (`Model.identity`),
and `tensors`, how many there are beside it."""
INSIDE = "insertions"
"""Where a network holds them: `insertions.<number of the block, from 1>`."""
KINDS = ("layer", "bottleneck", "lora")


def is_inserted(name: str) -> bool:
    """Whether a parameter of this name belongs to an inserted layer."""
    return name.startswith(f"{INSIDE}.")


def is_copied(name: str, kind: str) -> bool:
    """Whether a parameter of an inserted layer of this kind is a copy of its block's, and stays."""
    return kind == "lora" and ".lora_" not in name and not name.endswith(".gate")


def published(layers: int) -> list[int]:
    """Blocks, from 1, after which Wang et al. (2025) insert a layer: two of every five, as in their
    network of 32 blocks (14 layers), cut to this depth."""
    return [number for number in range(1, layers + 1) if number % 5 in (1, 2)]


def place_rules(layers: int, hidden_size: int, *, null: bool = False) -> dict[str, Rule]:
    """What may be said of insertions into so many blocks of this width; `null`: of `after`, too."""
    number, _ = whole(1, high=layers)
    several, expected = list_of(number, f"blocks from 1 to {layers}, each once")

    def after(value: Any) -> bool:
        if value is None:
            return null
        return several(value) and 0 < len(value) == len(set(value))

    return {
        "after": (after, expected + (", or null" if null else "")),
        "kind": one_of(*KINDS),
        "size": whole(1, high=hidden_size),
        "gate_scale": above(0),
    }


def missing_encoder(folder: Path) -> tuple[str, int] | None:
    """Of saved weights that lack those of the encoder: what that encoder is, and how many tensors
    there are beside it; None: they are whole. Raises ConfigError for a config that cannot be."""
    said = read_json(folder / "config.json").get(BASE)
    if said is None:
        return None
    if (
        not isinstance(said, dict)
        or said.keys() != {"encoder", "tensors"}
        or not isinstance(said["encoder"], str)
        or not isinstance(said["tensors"], int)
    ):
        raise ConfigError(
            f"{folder / 'config.json'} has {BASE} {str(said)[:60]}: expected encoder and tensors"
        )
    return said["encoder"], said["tensors"]


def refuse_inserted(path: str | None) -> None:
    """Raises ConfigError if `model.path` is a folder of weights that hold inserted layers."""
    config = None if path is None else expanded(path) / "config.json"
    if config is not None and config.is_file() and MARK in read_json(config):
        raise ConfigError(
            f"model.path is '{path}', whose weights hold layers that technique inner_adaptors "
            "inserted and a new training would leave out; name the model that they were inserted "
            "into, or say model.init_from=KEY, which is that model"
        )

"""What is read from folders of strangers, and what is refused there before anything acts on it.

Weights are read from safetensors alone, records and configs as plain data. transformers would go
further if a folder asked for it: import code (`auto_map`), read pickles, load adapters and
quantisers by name, perhaps from the network. Such folders are refused here, each with a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml  # type: ignore[import-untyped]

from bluestab.errors import ConfigError
from bluestab.models import FAMILIES

WEIGHTS = "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".msgpack")
CODE = ("auto_map", "custom_pipelines", "quantization_config", "custom_object_save")
"""Keys by which a config.json or tokenizer_config.json makes transformers load more code."""
MOST_BYTES = 64 * 2**20
"""Of a text file that is read whole (the largest tokenizer.json known has 34 MB)."""


class _Plain(yaml.SafeLoader):  # type: ignore[misc]
    """Plain data without aliases: nine lines of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(
                f"line {event.start_mark.line + 1} holds an alias (*{event.anchor})"
            )
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> dict[str, Any]:
    """A map of plain data; nothing in it is instantiated, resolved or looked up.

    Raises ConfigError for anything else, `${...}` included: it would be filled in from this
    machine's environment.
    """
    text = _text(path)
    try:
        found = yaml.load(text, Loader=_Plain)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{path} is no plain yaml: {said[:300]}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no map of settings")
    if where := _interpolated(found):
        raise ConfigError(
            f"{path} has '${{' in {where}; a config that was kept holds values, nothing to fill in"
        )
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A map of plain data. Raises ConfigError for anything else."""
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no map")
    return found


def inside(folder: Path, name: object, where: str) -> Path:
    """The file `name` below `folder`. Raises ConfigError if it would lie elsewhere."""
    parts = PurePosixPath(str(name)).parts
    strange = not isinstance(name, str) or not parts or "\\" in name or "\0" in name
    if strange or PurePosixPath(str(name)).is_absolute() or ".." in parts:
        raise ConfigError(f"{where} names the file {name!r}, which is not inside {folder}")
    path = folder.joinpath(*parts)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{where} names the file {name!r}, a link that leads out of {folder}")
    return path


def check_weights(folder: Path) -> dict[str, Any]:
    """The config of a folder of weights, if loading them runs nothing and asks nobody.

    Raises ConfigError, one sentence, if it would.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    weights = folder / WEIGHTS
    if not weights.is_file():
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        if pickled:
            raise ConfigError(
                f"{folder} holds its weights as {pickled[0]}, a pickle, which may run code when it "
                f"is read; only {WEIGHTS} is read"
            )
        raise ConfigError(f"{folder} holds no {WEIGHTS}")
    check_code(folder)
    for name in ("config.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} holds no {name}")
    for path in folder.iterdir():
        inside(folder, path.name, "the folder itself")
        if path.suffix in (".json", ".txt") and path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size} bytes: too large to be read")
    config = read_json(folder / "config.json")
    if config.get("model_type") not in FAMILIES:
        raise ConfigError(
            f"{folder / 'config.json'} says model_type {config.get('model_type')!r}: expected "
            f"{', '.join(FAMILIES)}"
        )
    _check_sizes(folder, config)
    return config


def check_code(folder: Path) -> None:
    """Raises ConfigError if transformers would load more than weights and data from a folder."""
    if (folder / "adapter_config.json").exists():
        raise ConfigError(
            f"{folder} holds adapter_config.json: it names other weights to be loaded from "
            "elsewhere; only whole, merged weights are read"
        )
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        said = read_json(path) if path.is_file() else {}
        for key in CODE:
            if key in said:
                raise ConfigError(
                    f"{path} has '{key}', by which a model brings code of its own; such models "
                    "are not loaded"
                )


def _check_sizes(folder: Path, config: Mapping[str, Any]) -> None:
    """A config may promise a network that fills any memory; its weights cannot."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / WEIGHTS, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{folder / WEIGHTS} is damaged or no safetensors ({error})") from error
    words = (config.get("vocab_size"), config.get("embedding_size", config.get("hidden_size")))
    pieces = [shape for name, shape in shapes.items() if _is_vocabulary(name)]
    blocks = {
        (part, number)
        for name in shapes
        for part, number in zip(name.split("."), name.split(".")[1:], strict=False)
        if part in ("layer", "layers") and number.isdigit()
    }
    if [list(words)] != [list(shape) for shape in pieces]:
        raise ConfigError(
            f"{folder}: config.json promises {words[0]!r} word pieces of {words[1]!r} numbers, "
            f"{WEIGHTS} holds {[list(shape) for shape in pieces]}"
        )
    if len(blocks) != config.get("num_hidden_layers"):
        raise ConfigError(
            f"{folder}: config.json promises {config.get('num_hidden_layers')!r} blocks, {WEIGHTS} "
            f"holds {len(blocks)}"
        )


def _is_vocabulary(name: str) -> bool:
    return name.endswith(("embeddings.word_embeddings.weight", "embeddings.tok_embeddings.weight"))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size} bytes: too large to be read")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 ({error})") from error


def _interpolated(node: Any, path: str = "") -> str | None:
    """Where a value holds `${`, or None."""
    if isinstance(node, dict):
        children = [(f"{path}.{key}".lstrip("."), child) for key, child in node.items()]
    elif isinstance(node, list):
        children = [(f"{path}[{i}]", child) for i, child in enumerate(node)]
    else:
        return path if isinstance(node, str) and "${" in node else None
    return next((found for name, c in children if (found := _interpolated(c, name))), None)

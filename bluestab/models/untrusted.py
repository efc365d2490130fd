"""What is read from folders of strangers, and what is refused there before anything acts on it.

Weights are read from safetensors alone, records and configs as plain data. transformers would go
further if a folder asked for it: import code (`auto_map`), read pickles, load adapters and
quantisers by name, perhaps from the network. Such folders are refused here, each with a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bluestab.core.errors import ConfigError
from bluestab.core.plain_files import MOST_BYTES, inside, read_json
from bluestab.models.clean_config import KEYS, clean_config
from bluestab.models.hub import OLD_WEIGHTS
from bluestab.models.insertion_places import missing_encoder

WEIGHTS = "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".msgpack")
CODE = ("auto_map", "custom_pipelines", "quantization_config", "custom_object_save")
"""Keys by which a config.json or tokenizer_config.json makes transformers load more code."""


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
                f"is read; only {WEIGHTS} is read (bluestab fetch model=auto model.path={folder} "
                f"converts {OLD_WEIGHTS})"
            )
        raise ConfigError(f"{folder} holds no {WEIGHTS}")
    check_code(folder)
    for name in ("config.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} holds no {name}")
    for path in folder.iterdir():
        inside(folder, path.name, "the folder itself")
        if path.suffix in (".json", ".txt") and (size := _size(path)) > MOST_BYTES:
            raise ConfigError(f"{path} has {size} bytes: too large to be read")
    config = read_json(folder / "config.json")
    if missing_encoder(folder) is not None:
        pass  # the network is the one of the encoder that is named there: `networks.load_trained`
    elif config.get("model_type") in KEYS:
        _check_sizes(folder, config)
    else:  # the network is compared with its weights when it is loaded: `check_shapes`
        clean_config(config, folder / "config.json")
    return config


def _size(path: Path) -> int:
    """Bytes of a file. Raises ConfigError for a link that leads nowhere."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error


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

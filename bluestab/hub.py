"""Models of the Hugging Face hub on this machine: is one here, bring it, how large is it.

The hub's own cache holds them (`HF_HOME`), so that every other program finds them, too. Weights of
the old kind, which may hold code, are brought only where there are no others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

HUB_FILES = ["*.json", "*.txt", "model.safetensors"]
OLD_WEIGHTS = "pytorch_model.bin"  # transformers reads it with weights_only=True
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")


def offline() -> bool:
    """Has the person at the keyboard forbidden the network?"""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def here(hub: str, revision: str | None) -> Path | None:
    """The folder of a complete copy on this machine, or None. Asks nobody."""
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            hub, revision=revision, allow_patterns=HUB_FILES, local_files_only=True
        )
    except (OSError, ValueError):  # not there, known to lack files, or no name of a model
        return None
    folder = Path(found)

    def any_of(*names: str) -> bool:
        return any((folder / name).is_file() for name in names)

    whole = any_of("config.json") and any_of("model.safetensors", OLD_WEIGHTS)
    return folder if whole and any_of(*TOKENIZERS) else None


def bring(hub: str, revision: str | None) -> Path:
    """The folder of a model, downloaded if it is not here. Raises OSError, whatever goes wrong."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(hub, revision=revision, allow_patterns=HUB_FILES))
        if not (folder / "model.safetensors").is_file():
            patterns = [*HUB_FILES, OLD_WEIGHTS]
            snapshot_download(hub, revision=revision, allow_patterns=patterns)
    except OSError:
        raise
    except Exception as error:  # of the library for HTTP, another one in every version of the hub
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    return folder


def n_bytes(hub: str, revision: str | None) -> int | None:
    """What `bring` would download, in bytes; None where the hub cannot be asked."""
    from huggingface_hub import snapshot_download

    if offline():
        return None
    try:
        files = snapshot_download(
            hub, revision=revision, allow_patterns=[*HUB_FILES, OLD_WEIGHTS], dry_run=True
        )
    except Exception:  # any reason will do: a size is no reason to fail
        return None
    names = [file.filename for file in files]
    wanted = [f for f in files if f.will_download and _is_wanted(f.filename, names)]
    return sum(file.file_size or 0 for file in wanted)


def _is_wanted(name: str, names: Sequence[str]) -> bool:
    if name == OLD_WEIGHTS:
        return "model.safetensors" not in names
    return any(fnmatch(name, pattern) for pattern in HUB_FILES)


def address() -> str:
    """Where the hub is: HF_ENDPOINT, or its usual address."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def cache() -> Path:
    """The folder of the hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)

"""Models of the Hugging Face hub: the copy on this machine, the download, the size there.

The hub's own cache holds them (`HF_HOME`), so that every other program finds them, too. Weights of
the old kind, which may hold code, are downloaded only where there are no others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from bluestab.core.errors import BRING, ConfigError

HUB_FILES = ["*.json", "*.txt", "*.model", "model.safetensors"]  # .model: of SentencePiece
OLD_WEIGHTS = "pytorch_model.bin"
CONVERT = "a pickle, which may run code when it is read carelessly; convert it with: bluestab fetch"
TIMEOUT = 10.0  # seconds for an answer about a model; without it, a mute hub is waited for for ever
SENTENCEPIECE = ("spm.model", "sentencepiece.bpe.model", "spiece.model")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", *SENTENCEPIECE)


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def local_copy(hub: str, revision: str | None, *, tokenizer: bool = True) -> Path | None:
    """The folder of a complete copy on this machine, or None. Uses no network.

    tokenizer  whether one belongs to it
    """
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
    return folder if whole and (any_of(*TOKENIZERS) or not tokenizer) else None


def download(hub: str, revision: str | None) -> Path:
    """The folder of a model, downloaded if it is not here. Raises OSError, whatever goes wrong."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import logging

    # every try in vain would be a line; the last one is an error
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with _os_errors():
        folder = Path(snapshot_download(hub, revision=revision, allow_patterns=HUB_FILES))
        if not (folder / "model.safetensors").is_file():
            patterns = [*HUB_FILES, OLD_WEIGHTS]
            snapshot_download(hub, revision=revision, allow_patterns=patterns)
        if (folder / OLD_WEIGHTS).is_file():
            convert(folder)
    return folder


def convert(folder: Path) -> None:
    """Write `model.safetensors` beside weights of the old kind, if it is not there.

    They are read with torch's `weights_only`, which makes tensors and nothing else. Raises OSError
    if they hold anything else.
    """
    import torch
    from safetensors.torch import save_file

    new = folder / "model.safetensors"
    if new.is_file():
        return
    try:
        held = torch.load(folder / OLD_WEIGHTS, map_location="cpu", weights_only=True)
        tensors = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
    except Exception as error:  # a pickle may be wrong in any way
        said = " ".join(str(error).split())[:200]
        raise OSError(f"{folder / OLD_WEIGHTS} cannot be converted ({said})") from error
    whole = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    aside = folder / f".{new.name}.{os.getpid()}"
    save_file(whole, aside, metadata={"format": "pt"})
    aside.replace(new)


def hub_overrides(knobs: str, hub: str, revision: str | None) -> str:
    """The words of a command that name a model of the hub, whose knobs begin so."""
    return f"{knobs}.hub={hub}" + (f" {knobs.split()[-1]}.revision={revision}" if revision else "")


def config_folder(hub: str, revision: str | None, asked: str) -> Path:
    """The folder of a model's config.json, which is brought now if it is not here.

    asked  the words of a command that name the model

    Raises ConfigError where that is not possible.
    """
    found = optional_file(hub, revision, "config.json", asked)
    if found is None:
        raise ConfigError(f"{hub} holds no config.json; name a model that transformers saved")
    return found.parent


def optional_file(hub: str, revision: str | None, name: str, asked: str) -> Path | None:
    """A small file of a model, which is brought now if it is not here; None: it has none.

    Raises ConfigError where it cannot be brought.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        with _os_errors():
            found = try_to_load_from_cache(hub, name, revision=revision)
            if found is None:
                found = hf_hub_download(hub, name, revision=revision)
            return Path(found) if isinstance(found, str) else None  # it is known to have none
    except OSError as error:
        cause = error if isinstance(error, EntryNotFoundError) else error.__cause__
        if isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
            return None
        why = "HF_HUB_OFFLINE is set" if offline() else " ".join(str(error).split())[:200]
        raise ConfigError(
            f"the {name} of {hub} is not on this machine and cannot be brought ({why}); "
            f"{BRING} {asked}"
        ) from error


def remote_size(hub: str, revision: str | None) -> int:
    """Bytes of a model's files, by the hub's own listing. Raises OSError, also after `TIMEOUT`."""
    from huggingface_hub import HfApi

    with _os_errors():
        said = HfApi().model_info(
            hub, revision=revision or "main", files_metadata=True, timeout=TIMEOUT
        )
    sizes = {file.rfilename: file.size or 0 for file in said.siblings or []}
    return sum(size for name, size in sizes.items() if _is_wanted(name, list(sizes)))


@contextmanager
def _os_errors() -> Iterator[None]:
    """The library for HTTP is another one in every version of the hub, and so are its errors."""
    try:
        yield
    except OSError:
        raise
    except ValueError as error:  # what cannot be the name of a model
        raise OSError(str(error)) from error
    except Exception as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


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

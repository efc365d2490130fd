"""Weights and tokenizer of a model: from the hub, or with a package, or random."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from bluestab.core.errors import ConfigError, is_disk_full
from bluestab.core.paths import expanded
from bluestab.data.downloads import DownloadError
from bluestab.models import hub
from bluestab.models.description import Model
from bluestab.models.frozen_tower import tower_folder
from bluestab.models.vision_spec import FrozenSpec
from bluestab.sweeps.fetch.base import FetchContext, FetchStatus, Resource, need_network


class ModelResource(Resource):
    """Weights and tokenizer of a model."""

    kind = "model"
    tokenizer = True
    """Whether one belongs to it."""
    knob = "model"
    """What its knobs are called."""

    def __init__(self, model: Model | _Tower) -> None:
        self.model, self.name, self.about = model, model.name, model.about

    def look(self, context: FetchContext, *, ask: bool = False) -> FetchStatus:
        model = self.model
        if (old := self._unconverted()) is not None:
            return FetchStatus(str(old.parent), ((str(old), old.stat().st_size),))
        if model.path is not None or model.package is not None:
            try:
                folder = model.folder()
            except ConfigError as error:
                return FetchStatus(model.path or "", problem=str(error))
            return _found(folder, "" if model.path else f"comes with {self._package()}")
        if model.hub is None:
            return FetchStatus(note="random weights: nothing to bring")
        here = hub.local_copy(model.hub, model.revision, tokenizer=self.tokenizer)
        if here is not None:
            return _found(here, self._pin(here))
        source = f"{hub.address()}/{model.hub}" + (
            f"/tree/{model.revision}" if model.revision else ""
        )
        size = None
        if ask and not hub.offline():
            with suppress(OSError):
                size = hub.remote_size(model.hub, model.revision)
        return FetchStatus(str(hub.cache()), ((source, size),))

    def bring(self, context: FetchContext) -> FetchStatus:
        if (old := self._unconverted()) is not None:
            try:
                hub.convert(old.parent)
            except OSError as error:
                raise DownloadError(str(error)) from error
            return _found(old.parent, f"{old.name} was converted to model.safetensors")
        assert self.model.hub is not None
        if context.folder is not None:
            raise DownloadError(
                f"models are not taken from a folder of files: give {self.knob}.path=DIR, or copy "
                f"{hub.cache()}/models--{self.model.hub.replace('/', '--')} of another machine here"
            )
        need_network([f"{hub.address()}/{self.model.hub}"])
        try:
            hub.remote_size(self.model.hub, self.model.revision)
            folder = hub.download(self.model.hub, self.model.revision)
        except OSError as error:
            raise DownloadError(_why(error, self.model.hub, self.model.revision)) from error
        name, revision = self.model.hub, self.model.revision
        if hub.local_copy(name, revision, tokenizer=self.tokenizer) is None:
            raise DownloadError(
                f"{self.model.hub} holds no config.json, weights"
                f"{' or tokenizer' if self.tokenizer else ''} that can be read "
                f"(looked for {', '.join(hub.HUB_FILES)}, {hub.OLD_WEIGHTS})"
            )
        return _found(folder, self._pin(folder))

    def _unconverted(self) -> Path | None:
        """Weights of the old kind in the folder that `model.path` names, if there are no others."""
        if self.model.path is None:
            return None
        old = expanded(self.model.path) / hub.OLD_WEIGHTS
        return old if old.is_file() and not (old.parent / "model.safetensors").is_file() else None

    def _pin(self, folder: Path) -> str:
        if self.model.revision is not None:
            return ""
        return (
            f"not pinned: commit {folder.name}; to pin it, say {self.knob}.revision={folder.name}"
        )

    def _package(self) -> str:
        return f"the package {str(self.model.package).partition('/')[0]}"


class _Tower:
    """A frozen image tower, with what is asked of a model."""

    package: str | None = None

    def __init__(self, spec: FrozenSpec) -> None:
        self.spec, self.about = spec, dict[str, Any]()
        self.path, self.hub, self.revision = spec.path, spec.hub, spec.revision
        self.name = str(spec.path or spec.hub)

    def folder(self) -> Path:
        return tower_folder(self.spec)


class TowerResource(ModelResource):
    """Weights of a frozen image tower."""

    tokenizer = False
    knob = "model.vision"

    def __init__(self, spec: FrozenSpec) -> None:
        super().__init__(_Tower(spec))


def _found(folder: Path | None, note: str) -> FetchStatus:
    assert folder is not None
    n_bytes = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return FetchStatus(str(folder), n_bytes=n_bytes, note=note)


def _why(error: OSError, name: str, revision: str | None) -> str:
    """What went wrong with the hub, in words that say what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    said = " ".join(str(error).split())[:300]
    if is_disk_full(error):
        return (
            f"the disk of {hub.cache()} is full; make room, or set HF_HOME to a folder on another "
            "disk"
        )
    if isinstance(error, GatedRepoError):
        return (
            f"{name} is given to people it has accepted only: ask at {hub.address()}/{name}, then "
            "hf auth login"
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no model {name} at {hub.address()} (or it is private: hf auth login)"
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no revision {revision}"
    if isinstance(error, LocalEntryNotFoundError | ConnectionError):
        return f"{hub.address()} did not answer ({said}); try again"
    if error.filename is not None:
        return (
            f"{error.filename} cannot be written ({error.strerror}); set HF_HOME to a folder of "
            "your own"
        )
    return f"{name}: {said or os.strerror(error.errno or 0)}"

"""Where data files are found, and what they contain in one hash.

Search order: `task.data_dir`, `$BLUESTAB_DATA/<task>`, what `bluestab fetch` brought, the corpus
shipped with the package. A path that is absolute or starts with ./ is taken as it is. `NAME.gz`
stands in for a missing `NAME`.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from bluestab.core.errors import BRING, DataError, did_you_mean
from bluestab.core.paths import cache_dir, corpora_dir, expanded
from bluestab.data.readers import check_kind, read_bytes


def folders(task: str, data_dir: str | None) -> list[Path]:
    """Folders that may hold the task's files, in search order."""
    if data_dir is not None:
        return [expanded(data_dir)]
    places = [own_folder(task), fetched_folder(task), corpora_dir() / task]
    return [folder for folder in places if folder is not None]


def own_folder(task: str) -> Path | None:
    """Where a person keeps the files of this task: read, never written."""
    root = os.environ.get("BLUESTAB_DATA")
    return expanded(root) / task if root else None


def fetched_folder(task: str) -> Path | None:
    """Where `bluestab fetch` puts the files of this task."""
    root = cache_dir()
    return root / "data" / task if root is not None else None


def how_to_bring(
    file: str,
    task: str,
    data_dir: str | None,
    fetch: Mapping[str, Any] | None,
    about: Mapping[str, Any],
) -> str:
    """The end of the sentence about a file of a task that is missing."""
    known = fetch or {}
    as_they_are = known.get("convert") is None
    brought = [entry.get("file") for entry in known.get("files") or ()]
    if brought and not (as_they_are and file not in brought):
        without = "" if data_dir is None else "or, without task.data_dir, "
        return f"; {without}{BRING} task={task}"
    return f"; no public address is known, {access(about)}"


def access(about: Mapping[str, Any]) -> str:
    """Where a person may get the files of a task that cannot be downloaded."""
    said, url = about.get("access"), about.get("url")
    return str(said or (f"ask at {url}" if url else "and the yaml names nobody to ask"))


def locate(file: str, *, task: str, data_dir: str | None, hint: str = "") -> Path:
    """The file of a task. Raises DataError naming every place that was searched."""
    direct = expanded(file)
    as_it_is = direct.is_absolute() or file.startswith(("./", "../"))
    places = [direct] if as_it_is else [folder / file for folder in folders(task, data_dir)]
    for place in places:
        for candidate in (place, Path(f"{place}.gz")):
            if candidate.is_file():
                return candidate
    searched = ", ".join(str(place) for place in places)
    advice = f"; task.data_dir must be the folder that holds {file}"
    if as_it_is:
        advice = hint = ""
    elif data_dir is None:
        advice = (
            f"; set BLUESTAB_DATA to the folder that holds {task}/{file}, "
            f"or task.data_dir to the one that holds {file}"
        )
    raise DataError(file, f"not found (looked at {searched}){advice}{hint}")


def locate_own(file: str, data_dir: str | None) -> Path:
    """A person's file or folder, from here or from `data_dir`. Raises DataError naming what there
    is in its place."""
    path = expanded(data_dir or ".") / expanded(file)
    for candidate in (path, Path(f"{path}.gz")):
        if candidate.exists():
            check_kind(candidate)
            return candidate
    folder = path.parent
    if not folder.is_dir():
        raise DataError(path, f"not found: there is no folder {folder}")
    names = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    written = unicodedata.normalize("NFC", path.name)  # macOS writes an accent as two characters
    alike = [name for name in names if unicodedata.normalize("NFC", name) == written]
    if len(alike) == 1:
        return folder / alike[0]
    near = did_you_mean(path.name, names) if len(names) <= 20 else ""
    raise DataError(path, f"not found in {folder.absolute()}{near}")


def sha256_of(path: Path) -> str:
    """SHA-256 of the (decompressed) content, computed once per path, size and time of change; of
    a folder, that of the names and contents of its files."""
    if path.is_dir():
        return _sha256_of_folder(tuple(_state(p) for p in sorted(path.rglob("*")) if p.is_file()))
    return _sha256(*_state(path))


def _state(path: Path) -> tuple[Path, int, int]:
    stat = path.stat()
    return path, stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=64)
def _sha256_of_folder(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file[0].name} {_sha256(*file)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    if path.suffix == ".gz":
        return hashlib.sha256(read_bytes(path)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

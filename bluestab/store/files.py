"""Files that survive the death of their writer at any instruction: aside, flushed, renamed."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bluestab.store.processes import owner, owner_dead


def flush(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Bring everything below a folder to the disk itself."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers see the old content or the new, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path)
    aside.write_text(text, encoding="utf-8")
    flush(aside)
    aside.replace(path)


def aside_of(path: Path) -> Path:
    """Where this process writes a file before it renames it to `path`."""
    return path.with_name(f".{path.name}.{owner()}")


def remove_asides(path: Path) -> None:
    """Remove what processes left that died while they wrote `path`."""
    beginning = f".{path.name}."
    for left in path.parent.glob(f"{glob.escape(beginning)}*"):
        if owner_dead(left.name.removeprefix(beginning)):
            left.unlink(missing_ok=True)


def files_below(folder: Path) -> dict[str, Path]:
    """Name below `folder` -> file, `record.json` left out."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*"))}
    return {name: f for name, f in files.items() if name != "record.json" and os.path.isfile(f)}


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def alone(folder: Path, *, required: bool = True) -> Iterator[None]:
    """One process at a time, of those that ask for this folder; the lock dies with its holder.

    required  make the folder, and raise OSError where no lock file can be; False: go without

    A file system without locks goes without in any case.
    """
    try:
        if required:
            folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        if required:
            raise
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

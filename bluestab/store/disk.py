"""Disk in use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bluestab.store.files import entries
from bluestab.store.representations import FILE as REPRESENTATIONS
from bluestab.store.store import KEY


@dataclass(frozen=True)
class Usage:
    """Bytes on disk: all of a store; of these, weights and vectors that were kept, by the names of
    their folders and files; and runs to resume."""

    total: int
    checkpoints: int
    representations: int
    resume: int


def usage(root: Path) -> Usage:
    """Disk in use by a store, as `du` counts it."""
    total = resume = 0
    kept = {"checkpoint": 0, REPRESENTATIONS: 0}
    for entry in _scan(root):
        size = 0
        if entry.name == ".resume":
            resume = size = _size(entry)
        elif KEY.fullmatch(entry.name):
            size = _blocks(entry)
            for inside in _scan(entry.path):
                part = _size(inside)
                size += part
                if inside.name in kept:
                    kept[inside.name] += part
        else:
            size = _size(entry)
        total += size
    return Usage(total, kept["checkpoint"], kept[REPRESENTATIONS], resume)


def _size(entry: os.DirEntry[str]) -> int:
    size = _blocks(entry)
    if entry.is_dir(follow_symlinks=False):
        size += sum(_size(inside) for inside in _scan(entry.path))
    return size


def _blocks(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:  # gone meanwhile
        return 0


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def extent(path: Path) -> tuple[int, float]:
    """Bytes of a file or of all files below a folder, and when the latest was changed (seconds)."""
    try:
        stat = path.lstat()
    except OSError:
        return 0, 0.0
    if not os.path.isdir(path) or os.path.islink(path):
        return stat.st_size, stat.st_mtime
    total, latest = 0, stat.st_mtime
    for entry in entries(path):
        size, changed = extent(entry)
        total, latest = total + size, max(latest, changed)
    return total, latest

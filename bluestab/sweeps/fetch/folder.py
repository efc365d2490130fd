"""The folders that are made for data: marked, written by one process at a time, cleared.

    <cache>/data/<task>/             the files a task reads, named as in its yaml
    <cache>/data/<task>/original/    what they were converted from

A folder of a person (`task.data_dir`, `$BLUESTAB_DATA`, or one that was not made here) is never
written.
"""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bluestab.core.paths import cache_dir
from bluestab.data.downloads import DownloadError, written_to
from bluestab.data.locate import own_folder
from bluestab.store.files import flush, new_aside, put_in_place

MARKER = ".bluestab-fetch"
"""Says that a folder was made here and may be written and cleared; locked by who writes."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = new_aside(path)
    try:
        aside.write_bytes(content)
        flush(aside)
        put_in_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    flush(path.parent)


def fetched() -> dict[Path, int]:
    """Folders of tasks that were made here -> bytes in them."""
    root = cache_dir()
    found = {}
    for marker in sorted((root / "data").glob(f"*/{MARKER}")) if root is not None else []:
        files = [path for path in marker.parent.rglob("*") if path.is_file()]
        found[marker.parent] = sum(path.lstat().st_size for path in files)
    return found


def clear(folder: Path) -> None:
    """Remove a folder of `fetched`. Raises DownloadError if that fails or somebody writes to it."""
    with written_to(folder), (folder / MARKER).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f"{folder} is being written by another process") from error
        except OSError:
            pass  # a file system without locks
        shutil.rmtree(folder)


@contextmanager
def alone(folder: Path, name: str, say: Callable[[str], None]) -> Iterator[None]:
    """The folder is there, is ours, and no other process writes to it."""
    _make_own(folder)
    with (folder / MARKER).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is bringing {name}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks; at worst a hash is wrong and a file comes again
        for file in folder.rglob("*"):
            if _is_litter(file):
                with suppress(OSError):
                    file.unlink()
        yield


def _is_litter(file: Path) -> bool:
    """A file aside (ours, or pooch's tmpXXXXXXXX) of a process that was killed; a .part is none."""
    if re.fullmatch(r"tmp[a-z0-9_]{8}", file.name):
        return True
    hidden = file.name.startswith(".") and file.name != MARKER
    return hidden and not file.name.endswith(".part") and file.is_file()


def _make_own(folder: Path) -> None:
    """Make the folder, readable by its owner alone; refuse one that somebody else filled."""
    theirs = own_folder(folder.name)
    if theirs is not None and theirs.exists() and folder.exists() and theirs.samefile(folder):
        raise DownloadError(f"{folder} is the folder of BLUESTAB_DATA, which is never written")
    # looked at before the marker: whoever makes the folder now sets that before anything else
    filled = folder.is_dir() and any(path.name != MARKER for path in folder.iterdir())
    if filled and not (folder / MARKER).is_file():
        raise DownloadError(
            f"{folder} was not made by bluestab fetch and is not written; move it away, or set "
            "BLUESTAB_CACHE to another folder"
        )
    for place in (folder.parent.parent, folder.parent, folder):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / MARKER).touch()

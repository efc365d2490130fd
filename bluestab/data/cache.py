"""Word pieces on disk, and what frozen parts give for them and for images: computed once per
content, then memory-mapped by every process.

    <cache>/tokens/<key>.<sha256>.arrow, <cache>/hidden_states/..., <cache>/image_features/...

`key` says what was computed, with what and by which code; `sha256` is that of the file itself, so
that a damaged file is known by its name and is computed again. The cache is `paths.cache_dir`. Word
pieces are text: nobody but their owner may read them, and a folder of somebody else is not used.
Nothing here ever stops a run: without a cache that works, they are computed in memory.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.paths import cache_dir
from bluestab.data.locate import sha256_of
from bluestab.store.files import digest_of

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("bluestab")

FORMAT = 2
"""Part of every key: bumped when the files themselves change."""
FOLDERS = ("tokens", "hidden_states", "image_features")
"""Word pieces, what frozen blocks give for them (`bluestab.training.loop.frozen_prefix`), and what
frozen image towers give for images (`bluestab.training.image_features`)."""
FILE = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{64}\.arrow")
STARTED = time.time()


def cached(
    key: str | None,
    compute: Callable[[], pa.Table],
    *,
    folder: str = "tokens",
    budget: float | None = None,
) -> pa.Table:
    """The table of this key, from the disk or computed (and kept).

    key     from `key_of`; None computes without looking
    folder  of the cache: one per kind of content
    budget  GB that the folder may take: the files used longest ago go to make room; None: no limit
    """
    place = None if key is None else _own_folder(folder)
    if key is None or place is None:
        return compute()
    found = _find(place, key)
    if found is not None:
        return found
    made = compute()
    if budget is not None:
        _make_room(place, budget * 1e9 - made.nbytes)
    _keep(place, key, made)
    found = _find(place, key)  # mapped: one copy in memory serves all processes
    return made if found is None else found


def cached_each(
    keys: Mapping[str, str | None], compute: Callable[[str], pa.Table], *, folder: str
) -> Iterator[tuple[str, pa.Table]]:
    """Name -> the table of its key, from the disk or computed (and kept), one file each.

    The folder is listed once, whatever the number of names; a table that is let go takes no open
    file with it.
    """
    place = _own_folder(folder)
    names: dict[str, list[str]] = {}
    for file in [] if place is None else _listed(place):
        names.setdefault(file.partition(".")[0], []).append(file)
    for name, key in keys.items():
        found = None if place is None else _first(place, names.get(str(key), []))
        if found is None:
            found = compute(name)
            if place is not None and key is not None:
                _keep(place, key, found)
        yield name, found


def key_of(content: dict[str, Any]) -> str | None:
    """64 hex digits of what decides the word pieces; None if any part of it is not known."""
    if any(value is None for value in content.values()):
        return None
    text = json.dumps({**content, "format": FORMAT}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def tokenizer_content(tokenizer: Any) -> str | None:
    """SHA-256 of all that decides what a fast tokenizer does; None if it is not a fast one.

    This is what `tokenizer.json` holds, whatever files it came from and whatever it is called; how
    the call before set truncation and padding is no part of it.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not hasattr(backend, "to_str"):
        return None
    rules = json.loads(backend.to_str())
    rules.pop("truncation", None)
    rules.pop("padding", None)
    around = [
        type(tokenizer).__name__,
        list(tokenizer.model_input_names),
        tokenizer.truncation_side,
        bool(getattr(tokenizer, "split_special_tokens", False)),
    ]
    return hashlib.sha256(json.dumps([rules, around]).encode()).hexdigest()


@lru_cache(maxsize=64)
def code_of(kind: type) -> str | None:
    """SHA-256 of the source files of a class and of those it inherits from.

    A hash rather than a number beside `encode` that somebody must remember to raise: a changed
    comment costs one more tokenisation, a forgotten number a wrong result. Functions that a task of
    your own takes from a third file are not seen: after changing these, `bluestab cache clear`.
    None if a source cannot be read, or was changed after this process may have loaded it.
    """
    digest = hashlib.sha256()
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in sys.stdlib_module_names:
            continue
        try:
            file = Path(inspect.getsourcefile(base) or "")
            if file.stat().st_mtime > STARTED:
                return None
            digest.update(file.read_bytes())
        except (OSError, TypeError):
            return None
        digest.update(base.__qualname__.encode())
    return digest.hexdigest()


def files() -> list[Path]:
    """What is kept, unfinished files included."""
    base = cache_dir()
    found: list[Path] = []
    for folder in [] if base is None else [base / name for name in FOLDERS]:
        with suppress(OSError):
            found += sorted(folder.iterdir())
    return found


def _make_room(folder: Path, left: float) -> None:
    """Remove the files used longest ago until the others take no more than `left` bytes."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_atime_ns, stat.st_size, path))
    taken = sum(n_bytes for _, n_bytes, _ in found)
    for _, n_bytes, path in sorted(found):
        if taken <= left:
            return
        with suppress(OSError):
            path.unlink()  # who has it mapped keeps it
            taken -= n_bytes


def _own_folder(name: str) -> Path | None:
    """This folder of the cache, made if needed; None if it is not ours alone to use."""
    base = cache_dir()
    if base is None:
        return None
    folder = base / name
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        stat = folder.stat()
        if stat.st_uid != os.geteuid():
            log.info("%s belongs to somebody else: nothing is kept there", folder)
            return None
        if stat.st_mode & 0o777 != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        log.info("%s cannot be used (%s): nothing is kept there", folder, error.strerror)
        return None
    return folder


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _find(folder: Path, key: str) -> pa.Table | None:
    """A whole file of this key, mapped."""
    return _first(folder, [name for name in _listed(folder) if name.startswith(key)])


def _first(folder: Path, names: list[str]) -> pa.Table | None:
    """The first whole one of these files, mapped; what is damaged is removed."""
    import pyarrow as pa

    for name in filter(FILE.fullmatch, names):
        path = folder / name
        try:
            if sha256_of(path) != name.split(".")[1]:
                raise ValueError("its content is not the one that was written")
            table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
            # used now, whatever the file system notes by itself: others make room first
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            return table
        except FileNotFoundError:
            continue  # `bluestab cache clear` in another process
        except (OSError, ValueError, pa.ArrowException) as error:
            log.info("%s is damaged (%s): computed again", path, error)
            with suppress(OSError):
                path.unlink()
    return None


def _keep(folder: Path, key: str, table: pa.Table) -> None:
    """Write aside, then rename: processes that do the same write the same."""
    import pyarrow as pa

    aside = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=".", dir=folder)  # readable by the owner only
        aside = Path(name)
        with os.fdopen(descriptor, "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
        aside.replace(folder / f"{key}.{digest_of(aside)}.arrow")
    except (OSError, pa.ArrowException) as error:
        log.info("%s cannot be written (%s): nothing is kept there", folder, error)
        if aside is not None:
            with suppress(OSError):
                aside.unlink()

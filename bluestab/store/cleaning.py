"""Passwords, tokens and keys that older versions left in the files of a store: found, and removed.

Only files that bluestab itself writes are looked at, and of these only texts. A file is written
aside and renamed. The record of a run lists digests of the files beside it: it is written first,
with those of the cleaned files, so that the same command goes on after a death at any point. Keys
and results stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bluestab.core import plain_files, secrets
from bluestab.core.errors import BluestabError, StoreError
from bluestab.core.types import RunRecord
from bluestab.store.artefacts import config_text
from bluestab.store.files import digest_of, entries, write_text
from bluestab.store.index import NAME as INDEX
from bluestab.store.records import to_json, to_text
from bluestab.store.store import KEY, Store, parse_record

TEXTS = (".json", ".yaml", ".txt", ".log", ".out", ".err", ".sh")
SHELVES = (".crashed", ".damaged", ".resume", ".slurm", "sweeps", "searches")
MOST_BYTES = 2**28


def files_with_secrets(store: Store) -> Iterator[Path]:
    """Files of a store that hold a password, a token or a key."""
    for folder in (path for path in entries(store.root, root=True) if KEY.fullmatch(path.name)):
        yield from (p for p in _texts(folder, deep=False) if _cleaned(p) is not None)
    for shelf in SHELVES:
        yield from (path for path in _texts(store.root / shelf) if _cleaned(path) is not None)


def clean(store: Store) -> Iterator[tuple[Path, str | None]]:
    """Take them out: the files that were written anew, with a sentence where one could not be."""
    found = list(files_with_secrets(store))
    if not found:
        return
    index = store.root / INDEX  # holds the texts of records; the next command writes a new one
    with suppress(OSError):
        index.unlink()
    for folder in dict.fromkeys(path.parent for path in found):
        paths = [path for path in found if path.parent == folder]
        try:
            _clean_together(folder, paths)
        except (OSError, StoreError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            yield from ((path, f"{path} cannot be cleaned ({said})") for path in paths)
        else:
            yield from ((path, None) for path in paths)
    with suppress(OSError):
        index.unlink()


def _clean_together(folder: Path, paths: list[Path]) -> None:
    """The files of one folder, its record first."""
    texts = {path: text for path in paths if (text := _cleaned(path)) is not None}
    file = folder / "record.json"
    if os.path.isfile(file) and not os.path.islink(file):
        with suppress(StoreError):  # a damaged one lists nothing
            record = parse_record(file)
            digests = {path.name: _digest(text) for path, text in texts.items() if path != file}
            texts[file] = to_text(_with(_without_secrets(record), digests, folder))
    for path in sorted(texts, key=lambda path: path != file):
        write_text(path, texts[path])


def _with(record: RunRecord, digests: dict[str, str], folder: Path) -> RunRecord:
    """With the digests of the files as they will be, of those that are as it lists them now."""
    listed = record.measured["files"]
    if listed is None:
        return record
    whole = {n: d for n, d in digests.items() if n in listed and digest_of(folder / n) == listed[n]}
    return replace(record, measured={**record.measured, "files": {**listed, **whole}})


def _without_secrets(record: RunRecord) -> RunRecord:
    """Its command and its error; what decides the key is as it is."""
    result, measured = dict(record.result), dict(record.measured)
    if isinstance(measured.get("command"), str):
        measured["command"] = secrets.cleaned_command(measured["command"])
    if result.get("error"):
        error = result["error"]
        result["error"] = {**error, "message": secrets.cleaned(error["message"])}
    return replace(record, result=result, measured=measured)


def _cleaned(path: Path) -> str | None:
    """What a file should hold instead; None if it holds no secret, or cannot be read."""
    try:
        text = plain_files.read_bounded(path, MOST_BYTES).decode("utf-8", errors="surrogateescape")
    except OSError:
        return None
    # the keys of runs, of which a manifest may hold 100,000, are no secrets
    if not secrets.HINT.search(text.replace('"key":', "")):
        return None
    if path.name == "record.json":
        with suppress(StoreError):
            record = parse_record(path)
            found = _without_secrets(record)
            return to_text(found) if found != record else None
    elif path.name == "config.yaml":
        with suppress(BluestabError, KeyError, TypeError, ValueError):
            cfg = plain_files.read_yaml(path, references=True)
            stored = secrets.stored(cfg)
            return config_text(stored) if stored != cfg else None
    elif path.suffix == ".json":
        with suppress(ValueError, RecursionError):
            content: Any = json.loads(text)
            tree = secrets.cleaned_tree(content)
            return to_json(tree) if tree != content else None
    found_text = secrets.cleaned(text)
    with suppress(UnicodeEncodeError):
        found_text.encode()
        return found_text if found_text != text else None
    return None


def _texts(folder: Path, *, deep: bool = True) -> Iterator[Path]:
    """Text files in a folder, and in those in it; links left out."""
    for path in entries(folder):
        if os.path.islink(path):
            continue
        if os.path.isdir(path):
            yield from _texts(path) if deep else ()
        elif path.suffix in TEXTS and os.path.isfile(path):
            yield path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

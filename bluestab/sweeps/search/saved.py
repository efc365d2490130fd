"""A search as its last command asked for it, kept beside its study as `search.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from bluestab.core.config import REFERENCE, quoted
from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.paths import real
from bluestab.core.plain_files import read_text
from bluestab.core.provenance import command_line
from bluestab.core.secrets import cleaned_tree, cleaned_value, is_cleaned
from bluestab.store.files import write_text, written_at
from bluestab.store.records import to_json
from bluestab.sweeps.grouping import GROUP
from bluestab.sweeps.search.defaults import as_before
from bluestab.sweeps.search.plan import plan_search
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.storage import USUAL, file_of

FILE = "search.json"

NOT_A_SEARCH = (
    *(KeyError, TypeError, AttributeError, ValueError, RecursionError, OverflowError),
    *(HydraException, OmegaConfBaseException),
)
"""What planning raises for knobs and values that no command has written."""


def write_search_file(search: Search) -> None:
    """For people and `bluestab search`: what was asked, without passwords."""
    kept, inside = _portable(search)
    content = {
        "name": search.name,
        "command": command_line(),
        "storage": search.storage_reference or cleaned_value(kept),
        "storage_is_in": "store" if inside else None,
        "folder": os.getcwd(),
        "asked": cleaned_tree({**search.asked, "node": {**search.asked["node"], "storage": None}}),
        "group": search.group,
        "written": datetime.now(UTC).isoformat(),
    }
    write_text(search.folder / FILE, to_json(content))


FILES = (
    *("task.train", "task.validation", "task.test", "task.data_dir"),
    *("model.path", "model.config"),
)
"""Knobs that may name a file or a folder by its place."""


def _portable(search: Search) -> tuple[str, bool]:
    """The storage, as it is written down: relative to the store if it lies in it, else absolute."""
    file = file_of(search.storage)
    if file is None:
        return search.storage, False
    place, root = real(file), real(search.root)
    inside = place.is_relative_to(root)
    path = place.relative_to(root) if inside else place
    return _with_file(search.storage, path), inside


def _with_file(storage: str, path: Path) -> str:
    """The same kind of storage in another file."""
    if "://" not in storage:
        return str(path)
    scheme, _, rest = storage.partition("///")
    _, mark, options = rest.partition("?")
    return f"{scheme}///{path}{mark}{options}"


def _found(storage: str, content: Mapping[str, Any], folder: Path, root: Path) -> str:
    """The storage from here: a store may have been moved, or be read from another folder.

    Older versions wrote the place of that day; the usual file lies beside `search.json`.
    """
    if REFERENCE.search(storage) or is_cleaned(storage):
        return storage
    file = file_of(storage)
    if file is None:
        return storage
    if content.get("storage_is_in") == "store":
        if file.is_absolute() or ".." in file.parts:
            raise ValueError(f"storage is {storage!r}, which is not in the store")
        return _with_file(storage, root / file)
    if file.parts[-3:] == ("searches", folder.name, USUAL):
        return _with_file(storage, folder / USUAL)
    return storage


def _from_here(fixed: Mapping[str, Any], folder: str) -> dict[str, str]:
    """Files that the command named relative to its folder, as they are named from this one."""
    found = {}
    for name in FILES:
        text = str(fixed.get(name, "")).strip("'\"")
        if not text or Path(text).is_absolute() or not os.path.isabs(folder):
            continue
        if os.getcwd() != folder and (Path(folder) / text).exists():
            found[name] = quoted(str(Path(folder) / text))
    return found


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def fixed_before(search: Search) -> dict[str, str] | None:
    """What an earlier command fixed for all points of this study; None: there was none here."""
    try:
        asked = json.loads((search.folder / FILE).read_text(encoding="utf-8"))["asked"]
        return as_before(asked["fixed"], {**asked["choices"], **asked["node"].get("params", {})})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or it is damaged
        return None


def read_search(root: Path, name: str | None, storage: str | None = None) -> Search:
    """A search of a store, as its last command asked for it: for workers elsewhere, and reports.

    name     None: the one that was started last
    storage  in place of the one it was begun with, which is kept without its password

    Raises StoreError if there is none, ConfigError if it cannot be planned any more.
    """
    files = sorted(root.glob(f"searches/*/{FILE}"), key=written_at)
    known = {file.parent.name: file for file in files}
    if not known or (name is not None and name not in known):
        raise StoreError(
            f"the store '{root}' has no search{'' if name is None else f' {name!r}'}"
            + (f"; it has: {', '.join(known)}" if known else "")
        )
    file = known[name or list(known)[-1]]
    try:
        content = json.loads(read_text(file))
        asked, kept = content["asked"], content["storage"]
        asked = {key: dict(asked[key]) for key in ("node", "fixed", "choices")}
        kept, group = _found(str(kept), content, file.parent, root), content.get("group", 1)
        asked["fixed"] = as_before(
            asked["fixed"], {**asked["choices"], **asked["node"].get("params", {})}
        )
        asked["fixed"] |= _from_here(asked["fixed"], str(content.get("folder", "")))
        if not GROUP[0](group):
            raise ValueError(f"group is {group!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{file} is damaged ({error}); the command of the search writes it again"
        ) from error
    if storage is None and REFERENCE.search(kept):  # of a stranger's choice: it is not filled in
        raise ConfigError(
            f"the storage of search {file.parent.name} was given as {kept}, which is not looked up "
            "here; give it with --storage URL"
        )
    if storage is None and not is_cleaned(kept):
        storage = kept
    if storage is None:
        raise ConfigError(
            f"the storage of search {file.parent.name} needs its password: {kept}; "
            "give it with --storage URL"
        )
    asked["fixed"]["store"] = quoted(str(root))
    node = {**asked["node"], "storage": storage}
    try:
        found = plan_search(
            node, name=file.parent.name, fixed=asked["fixed"], choices=asked["choices"]
        )
        return replace(found, group=group)
    except NOT_A_SEARCH as error:  # not what `write_search_file` wrote
        raise StoreError(
            f"{file} is damaged ({_first_line(error)}); the command of the search writes it again"
        ) from error

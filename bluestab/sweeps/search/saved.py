"""A search as its last command asked for it, kept beside its study as `search.json`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from bluestab.core.config import quoted
from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.provenance import command_line
from bluestab.core.secrets import cleaned_tree, cleaned_value, is_cleaned
from bluestab.store.files import write_text
from bluestab.store.records import to_json
from bluestab.sweeps.grouping import GROUP
from bluestab.sweeps.search.plan import plan_search
from bluestab.sweeps.search.spec import Search

FILE = "search.json"


def write_search_file(search: Search) -> None:
    """For people and `bluestab search`: what was asked, without passwords."""
    content = {
        "name": search.name,
        "command": command_line(),
        "storage": cleaned_value(search.storage),
        "asked": cleaned_tree({**search.asked, "node": {**search.asked["node"], "storage": None}}),
        "group": search.group,
    }
    write_text(search.folder / FILE, to_json(content))


def read_search(root: Path, name: str | None, storage: str | None = None) -> Search:
    """A search of a store, as its last command asked for it: for workers elsewhere, and reports.

    name     None: the one that was started last
    storage  in place of the one it was begun with, which is kept without its password

    Raises StoreError if there is none, ConfigError if it cannot be planned any more.
    """
    files = sorted(root.glob(f"searches/*/{FILE}"), key=lambda file: file.stat().st_mtime_ns)
    known = {file.parent.name: file for file in files}
    if not known or (name is not None and name not in known):
        raise StoreError(
            f"the store '{root}' has no search{'' if name is None else f' {name!r}'}"
            + (f"; it has: {', '.join(known)}" if known else "")
        )
    file = known[name or list(known)[-1]]
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        asked, kept = content["asked"], content["storage"]
        asked = {key: asked[key] for key in ("node", "fixed", "choices")}
        kept, group = str(kept), content.get("group", 1)
        if not GROUP[0](group):
            raise ValueError(f"group is {group!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{file} is damaged ({error}); the command of the search writes it again"
        ) from error
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
    except (KeyError, TypeError, AttributeError) as error:  # not what `write_search_file` wrote
        raise StoreError(
            f"{file} is damaged ({error!r}); the command of the search writes it again"
        ) from error

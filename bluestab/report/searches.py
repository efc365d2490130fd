"""The searches of a store, as report.html shows them: each left a `found.json` beside its study."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from bluestab.core.plain_files import read_text
from bluestab.store.store import Store

FILE = "found.json"


def read_entries(store: Store, sweep: str | None) -> list[dict[str, Any]]:
    """The searches of a store, or that whose confirmation a sweep is; damaged ones are left out:
    the next command of the search writes them again."""
    found = []
    for file in sorted(store.root.glob(f"searches/*/{FILE}")):
        if sweep is None or sweep == confirmation_of(file.parent.name):
            with suppress(OSError, ValueError, RecursionError):
                found.append(json.loads(read_text(file)))
    return found


def confirmation_of(search: str) -> str:
    """The name of the sweep that confirms a search on fresh seeds."""
    return f"{search}-confirmed"

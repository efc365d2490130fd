"""Every launch that asked for runs stands in the manifest: seeds that were added later are known.

A p is that of one look at the seeds. Whoever sees results, and then adds seeds, looks again; unless
it was declared before, the report must know (`report/frames/looks.py`). What was asked for when is
known to the launches alone: reading a report or a status leaves no trace. A `bluestab run` without
`-m` writes no manifest: its run says by its own command line that it came by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bluestab.core.errors import StoreError
from bluestab.core.provenance import is_of_one_run
from bluestab.store.store import Store

Launch = Mapping[str, Any]
"""asked: runs that no earlier launch asked for; done: finished runs of the same configurations at
that time; added_to: cells that had finished runs, and were given more seeds; command."""


def launches(
    store: Store, runs: Iterable[tuple[str, str]], command: str, own: str | None = None
) -> list[Launch]:
    """Earlier launches for the cells of these runs, `(key, cell)`, and this one if it asks for
    runs that none of them asked for.

    Manifests of any name count: a number of seeds is part of the name that a sweep gets by itself.
    own  the only manifest that counts: of a confirmation, whose seeds stand by themselves
    """
    asked = dict(runs)
    cells = set(asked.values())
    before: dict[str, str] = {}
    found: list[Launch] = []
    for manifest in store.whole_manifests():
        if own is not None and manifest["name"] != own:
            continue
        listed = {run["key"]: run.get("cell") for run in manifest["runs"]}
        if cells & {*listed.values()}:
            before |= {key: str(cell) for key, cell in listed.items() if cell in cells}
            found += [one for one in manifest.get("launches", ()) if one not in found]
    new = {key: cell for key, cell in asked.items() if key not in before}
    if new:
        there = {key: cell for key, cell in (before | new).items() if store.has(key)}
        done, n_runs = [*there.values()], Counter(asked.values())
        added = sorted(
            {cell for key, cell in new.items() if key not in there} & {*done}
            | {new[key] for key in {*new} & {*there} if n_runs[new[key]] > 1 and _alone(store, key)}
        )
        found.append({"asked": len(new), "done": len(done), "added_to": added, "command": command})
    return found


def _alone(store: Store, key: str) -> bool:
    """Whether a command of its own made the run, so that each seed may have been a look."""
    try:
        return is_of_one_run(store.read(key).measured.get("command"))
    except StoreError:  # damaged: it will be done again
        return False

"""What report.html shows of a search: kept beside the study as `found.json`, made anew by every
look at it, so that a page needs neither the study nor its database."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from bluestab.config import compose, resolved
from bluestab.files import write_text
from bluestab.report.page_data import table
from bluestab.report.search_frame import Found, verdict_sentences
from bluestab.search.objectives import maximised
from bluestab.search.points import shown
from bluestab.store import Store, to_json

FILE = "found.json"


def write_entry(found: Found) -> None:
    """Keep it in the folder of the search."""
    write_text(found.search.folder / FILE, to_json(entry(found)))


def entry(found: Found) -> dict[str, Any]:
    """The search as a JSON value; its points in the order in which they were drawn.

    points  `points_frame`, and `point`: its knobs in words; ranked: trials, the best first
    """
    search, frame = found.search, found.frame
    knobs = [knob.name for knob in search.space.knobs]
    rows = frame[knobs].to_dict("records") if len(frame) else []
    points = [{k: v for k, v in row.items() if v is not None and v == v} for row in rows]
    any_run = resolved(compose(search.job(points[0], search.seeds[0]))) if points else {}
    return {
        "name": search.name,
        "task": any_run["task"]["name"] if points else "",
        "model": any_run["model"]["name"] if points else "",
        "objective": list(search.objective),
        "maximised": [maximised(name) for name in search.objective],
        "seeds": list(search.seeds),
        "n_trials": search.n_trials,
        "sentences": verdict_sentences(found),
        "knobs": [
            {"name": k.name, "text": k.text, "log": bool(getattr(k.space, "log", False))}
            for k in search.space.knobs
        ],
        "points": table(frame.assign(point=[shown(point) for point in points])),
        "ranked": [trial.number for trial in found.ranked],
        "importance": dict(found.importance),
    }


def read_entries(store: Store, sweep: str | None) -> list[dict[str, Any]]:
    """The searches of a store, or that whose confirmation a sweep is; damaged ones are left out:
    the next `bluestab search` writes them again."""
    found = []
    for file in sorted(store.root.glob(f"searches/*/{FILE}")):
        if sweep is None or sweep == confirmation_of(file.parent.name):
            with suppress(OSError, ValueError):
                found.append(json.loads(file.read_text(encoding="utf-8")))
    return found


def confirmation_of(search: str) -> str:
    """The name of the sweep that confirms a search on fresh seeds."""
    return f"{search}-confirmed"

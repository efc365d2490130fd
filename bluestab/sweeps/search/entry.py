"""What report.html shows of a search: kept beside the study as `found.json`, made anew by every
command of it, so that a page needs neither the study nor its database."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from bluestab.core.config import compose, resolved
from bluestab.report.searches import FILE
from bluestab.report.section import plain, table
from bluestab.store.files import write_text
from bluestab.store.records import to_json
from bluestab.sweeps.search.findings import Findings, verdict_sentences
from bluestab.sweeps.search.objectives import maximised, range_of
from bluestab.sweeps.search.points import shown
from bluestab.tasks.own import name_from


def keep_entry(found: Findings) -> None:
    """Keep it in the folder of the search; not in a store that is somebody else's."""
    with suppress(OSError):
        write_text(found.search.folder / FILE, to_json(entry(found)))


def entry(found: Findings) -> dict[str, Any]:
    """The search as a JSON value; its points in the order in which they were drawn.

    range   of the metric; ranges: of the objectives; None: no end
    points  `points_frame`, and `point`: its knobs in words; ranked: trials, the best first
    """
    search, frame = found.search, found.frame
    knobs = [knob.name for knob in search.space.knobs]
    rows = frame[knobs].to_dict("records") if len(frame) else []
    points = [{k: v for k, v in row.items() if v is not None and v == v} for row in rows]
    any_run = resolved(compose(search.job(points[0], search.seeds[0]))) if points else {}
    return {
        "name": search.name,
        "task": _task_name(any_run["task"]) if points else "",
        "model": any_run["model"]["name"] if points else "",
        "objective": list(search.objective),
        "maximised": [maximised(name, search.sign) for name in search.objective],
        "range": [plain(end) for end in search.range],
        "ranges": {
            name: [plain(end) for end in range_of(name, search.range)] for name in search.objective
        },
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


def _task_name(node: Mapping[str, Any]) -> str:
    """As the records of its runs have it."""
    return str(node["name"] or name_from(node["train"]))

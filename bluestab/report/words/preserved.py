"""What became of earlier tasks (`score_earlier`): their test scores now, beside those of then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import StoreError
from bluestab.core.types import RunRecord
from bluestab.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

Then = tuple[str, str]
"""An earlier run: its key, and which of its weights were gone on from."""


def of_run(record: RunRecord, store: Store) -> list[str]:
    """A sentence for each earlier task of a run whose record of then is in the store."""
    entries = record.result.get("earlier") or ()
    source: Mapping[str, str] | None = record.measured["names"].get("init_from")
    said: list[str] = []
    for entry in reversed(entries):  # the last one is what the run went on from
        if source is None or source["run"] != entry["run"]:
            break
        try:
            before = store.read(source["run"])
        except StoreError:
            break
        metrics = before.result["metrics"]
        if metrics is not None:
            then, now = metrics[source["at"]]["test"], entry["last"]
            said.insert(0, _sentence(entry["task"], entry["metric"], then, now))
        source = before.measured["names"].get("init_from")
    return said


def _sentence(task: str, metric: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    start, end = then.get(metric), now.get(metric)
    if dict(then) == dict(now):
        return f"{task} scored again: {metric} {_shown(end)}, all scores as before to the last bit"
    return f"{task} scored again: {metric} {_shown(end)}, before {_shown(start)}"


def _shown(score: float | None) -> str:
    return "undefined" if score is None else f"{score:.4f}"


def of_arms(scored: pd.DataFrame) -> Iterator[str]:
    """A sentence per arm and earlier task: whether its scores are those of then, over all runs
    whose earlier runs are in the table, too.

    scored  rows of runs at their last weights
    """
    if "earlier" not in scored:
        return
    rows = {row["key"]: row for row in scored.to_dict("records")}
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in rows.values():
        for task, change in _changes(row, rows):
            found[row["task"], row["model"], row["arm"], task].append(change)
    for (task, model, arm, earlier), changes in found.items():
        said = f"{task} with {model}, {arm}: test scores of {earlier}"
        if not any(changes):
            runs = "the one run" if len(changes) == 1 else f"all {len(changes)} runs"
            yield f"{said} are as before in {runs}, to the last bit"
            continue
        n = sum(map(bool, changes))
        mean = sum(changes) / len(changes)
        yield (
            f"{said} changed in {n} of {len(changes)} runs, by {mean:+.4f} on average "
            f"({min(changes):+.4f} to {max(changes):+.4f})"
        )


def _changes(row: Mapping[str, Any], rows: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(earlier task, score now minus score then), the latest first, as far as both are known."""
    source = row["init_from"]
    for task, now in reversed(row["earlier"] or ()):
        key, _, at = str(source).rpartition(":")
        before = rows.get(key)
        if before is None or at != "last" or before["task"] != task or before["score"] is None:
            return
        if now is not None:
            yield task, now - before["score"]
        source = before["init_from"]

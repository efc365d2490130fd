"""Stored runs whose failure bound was made for another metric or other test items: judged again.

Records stay as they are; the report applies the bound that a run of today would have
(`tasks.bounds`) to the scores in them, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import StoreError
from bluestab.core.printable import counted
from bluestab.core.types import RunRecord
from bluestab.store.artefacts import read_predictions
from bluestab.store.store import Store
from bluestab.tasks.bounds import bound_of, misfits
from bluestab.tasks.metric import metric_of_result

if TYPE_CHECKING:
    import pandas as pd

PREDICTIONS = "predictions.parquet"
UNKNOWN = "unknown"


class Judge:
    """Applies the bound that fits; of every cell and fold the test items are read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bounds: dict[tuple[str, Any], float | None] = {}

    def again(self, record: RunRecord) -> RunRecord:
        """The record with `degenerate` and `failed_below` as they should be, and `judged_again`:
        the bound that it was stored with, or `unknown` if its test items cannot be read."""
        result = record.result
        task = result["config"].get("task") or {}
        metric = metric_of_result(result)
        stored = result.get("failed_below")
        if (
            result["status"] != "done"
            or not metric.higher_is_better  # it never had the yaml's
            or stored != task.get("failed_below")
            or not misfits(record.measured["names"]["task"], task)
        ):
            return record
        place = (result["cell"], task.get("fold"))
        if self._bounds.get(place) is None:
            self._bounds[place] = self._bound(record, metric.name, task)
        bound = self._bounds[place]
        if bound == stored:
            return record
        if bound is None:
            return replace(record, result={**result, "judged_again": UNKNOWN})
        scores = {at: found["test"][metric.name] for at, found in result["metrics"].items()}
        degenerate = {at: metric.fails(score, bound) for at, score in scores.items()}
        again = {"degenerate": degenerate, "failed_below": bound, "judged_again": stored}
        return replace(record, result={**result, **again})

    def _bound(self, record: RunRecord, metric: str, task: Mapping[str, Any]) -> float | None:
        path = self._store.folder(record.key) / PREDICTIONS
        if metric.startswith("entity"):
            return bound_of(metric, ())
        try:
            files = record.measured.get("files") or {}
            table = read_predictions(path, files.get(PREDICTIONS)) if path.is_file() else None
        except StoreError:  # said where predictions are read for themselves
            return None
        if table is None:
            return None
        at_last = [at == "last" for at in table["at"].to_pylist()]
        targets = [t for t, last in zip(table["target"].to_pylist(), at_last, strict=True) if last]
        return bound_of(
            metric,
            targets,
            label_names=task.get("label_names"),
            positive=task.get("positive"),
        )


def judging_sentences(scored: pd.DataFrame) -> Iterator[str]:
    """One per arm and fold with runs that were judged again, or should have been.

    scored  runs with a score, at one step
    """
    if "judged_again" not in scored or scored["judged_again"].isna().all():
        return
    part = scored[scored["judged_again"].notna()]
    names = ["task", "model", "arm", "fold"]
    for (task, model, arm, fold), runs in part.groupby(names, sort=False, dropna=False):
        about = f"{task} with {model}, {arm}" + ("" if fold != fold else f", fold {int(fold)}")
        first = runs.iloc[0]
        known = runs[runs["judged_again"] != UNKNOWN]
        if len(known):
            yield (
                f"{about}: {counted(len(known), 'run is', 'runs are')} judged again: their failure "
                f"bound ({known.iloc[0]['judged_again']:g}) was made for another metric or other "
                f"test items, for these it is {known.iloc[0]['failed_below']:.4g} "
                f"({first['metric']}); the records stay as they are"
            )
        if len(known) < len(runs):
            yield (
                f"{about}: the failure bound of {counted(len(runs) - len(known), 'run')} was made "
                "for another metric or other test items, and their own cannot be read: failed or "
                "not is open"
            )

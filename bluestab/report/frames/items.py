"""Stored predictions -> intervals that hold if other test items could have come, too.

Twenty sentence pairs carry a noise of their own, which no number of seeds takes away: an interval
over seeds is about this test set, an interval over seeds and items about the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bluestab import stats
from bluestab.report.frames.bounded import keep_in_range
from bluestab.report.frames.pairing import items_digest, items_order
from bluestab.report.tables import there
from bluestab.tasks.score_sums import SCORES, FloatArray, of_items, score

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

COLUMNS = ("items_low", "items_high", "delta_items_low", "delta_items_high")
RESAMPLES = 999
LEVEL = 0.95

Row = dict[str, Any]
Seeds = dict[Any, FloatArray | float]


class Items:
    """What every test item adds to the score of every run, for metrics of `score_sums`.

    hashed  cell -> its config
    """

    def __init__(self, hashed: Mapping[str, Mapping[str, Any]]) -> None:
        self._hashed = hashed
        self._seen: dict[tuple[str, str], Seeds] = {}
        self.digests: dict[str, str] = {}
        """Cell -> its test items, of cells without folds."""

    def see(self, runs: Sequence[Row], predictions: Sequence[pa.Table]) -> None:
        """Note the runs of one cell and `at`, unless their predictions do not give the scores
        that stand in their records: then nothing is known about single items."""
        metric, cell, at = (runs[0][name] for name in ("metric", "cell", "at"))
        if at == "last" and not there(runs[0]["fold"]):
            self.digests[cell] = items_digest(predictions[0])
        positive = [str(name) for name in self._hashed[cell]["task"].get("positive") or ()]
        targets = predictions[0]["target"].to_pylist()
        types = word_types(targets) if metric == "word_macro_f1" else ()
        found: Seeds = {}
        order = items_order(predictions[0])
        for run, table in zip(runs, predictions, strict=True):
            predicted = table["prediction"].to_pylist()
            try:
                items = of_items(metric, predicted, targets, positive=positive, types=types)
            except (ValueError, TypeError):  # predictions of another kind than the metric's
                return
            if items is None:
                return
            whole = score(metric)(items.sum(axis=0))
            if np.isnan(whole):
                found[run["streams"]] = run["score"]  # undefined, as of a constant prediction
            elif abs(whole - run["score"]) < 1e-6:
                found[run["streams"]] = items[order]
            else:
                return
        self._seen[cell, at] = found

    def beside(self, summary: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
        """`summary`, `COLUMNS` filled: of the mean, and of its change on the seeds shared with the
        baseline. None where not every run with a score has left its predictions."""
        scored = runs[runs["status"] != "crashed"].to_dict("records") if len(runs) else []
        for run in scored:
            if run["status"] == "diverged":
                self._seen.setdefault((run["cell"], run["at"]), {})[run["streams"]] = run["score"]
        expected: dict[tuple[str, str], set[Any]] = {}
        for run in scored:
            expected.setdefault((run["cell"], run["at"]), set()).add(run["streams"])
        complete = {
            place: seeds for place, seeds in self._seen.items() if set(seeds) == expected.get(place)
        }
        cells = {
            (row["task"], row["model"], row["arm"]): row["cell"]
            for row in summary.to_dict("records")
        }
        table = summary.copy()
        for index, row in zip(table.index, summary.to_dict("records"), strict=True):
            own, metric = complete.get((row["cell"], row["at"])), SCORES.get(row["metric"])
            if own is None or metric is None:  # of diverged runs alone, whatever their metric
                continue
            found = stats.items_and_seeds_interval(
                metric,
                list(own.values()),
                over_seeds=_printed(row, "ci"),
                resamples=RESAMPLES,
            )
            rival = cells.get((row["task"], row["model"], row["baseline"]))
            other = complete.get((rival, row["at"]), {}) if rival else {}
            shared = [seed for seed in own if seed in other]
            if len(shared) > 1 and not there(row["delta_low"]):
                shared = []  # so few seeds have no interval, and with items it would be wider
            change = stats.items_and_seeds_interval(
                metric,
                [own[seed] for seed in shared],
                minus=[other[seed] for seed in shared],
                over_seeds=_printed(row, "delta"),
                resamples=RESAMPLES,
            )
            for name, interval in (("items", found), ("delta_items", change)):
                if interval is not None:
                    row |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
            keep_in_range(row)
            table.loc[index, list(COLUMNS)] = [row[name] for name in COLUMNS]
        return table


def _printed(row: Row, name: str) -> stats.Interval | None:
    """The interval over seeds that stands beside it: with items it must not be narrower."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return stats.Interval(low, high, LEVEL, "printed") if there(low) and there(high) else None


def word_types(targets: Sequence[Sequence[str]]) -> list[str]:
    """The types of words in IOB2 tags."""
    return sorted({tag[2:] for tags in targets for tag in tags if tag != "O"})

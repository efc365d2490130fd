"""What several seeds can be expected to bring to somebody who keeps one of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from bluestab import stats
from bluestab.report.frames.folds import fold_of
from bluestab.report.frames.runs import ATS, Row, scored
from bluestab.report.section import Json, Section
from bluestab.tasks.metric import metric_of_row

if TYPE_CHECKING:
    import pandas as pd


def expected_scores(runs: pd.DataFrame) -> Json:
    """at -> cell -> expected test score of the best of 1, 2, .. seeds by validation; not of folds,
    whose runs are scored on different items."""
    found: Json = {}
    for at in ATS:
        cells: dict[str, list[Row]] = defaultdict(list)
        for run in scored(runs, at):
            if fold_of(run["streams"]) is None:
                cells[run["cell"]].append(run)
        found[at] = {
            cell: [
                float(v)
                for v in stats.expected_chosen(
                    [metric_of_row(run).sign * run["judged"] for run in group],
                    [run["score"] for run in group],
                    len(group),
                )
            ]
            for cell, group in cells.items()
        }
    return found


BUDGET = Section(
    "budget",
    "If you run several seeds and keep one",
    "Expected test score of the seed that validation picks among k; it may fall where validation "
    "selects noise. Dashed: the baseline.",
    data=lambda results: {"budget": expected_scores(results.runs)},
)

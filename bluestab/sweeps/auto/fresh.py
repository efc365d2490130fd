"""Two arms on the same seeds, by validation or by test scores: what the claim rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from bluestab.core.types import RunRecord
from bluestab.report.frames.contrasts import contrasts
from bluestab.report.frames.folds import without_fold
from bluestab.report.frames.runs import rows_of
from bluestab.report.frames.summary import arm_runs
from bluestab.tasks.metric import metric_of_row

Row = dict[str, Any]
Part = Literal["validation", "test"]


def row_of(record: RunRecord) -> Row:
    """The run at its last step, as reports have it."""
    return next(row for row in rows_of(record) if row["at"] == "last")


def quality(record: RunRecord) -> float:
    """Its validation score, a failed run's failure score, where more is better."""
    row = row_of(record)
    return float(metric_of_row(row).sign * row["judged"])


def contrast(own: Sequence[RunRecord], other: Sequence[RunRecord], part: Part) -> Row:
    """Change of the mean of `own` against `other` over shared seeds, its test and its interval, as
    reports have them (`contrasts`), with `mean` and `mean_against`.

    Seeds that each take one fold of a cross-validation are what is repeated: were the arms alike,
    their scores could be exchanged at every seed, whatever the fold.
    By validation a run failed if it has no score or none better than the task's bound.
    """
    sides = [[_by(row_of(record), part) for record in side] for side in (own, other)]
    arms = [arm_runs(side) for side in sides]
    found = contrasts({"own": (arms[0], arms[1])})["own"]
    shared = [seed for seed in arms[0].scores if seed in arms[1].scores]
    for name, arm in zip(("mean", "mean_against"), arms, strict=True):
        found[name] = sum(arm.scores[s] for s in shared) / len(shared) if shared else None
    return found


def _by(row: Row, part: Part) -> Row:
    row = {**row, "streams": without_fold(row["streams"])}
    if part == "test":
        return row
    bound, value = row["failed_below"], row["validation"]
    failed = row["status"] == "diverged" or value is None
    if not failed and bound is not None:
        failed = metric_of_row(row).fails(value, bound)
    return {**row, "score": row["judged"], "failed": failed}

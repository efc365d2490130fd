"""What a technique changes over the tasks of a sweep, all together: the question of studies that
compare techniques (Tinn et al. 2023), which no single task answers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.report.frames.folds import mean_over_folds
from bluestab.report.section import Block, Grid, Results, Section
from bluestab.report.tables import LEVEL, there
from bluestab.report.words.phrases import number
from bluestab.stats.across import Spread, across
from bluestab.tasks.metric import metric_of_row

Row = dict[str, Any]

COLUMNS = (
    "model", "arm", "baseline", "at", "n_tasks", "tasks", "change", "low", "high", "p",
    "p_adjusted", "all_low", "all_high", "tasks_low", "tasks_high",
    "raised", "lowered", "left_out",
)  # fmt: skip


def over_tasks_frame(results: Results) -> pd.DataFrame:
    """One row per model, arm and `at` for arms that are compared on two tasks or more.

    tasks       those that are counted, n_tasks of them
    change      mean over tasks of the change of the score on shared seeds; every task counts the
                same, in its own metric. low, high: over seeds, for these tasks; p that it is
                nothing; hypothesis: the mean over tasks of the changes is 0
    p_adjusted, all_low, all_high   over all arms of a model (Bonferroni)
    tasks_low, tasks_high   the same for tasks like these: Student's interval over their changes,
                which takes them for a sample
    raised, lowered   tasks where the arm is shown to raise, or lower, the score after a correction
                over all arms and tasks of a model (Holm): better or worse is for the metric to say
    left_out    tasks that are compared but not counted: their metric has no range, or seeds were
                added after results
    """
    table: list[Row] = []
    for (model, at), rows in _compared(results.summary).items():
        shown = dict(_shown(rows))
        by_arm: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows:
            by_arm[row["arm"], row["baseline"]].append(row)
        part: list[Row] = []
        for (arm, baseline), own in by_arm.items():
            found = _row(results.runs, own, shown)
            if found is not None:
                names = {"model": model, "arm": arm, "baseline": baseline, "at": at}
                part.append({**names, **found})
        for found in part:
            _for_all(found, len(part))
        table += part
    return pd.DataFrame(table, columns=list(COLUMNS), dtype=object)


def _compared(summary: pd.DataFrame) -> Mapping[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in summary.to_dict("records") if len(summary) else ():
        if there(row["delta"]):
            found[row["model"], row["at"]].append(row)
    return found


def _shown(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str], bool]]:
    """(task, arm) -> whether it is shown to differ when all tasks and arms are corrected for."""
    adjusted = stats.holm([row["p"] if there(row["p"]) else None for row in rows])
    for row, p in zip(rows, adjusted, strict=True):
        yield (row["task"], row["arm"]), p is not None and p < LEVEL


def _row(
    runs: pd.DataFrame, rows: Sequence[Row], shown: Mapping[tuple[str, str], bool]
) -> Row | None:
    counted = [r for r in rows if math.isfinite(metric_of_row(r).most) and not there(r["looked"])]
    if len({row["task"] for row in counted}) < 2:
        return None
    found = {row["task"]: spread_of(_changes(runs, row), _sizes(runs, row)) for row in counted}
    weights = dict.fromkeys(found, 1 / len(found))
    total = across(found, weights)
    changes = [row["delta"] for row in counted]
    likes = stats.t_interval(changes)
    ranges = [metric_of_row(row) for row in counted]
    widest = math.fsum(one.most - one.least for one in ranges) / len(ranges)
    sure = [row for row in counted if shown[row["task"], row["arm"]]]
    return {
        "n_tasks": len(found),
        "tasks": " ".join(found),
        "change": stats.mean(changes),
        "total": total,
        "widest": widest,
        "p": None if total is None else total.p,
        "tasks_low": None if likes is None else likes.low,
        "tasks_high": None if likes is None else likes.high,
        "raised": " ".join(row["task"] for row in sure if row["delta"] > 0),
        "lowered": " ".join(row["task"] for row in sure if row["delta"] < 0),
        "left_out": " ".join(row["task"] for row in rows if row not in counted),
    }


def _for_all(row: Row, n_arms: int) -> None:
    """Intervals of this arm alone, and for all arms of its model at once, in place; none reaches
    beyond the largest change that there can be."""
    total, widest = row.pop("total"), row.pop("widest")
    if total is not None:
        alone, family = total.interval(1 - LEVEL), total.interval(1 - LEVEL / n_arms)
        row |= {"low": alone.low, "high": alone.high}
        row |= {"all_low": family.low, "all_high": family.high}
        row["p_adjusted"] = min(1.0, n_arms * total.p)
    for end in ("low", "high", "all_low", "all_high", "tasks_low", "tasks_high"):
        if there(row.get(end)):
            row[end] = min(max(row[end], -widest), widest)


def _changes(runs: pd.DataFrame, row: Row) -> dict[Any, float]:
    """Streams -> change of the score against the baseline of the row."""
    part = runs[
        (runs["task"] == row["task"])
        & (runs["model"] == row["model"])
        & (runs["at"] == row["at"])
        & (runs["status"] != "crashed")
    ]
    own, reference = (
        dict(zip(chosen["streams"], chosen["score"].astype(float), strict=True))
        for chosen in (part[part["arm"] == row["arm"]], part[part["arm"] == row["baseline"]])
    )
    return {streams: own[streams] - reference[streams] for streams in own if streams in reference}


def _sizes(runs: pd.DataFrame, row: Row) -> tuple[int, int] | None:
    part = runs[(runs["cell"] == row["cell"]) & runs["n_train"].notna() & runs["n_test"].notna()]
    return (int(part["n_train"].min()), int(part["n_test"].max())) if len(part) else None


def spread_of(values: Mapping[Any, float], sizes: tuple[int, int] | None) -> Spread | None:
    """Mean of scores or changes by streams, its variance and degrees of freedom, by the design of
    the runs; None if they cannot tell.

    sizes  items that train and test in a fold (Nadeau & Bengio 2003)
    """
    folds = mean_over_folds(values, sizes) if values else None
    if folds is not None:
        if folds.variance is None or folds.df is None:
            return None
        return folds.mean, folds.variance, folds.df
    scores, mean = list(values.values()), stats.mean(list(values.values()))
    if len(scores) < 2 or mean is None:
        return None
    design = stats.design_of(list(values))
    found = stats.mean_spread(scores, design)
    return (mean, 0.0, 1.0) if found is None else (mean, *found)


def over_tasks_sentences(frame: pd.DataFrame, at: str) -> list[str]:
    """One per model and arm."""
    said = []
    for row in frame[frame["at"] == at].to_dict("records") if len(frame) else ():
        about = f"{row['model']}, {row['arm']} against {row['baseline']}"
        change = f"{row['change']:+.4f} in the mean over {row['n_tasks']} tasks"
        if not there(row["p_adjusted"]):
            said.append(f"{about}: {change}; some task has too few seeds for an interval")
            continue
        sure = row["p_adjusted"] < LEVEL
        word = "" if sure else ", which is not shown to be a change"
        said.append(
            f"{about}: {change} [{row['all_low']:+.4f}, {row['all_high']:+.4f}]{word}; shown to "
            f"raise the score of {_names(row['raised'])}, to lower that of {_names(row['lowered'])}"
        )
    return said


def _names(tasks: str) -> str:
    return tasks.replace(" ", ", ") or "none"


def _printed(results: Results) -> list[Block]:
    frame = results.frame("over_tasks")
    part = frame[frame["at"] == results.at] if len(frame) else frame
    if part.empty:
        return []
    headings = ["model", "arm", "tasks", "change", "95 % interval", "p", "of tasks like these"]
    rows = [
        [
            row["model"],
            row["arm"],
            str(row["n_tasks"]),
            f"{row['change']:+.4f}",
            _span(row["all_low"], row["all_high"]),
            _p(row["p_adjusted"]),
            _span(row["tasks_low"], row["tasks_high"]),
        ]
        for row in part.to_dict("records")
    ]
    return [
        "\nover all tasks: mean of the changes on shared seeds, each in its own metric",
        Grid(headings, rows, n_words=2),
        "interval and p over seeds, for all arms of a model at once (Bonferroni); of tasks like "
        "these: over tasks, which takes them for a sample",
    ]


def _p(p: Any) -> str:
    return "< 0.001" if there(p) and p < 0.001 else number(p, 3)


def _span(low: Any, high: Any) -> str:
    return f"{low:+.4f} to {high:+.4f}" if there(low) and there(high) else "-"


OVER_TASKS = Section(
    "over_tasks",
    "Over all tasks",
    "Mean over tasks of the change on shared seeds, each in its own metric; the interval over "
    "seeds is for these tasks, that over tasks for tasks like these. Corrected for all arms of a "
    "model.",
    frame=lambda results, _: over_tasks_frame(results),
    sentences=lambda results: over_tasks_sentences(results.frame("over_tasks"), results.at),
    printed=_printed,
)

"""Runs -> the BLURB score of each model and technique, and what keeps one from having a score."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.core.keys import OF_THE_MODEL
from bluestab.report.frames import blurb
from bluestab.report.frames.arms import arm_names
from bluestab.report.frames.over_tasks import spread_of
from bluestab.report.section import Block, Grid, Results, Section
from bluestab.report.tables import interval
from bluestab.report.words.phrases import number
from bluestab.stats.across import across
from bluestab.tasks.metric import DIRECTION

COLUMNS = (
    *("model", "arm", "at"), *blurb.TASKS, *blurb.GROUPS,
    *("blurb", "low", "high", "std", "n_shared", "n_min", "missing", "ambiguous", "cut"),
)  # fmt: skip

OF_AN_ARM = ("model", *OF_THE_MODEL, "technique")
"""Keys of a hashed config that say which model was trained how, whatever the task."""

Row = dict[str, Any]
Cells = dict[str, list[Row]]


def blurb_frame(runs: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row per arm and `at`, for arms with runs in two task types of BLURB or more.

    runs     as `read_results` gives it; crashed runs are in no number
    configs  cell -> hashed config

    An arm here is one model with one technique and its knobs: what else differs between tasks (the
    recipe, mostly) belongs to the task. Columns:

    <task>     mean test score over the seeds, failed runs included
    <group>    mean over the tasks of the group; None where one of them has no score
    blurb      `bluestab.report.frames.blurb.blurb_score` of the tasks; None where one has no score
    low, high  its 95 % interval over the seeds of all tasks, which are independent between tasks
    std        sample standard deviation of the score of each seed that all 13 tasks share;
               n_shared: how many they are
    n_min      fewest seeds of a task
    missing    tasks without a run, separated by spaces
    ambiguous  tasks with more than one cell, which have no score, and what differs
    cut        tasks that were scored on other test items (`task.test_size`, `task.folds`)
    """
    table = []
    for (model, arm), cells_of in _arms(runs, configs).items():
        if sum(bool(cells_of.keys() & {*tasks}) for tasks in blurb.GROUPS.values()) < 2:
            continue
        scored: dict[str, list[Row]] = {}
        ambiguous, cut = [], []
        for task in (task for task in blurb.TASKS if task in cells_of):
            (cell, rows), *others = cells_of[task].items()
            if others:
                settings = (found[0]["config_diff"] for found in cells_of[task].values())
                ambiguous.append(f"{task} ({' | '.join(settings)})")
                continue
            scored[task] = rows
            if any(configs[cell]["task"].get(name) is not None for name in ("test_size", "folds")):
                cut.append(task)
        sizes = {task: _sizes(rows) for task, rows in scored.items()}
        for at in ("last", "best"):
            scores = {
                task: {row["streams"]: row["score"] for row in rows if row["at"] == at}
                for task, rows in scored.items()
            }
            table.append(
                {"model": model, "arm": arm, "at": at}
                | _numbers(scores, sizes)
                | {
                    "missing": " ".join(blurb.missing(cells_of)),
                    "ambiguous": "; ".join(ambiguous),
                    "cut": " ".join(cut),
                }
            )
    # as objects: whole numbers stay whole beside what is missing
    return pd.DataFrame(table, columns=list(COLUMNS), dtype=object)


def _arms(
    runs: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[str, str], dict[str, Cells]]:
    """(Model, arm) -> task -> cell -> its runs."""
    if runs.empty:
        return {}
    # a mean of scores: an error, of which lower is better, is none of them
    scored = runs[
        runs["task"].isin(blurb.TASKS)
        & (runs["status"] != "crashed")
        & runs[DIRECTION].astype(bool)
    ]
    # what makes an arm, as the config that it has in common for all tasks
    arm_of: dict[str, str] = {}
    shared: dict[str, Mapping[str, Any]] = {}
    models: dict[str, tuple[str, str]] = {}
    for cell, model in dict(zip(scored["cell"], scored["model"], strict=True)).items():
        common = {k: v for k, v in configs[cell].items() if k in OF_AN_ARM}
        arm = arm_of[cell] = json.dumps([model, common], sort_keys=True)
        shared[arm], models[arm] = common, ("", model)
    names = arm_names(shared, models)
    found: dict[tuple[str, str], dict[str, Cells]] = defaultdict(lambda: defaultdict(dict))
    for run in scored.to_dict("records"):
        name, _ = names[arm_of[run["cell"]]]
        found[run["model"], name][run["task"]].setdefault(run["cell"], []).append(run)
    # arms of one model side by side, else in the order of the runs
    order = list(dict.fromkeys(model for model, _ in found))
    return {arm: found[arm] for arm in sorted(found, key=lambda arm: order.index(arm[0]))}


def _numbers(
    scores: Mapping[str, Mapping[Any, float]], sizes: Mapping[str, tuple[int, int] | None]
) -> Row:
    """Means, the score and its spread, from task -> seed streams -> score.

    sizes  task -> items that train and test in a fold
    """
    means = {task: stats.mean(list(by_seed.values())) for task, by_seed in scores.items()}
    known = {task: mean for task, mean in means.items() if mean is not None}
    total = blurb.blurb_score(known)
    shared: list[Any] = []
    if total is not None:
        first, *others = scores.values()
        shared = [seed for seed in first if all(seed in other for other in others)]
    per_seed = [blurb.blurb_score({t: scores[t][seed] for t in scores}) for seed in shared]
    return {
        **dict.fromkeys(blurb.TASKS),
        **known,
        **blurb.group_means(known),
        "blurb": total,
        **(_interval(scores, sizes) if total is not None else {}),
        "std": stats.std([score for score in per_seed if score is not None]),
        "n_shared": len(shared),
        "n_min": min(map(len, scores.values()), default=0),
    }


def _sizes(rows: Sequence[Row]) -> tuple[int, int] | None:
    """Items that train and test in a fold: the fewest, and the most."""
    train, test = ([int(r[k]) for r in rows if r.get(k) == r.get(k) and r.get(k) is not None]
                   for k in ("n_train", "n_test"))  # fmt: skip
    return (min(train), max(test)) if train and test else None


def _interval(
    scores: Mapping[str, Mapping[Any, float]], sizes: Mapping[str, tuple[int, int] | None]
) -> Row:
    """Of the score: a task counts 1/6 of its share in its type."""
    weights = {t: 1 / (len(blurb.GROUPS) * len(ts)) for ts in blurb.GROUPS.values() for t in ts}
    found = across({t: spread_of(own, sizes.get(t)) for t, own in scores.items()}, weights)
    if found is None:
        return {}
    ends = found.interval()
    return {"low": max(ends.low, -1.0), "high": min(ends.high, 1.0)}


def notes(frame: pd.DataFrame) -> list[str]:
    """Sentences on what keeps arms from a BLURB score, or makes one another number."""
    arms_of: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in frame[frame["at"] == "last"].to_dict("records"):
        said = []
        if row["missing"]:
            said.append(f"no runs of {row['missing'].replace(' ', ', ')}")
        if row["ambiguous"]:
            said.append(
                f"more than one setting for {row['ambiguous']}, which are never averaged: report a "
                "sweep that has one"
            )
        if said:
            arms_of[row["model"], f"no BLURB score: {'; '.join(said)}"].append(row["arm"])
        if row["cut"]:
            tasks = row["cut"].replace(" ", ", ")
            text = (
                f"scored on other test items of {tasks} (task.test_size, task.folds), unlike BLURB"
            )
            arms_of[row["model"], text].append(row["arm"])
    return [f"{model}, {' / '.join(arms)}: {text}" for (model, text), arms in arms_of.items()]


def _printed(results: Results) -> list[Block]:
    """The BLURB scores, or what they lack; nothing where there are few of its tasks."""
    frame = results.frame("blurb")
    if frame.empty:
        return []
    said: list[Block] = ["\nBLURB: mean of the means of its six task types, at the last step"]
    headings = [
        "model",
        "arm",
        *blurb.GROUPS,
        "BLURB",
        "95 % interval",
        "std",
        "shared",
        "n",
        "best",
    ]
    said.append(Grid(headings, list(_cells(frame)), n_words=2))
    if frame["blurb"].notna().any():
        said.append(
            "std over the scores of the seeds that all 13 tasks share; n: fewest seeds of a task; "
            "best: BLURB at the step that is best on validation"
        )
    return [*said, *(f"  {sentence}" for sentence in notes(frame))]


def _cells(frame: pd.DataFrame) -> Iterator[list[str]]:
    """model, arm, mean of each task type, BLURB score, std, seeds at the last step; best beside."""
    rows = {(row["model"], row["arm"], row["at"]): row for row in frame.to_dict("records")}
    previous = None
    for (model, arm, at), row in rows.items():
        if at != "last":
            continue
        yield [
            "" if model == previous else model,
            arm,
            *(number(row[k]) for k in (*blurb.GROUPS, "blurb")),
            interval(row["low"], row["high"]) or "-",
            number(row["std"]),
            *(str(row[k]) for k in ("n_shared", "n_min")),
            number(rows[model, arm, "best"]["blurb"]),
        ]
        previous = model


BLURB = Section(
    "blurb",
    "BLURB",
    "Mean of the means of its six task types.",
    frame=lambda results, _: blurb_frame(results.runs, results.configs),
    printed=_printed,
)

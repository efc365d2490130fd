"""What a technique changes over all tasks of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bluestab import stats
from bluestab.core.types import RunRecord
from bluestab.report.frames.folds import with_fold
from bluestab.report.frames.over_tasks import over_tasks_sentences, spread_of
from bluestab.report.frames.results import read_results
from bluestab.report.section import Results
from tests.report.test_report import LLRD, plain, stored
from tests.support.compared_arms import REINIT

TASKS = ("biosses", "gad", "ddi")


def records(gain: float = 0.1, tasks: tuple[str, ...] = TASKS, n: int = 8) -> list[RunRecord]:
    """llrd changes every task by about `gain`, reinit by nothing."""
    found = []
    for i, task in enumerate(tasks):
        rng = np.random.default_rng([i, 7])
        base = rng.normal(0.6, 0.03, n)
        arms = (((), 0.0), (LLRD, gain), (REINIT, 0.0))
        for arm, change in arms:
            noise = rng.normal(0, 0.02, n) if arm else np.zeros(n)
            scores = dict(enumerate((base + change + noise).tolist()))
            found += plain(scores, technique=arm, task=task)
    return found


def results_of(root: Path, *made: RunRecord) -> Results:
    store = stored(root, list(made))
    return read_results(store, store.manifest("question"))


def rows_of(results: Results) -> dict[str, dict[str, Any]]:
    frame = results.frame("over_tasks")
    return {row["arm"]: row for row in frame[frame["at"] == "last"].to_dict("records")}


def test_mean_interval_and_correction(tmp_path: Path) -> None:
    results = results_of(tmp_path / "runs", *records())
    rows = rows_of(results)
    assert set(rows) == {"llrd", "reinit"}
    llrd = rows["llrd"]
    last = results.runs[results.runs["at"] == "last"]
    changes = {}
    for task in TASKS:
        part = last[last["task"] == task].pivot(index="seed", columns="arm", values="score")
        changes[task] = (part["llrd"] - part["none"]).astype(float).to_numpy()
    expected = stats.welch_interval(changes)
    corrected = stats.welch_interval(changes, 0.975)
    assert expected is not None
    assert corrected is not None
    assert (llrd["low"], llrd["high"]) == pytest.approx((expected.low, expected.high))
    assert (llrd["all_low"], llrd["all_high"]) == pytest.approx((corrected.low, corrected.high))
    means = [own.mean() for own in changes.values()]
    assert llrd["change"] == pytest.approx(np.mean(means))
    low, high = scipy_stats.t.interval(0.95, 2, np.mean(means), scipy_stats.sem(means))
    assert (llrd["tasks_low"], llrd["tasks_high"]) == pytest.approx((low, high))
    assert llrd["p_adjusted"] == pytest.approx(2 * llrd["p"])
    assert llrd["raised"] == "biosses gad ddi"
    assert rows["reinit"]["raised"] == rows["reinit"]["lowered"] == ""


def test_what_is_said(tmp_path: Path, cli: Callable[..., Any]) -> None:
    results = results_of(Path("runs"), *records())
    first, second = over_tasks_sentences(results.frame("over_tasks"), "last")
    assert first.startswith("small, llrd against none: +0.")
    assert "in the mean over 3 tasks [+0." in first
    assert "shown to raise the score of biosses, gad, ddi, to lower that of none" in first
    assert "which is not shown to be a change" in second
    done = cli("report", "--out", "out")
    assert "over all tasks: mean of the changes on shared seeds" in done.out
    assert Path("out/over_tasks.csv").is_file()
    assert "in the mean over 3 tasks" in Path("out/summary.md").read_text()


def test_one_task_has_no_such_section(tmp_path: Path) -> None:
    assert results_of(tmp_path / "runs", *records(tasks=("gad",))).frame("over_tasks").empty


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    results = results_of(tmp_path / "runs", *records(n=1))
    row = rows_of(results)["llrd"]
    assert row["change"] == pytest.approx(0.1, abs=0.05)
    assert row["low"] is None or np.isnan(row["low"])
    first, _ = over_tasks_sentences(results.frame("over_tasks"), "last")
    assert "too few seeds for an interval" in first


def test_spread_by_design() -> None:
    seeds = [(("init", i), ("order", j)) for i in range(3) for j in range(4)]
    scores = dict(zip(seeds, np.random.default_rng(0).normal(size=12).tolist(), strict=True))
    crossed = spread_of(scores, None)
    assert crossed is not None
    assert crossed[1:] == stats.mean_spread(list(scores.values()), stats.design_of(seeds))
    folds = {with_fold((("init", f + 10 * i),), f): 0.1 * f + i for f in range(3) for i in range(2)}
    assert spread_of(folds, (80, 20)) == pytest.approx((0.6, 0.01 * (1 / 3 + 0.25), 2.0))
    assert spread_of(folds, None) is None
    assert spread_of({(("init", 0),): 0.5}, None) is None
    equal = {(("init", i),): 0.5 for i in range(4)}
    assert spread_of(equal, None) == (0.5, 0.0, 1.0)

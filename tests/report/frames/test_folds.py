"""Folds x seeds in a report: one experiment per arm, folds weigh alike, seeds within them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from bluestab.report.frames.folds import (
    by_fold,
    fold_change,
    fold_of,
    fold_spread,
    mean_over_folds,
    nested_columns,
    with_fold,
)
from bluestab.report.frames.results import read_results

Make = Callable[..., Any]


def streams(seed: int, fold: int | None) -> tuple[Any, ...]:
    return with_fold((("init", seed), ("order", seed)), fold)


def scores(table: Mapping[int, list[float]]) -> dict[Any, float]:
    return {streams(s, f): x for f, row in table.items() for s, x in enumerate(row)}


OWN = scores({0: [0.5, 0.7], 1: [0.6, 0.8], 2: [0.9, 0.9, 0.9]})
REFERENCE = scores({0: [0.4, 0.5], 1: [0.5, 0.5], 2: [0.9, 0.8, 0.7]})


def test_streams_know_their_fold() -> None:
    assert fold_of(streams(3, 1)) == 1
    assert fold_of(streams(3, None)) is None
    assert by_fold(OWN) == {0: [0.5, 0.7], 1: [0.6, 0.8], 2: [0.9, 0.9, 0.9]}
    assert by_fold({**OWN, streams(0, None): 1.0}) == {}


def apart(table: dict[Any, float]) -> dict[Any, float]:
    """The same scores, of other seeds in every fold."""
    return {
        with_fold(streams(10 * (fold_of(s) or 0) + s[0][1], None), fold_of(s)): x
        for s, x in table.items()
    }


def test_folds_weigh_alike_and_std_is_over_seeds() -> None:
    found = nested_columns(apart(OWN), (80, 20))
    assert found["mean"] == pytest.approx((0.6 + 0.7 + 0.9) / 3)
    assert found["std"] == pytest.approx(((0.02 + 0.02 + 0.0) / 3) ** 0.5)
    assert found["std_folds"] == pytest.approx(0.152752523)
    assert found["n_folds"] == 3
    half = scipy_stats.t.ppf(0.975, 2) * 0.152752523 * (1 / 3 + 0.25) ** 0.5
    assert (found["ci_high"] - found["ci_low"]) / 2 == pytest.approx(half)
    assert found["ci_method"] == "corrected t"
    assert nested_columns(OWN, None)["ci_low"] is None, "without sizes nothing can be said"
    assert nested_columns({streams(0, None): 0.5}, (80, 20)) == {}


def test_change_is_tested_over_folds() -> None:
    """t = mean / sqrt((1/n + n_test/n_train) var), by hand, where every fold has its own seeds."""
    own, reference = apart(OWN), apart(REFERENCE)
    found = fold_change(own, reference, (80, 20)) | fold_spread(own, reference)
    differences = [0.15, 0.2, 0.1]
    assert found["delta"] == pytest.approx(0.15)
    t = 0.15 / ((1 / 3 + 0.25) * 0.0025) ** 0.5
    assert found["p"] == pytest.approx(2 * scipy_stats.t.sf(t, 2))
    plain = scipy_stats.ttest_1samp(differences, 0).pvalue
    assert found["p"] > plain, "seeds and shared training items are no further data"
    half = scipy_stats.t.ppf(0.975, 2) * ((1 / 3 + 0.25) * 0.0025) ** 0.5
    assert found["delta_low"] == pytest.approx(0.15 - half)
    assert found["delta_high"] == pytest.approx(0.15 + half)
    assert fold_change(OWN, REFERENCE, None) == {}
    family = fold_change(own, reference, (80, 20), n_arms=4)
    assert family["p_adjusted"] == pytest.approx(min(1.0, 4 * found["p"]))
    wide = scipy_stats.t.ppf(1 - 0.025 / 4, 2) * ((1 / 3 + 0.25) * 0.0025) ** 0.5
    assert family["delta_all_low"] == pytest.approx(0.15 - wide)
    assert (family["delta_low"], family["p"]) == (found["delta_low"], found["p"])


def test_seeds_that_come_in_every_fold_bring_their_luck_to_all_of_them() -> None:
    """Variance of the seeds' means over folds, over their number, on top of that over folds."""
    own = scores({0: [0.5, 0.8], 1: [0.6, 0.9], 2: [0.7, 1.0]})
    of_folds = 0.01 * (1 / 3 + 0.25)
    alike = mean_over_folds(apart(own), (80, 20))
    assert alike is not None
    assert (alike.variance, alike.df) == pytest.approx((of_folds, 2))
    shared = mean_over_folds(own, (80, 20))
    assert shared is not None
    assert shared.mean == alike.mean
    assert shared.variance == pytest.approx(of_folds + 0.045 / 2)
    assert shared.df == pytest.approx((of_folds + 0.0225) ** 2 / (of_folds**2 / 2 + 0.0225**2))
    one = mean_over_folds({s: x for s, x in own.items() if s[0][1] == 0}, (80, 20))
    assert one is not None
    assert one.variance == pytest.approx(of_folds)


def test_a_report_of_folds(make_run: Make, tmp_path: Path) -> None:
    from bluestab.report.words.caveats import flags
    from bluestab.store.store import Store
    from bluestab.sweeps.plan import PlannedRun, Sweep
    from bluestab.training.execute import execute_one

    store = Store(tmp_path / "runs")
    store.make_writable()
    runs = [
        make_run(
            "task=biosses", "model=tiny", "optim.steps=1", f"technique={technique}",
            # neighbours of these pairs share a sentence
            "task.folds=3", "task.grouping=text", f"task.fold={fold}", f"seed={seed}",
        )
        for technique in ("none", "reinit") for seed in (0, 1) for fold in (0, 1, 2)
        if (technique, fold) != ("reinit", 2)
    ]  # fmt: skip
    assert len({run.cell for run in runs}) == 2
    sweep = Sweep("folds", store, tuple(PlannedRun(run, ()) for run in runs))
    store.write_manifest("folds", sweep.manifest())
    for run in runs:
        execute_one(run, store, lambda *_: None)
    last_fold = [
        make_run(
            *("task=biosses", "model=tiny", "optim.steps=1", "technique=reinit"),
            *("task.folds=3", "task.grouping=text", "task.fold=2", f"seed={seed}"),
        )
        for seed in (0, 1)
    ]
    whole = Sweep("whole", store, tuple(PlannedRun(run, ()) for run in (*runs, *last_fold)))
    for run in last_fold:
        execute_one(run, store, lambda *_: None)
    found = read_results(store, whole.manifest())
    (advice,) = found.advice
    items = {run["fold"]: run["n_validation"] for run in found.runs.to_dict("records")}
    assert advice.n_items == sum(items.values())
    assert {c.n for c in advice.found.standings} == {6}
    assert "use none: no other arm has a higher validation mean" in advice.sentence()
    assert "task.folds" not in advice.sentence(), "they are there"
    found = read_results(store, sweep.manifest())
    rows = {r["arm"]: r for r in found.summary.to_dict("records") if r["at"] == "last"}
    assert set(rows) == {"none", "reinit"}, "arms are not named by a fold"
    assert (rows["none"]["n"], rows["none"]["n_folds"]) == (6, 3)
    last = found.runs[found.runs["at"] == "last"]
    own = last[last["arm"] == "none"]
    assert rows["none"]["mean"] == pytest.approx(own.groupby("fold")["score"].mean().mean())
    assert rows["reinit"]["n_paired"] == 4
    assert str(rows["reinit"]["test_name"]).endswith("over folds")
    assert found.advice == []
    said = " ".join(flags(found.runs))
    assert "reinit: fold 2 of 3 has no run" in said
    assert "none: fold" not in said
    assert "cross-validated arms" in said
    frame = found.frames["instability"]
    assert {arm for arm in frame["arm"] if arm.startswith("none")} == {
        f"none, fold={k}" for k in range(3)
    }
    assert not found.left_out

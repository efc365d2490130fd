"""Test-item intervals of a report, from stored predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bluestab import stats
from bluestab.report.frames.items import COLUMNS, RESAMPLES
from bluestab.report.frames.results import read_results
from bluestab.store.artefacts import write_predictions
from bluestab.store.store import Store
from bluestab.tasks.score_sums import of_items
from bluestab.tasks.score_sums import score as item_score
from bluestab.tasks.scoring import pearson
from tests.report.frames.test_instability import put
from tests.report.test_report import LLRD, record

TRUTH = np.linspace(0.0, 4.0, 20)


def predicted(noise: float, seed: int) -> np.ndarray:
    return TRUTH + noise * np.random.default_rng([seed, int(10 * noise)]).normal(size=20)


def write(root: Path, values: np.ndarray, claimed: float | None = None, **told: Any) -> None:
    score = pearson(values, TRUTH) if claimed is None else claimed
    items = [(float(p), float(t), [float(p)]) for p, t in zip(values, TRUTH, strict=True)]
    put(root, record(score, best=score, **told), items)


def ends_of(root: Path) -> dict[str, dict[str, float]]:
    table = read_results(Store(root), None).summary
    rows = table[table["at"] == "last"].to_dict("records")
    return {row["technique"]: {name: row[name] for name in COLUMNS} for row in rows}


def test_mean_and_change_with_other_items_too(tmp_path: Path) -> None:
    for seed in range(6):
        write(tmp_path, predicted(1.0, seed), seed=seed)
        write(tmp_path, predicted(2.0, seed), seed=seed, technique=LLRD)
    found = ends_of(tmp_path)
    in_order = sorted(range(20), key=lambda i: f"item {i}")  # whatever the order of the file
    arms = {
        noise: [of_items("pearson", predicted(noise, seed), TRUTH)[in_order] for seed in range(6)]
        for noise in (1.0, 2.0)
    }
    correlation, few = item_score("pearson"), {"resamples": RESAMPLES}
    both = stats.items_and_seeds_interval(correlation, arms[2.0], **few)
    table = read_results(Store(tmp_path), None).summary
    llrd = table[(table["at"] == "last") & (table["technique"] == "llrd")].iloc[0]
    printed = stats.Interval(llrd["delta_low"], llrd["delta_high"], 0.95, "sign flips")
    change = stats.items_and_seeds_interval(
        correlation, arms[2.0], minus=arms[1.0], over_seeds=printed, **few
    )
    assert both is not None
    assert change is not None
    assert list(found["llrd"].values()) == pytest.approx(
        [both.low, both.high, change.low, change.high]
    )
    none = found["none"]
    assert none["items_low"] < none["items_high"]
    assert pd.isna(none["delta_items_low"])


def test_a_run_without_items_takes_the_interval_away(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path, predicted(1.0, seed), seed=seed)
    for seed in range(2):
        write(tmp_path, predicted(2.0, seed), seed=seed, technique=LLRD)
    # predictions that do not give the score of the record, whatever the reason
    write(tmp_path, predicted(2.0, 2), claimed=0.123, seed=2, technique=LLRD)
    assert all(map(pd.isna, ends_of(tmp_path)["llrd"].values()))
    assert ends_of(tmp_path)["none"]["items_low"] > 0


def test_failed_runs_count_with_their_score(tmp_path: Path) -> None:
    """A diverged one has no predictions, a constant one no correlation."""
    for seed in range(4):
        write(tmp_path, predicted(1.0, seed), seed=seed)
    before = ends_of(tmp_path)["none"]
    put(tmp_path, record(None, best=None, seed=4), [(1.5, float(t), [1.5]) for t in TRUTH])
    constant = ends_of(tmp_path)["none"]
    assert constant["items_low"] < before["items_low"]
    store = Store(tmp_path)
    diverged = record(None, seed=5, status="diverged")
    with store.building(diverged.key) as work:
        store.finish(work, diverged)
    assert ends_of(tmp_path)["none"]["items_low"] < constant["items_low"]


def test_diverged_runs_alone_have_no_items_whatever_their_metric(tmp_path: Path) -> None:
    """Of a metric that is no function of sums over items, such as `macro_f1`."""
    for seed in range(2):
        one = record(None, seed=seed, status="diverged")
        one.result["metric"] = "macro_f1"
        with Store(tmp_path).building(one.key) as work:
            Store(tmp_path).finish(work, one)
    assert pd.isna(ends_of(tmp_path)["none"]["items_low"])


def test_seeds_too_few_for_an_interval_have_none_with_items(tmp_path: Path) -> None:
    for seed in range(5):
        write(tmp_path, predicted(1.0, seed), seed=seed)
        write(tmp_path, predicted(2.0, seed), seed=seed, technique=LLRD)
    found = ends_of(tmp_path)["llrd"]
    assert found["items_low"] < found["items_high"]
    assert pd.isna(found["delta_items_low"])


def test_arms_may_list_their_items_in_another_order(tmp_path: Path) -> None:
    """The change is that of an item against itself."""
    for seed in range(6):
        write(tmp_path / "a", predicted(1.0, seed), seed=seed)
        write(tmp_path / "a", predicted(2.0, seed), seed=seed, technique=LLRD)
        write(tmp_path / "b", predicted(1.0, seed), seed=seed)
        values = predicted(2.0, seed)
        one = record(score := pearson(values, TRUTH), best=score, seed=seed, technique=LLRD)
        rows = [
            {"at": at, "id": f"item {i}", "prediction": values[i], "target": TRUTH[i], "logits": []}
            for at in ("last", "best")
            for i in reversed(range(20))
        ]
        with Store(tmp_path / "b").building(one.key) as work:
            write_predictions(work / "predictions.parquet", rows)
            Store(tmp_path / "b").finish(work, one)
    assert ends_of(tmp_path / "a")["llrd"] == pytest.approx(ends_of(tmp_path / "b")["llrd"])


def test_never_narrower_than_over_seeds_and_never_out_of_range(tmp_path: Path) -> None:
    """Two seeds of a high correlation: Student's interval alone would end beyond 1."""
    for seed in range(2):
        write(tmp_path, predicted(0.2 + 0.3 * seed, seed), seed=seed)
        write(tmp_path, predicted(2.0, seed), seed=seed, technique=LLRD)
    table = read_results(Store(tmp_path), None).summary
    for row in table[table["at"] == "last"].to_dict("records"):
        assert -1 <= row["items_low"] <= row["ci_low"] < row["ci_high"] <= row["items_high"] <= 1
    scores = [pearson(predicted(0.2 + 0.3 * seed, seed), TRUTH) for seed in range(2)]
    beyond = stats.t_interval(scores)
    assert beyond is not None
    assert beyond.high > 1

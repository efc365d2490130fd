"""Intervals end where the metric ends."""

from __future__ import annotations

from typing import Any

import pytest

from bluestab.report.frames.bounded import keep_in_range
from bluestab.tasks.metric import KNOWN, metric_of
from tests.report.test_report import LLRD, plain, row, summary


@pytest.mark.parametrize(
    ("metric", "range_of", "change"),
    [
        ("accuracy", (0.0, 1.0), (-1.0, 1.0)),
        ("entity_f1", (0.0, 1.0), (-1.0, 1.0)),
        ("pearson", (-1.0, 1.0), (-2.0, 2.0)),
        ("rmse", (0.0, 9.0), (-9.0, 9.0)),
        ("of_ones_own", (-9.0, 9.0), (-9.0, 9.0)),
    ],
)
def test_ends(metric: str, range_of: tuple[float, float], change: tuple[float, float]) -> None:
    one: dict[str, Any] = {"metric": metric, "min": 0.1, "max": 0.9}
    for name in ("ci", "items", "delta", "delta_items"):
        one |= {f"{name}_low": -9.0, f"{name}_high": 9.0}
    one |= {"delta_items_low": None, "delta_items_high": float("nan")}
    keep_in_range(one)
    for name in ("ci", "items"):
        assert (one[f"{name}_low"], one[f"{name}_high"]) == range_of
    assert (one["delta_low"], one["delta_high"]) == change
    assert one["delta_items_low"] is None


def test_failed_runs_beyond_the_range_stay_within_their_interval() -> None:
    one = {"metric": "accuracy", "min": -0.5, "max": 0.9, "ci_low": -3.0, "ci_high": 2.0}
    keep_in_range(one)
    assert (one["ci_low"], one["ci_high"]) == (-0.5, 1.0)


def test_every_metric_has_a_range() -> None:
    assert all(metric.least > -2 and metric.least < metric.most for metric in KNOWN.values())
    assert metric_of("of_ones_own").most > 1e300


def test_a_mean_of_two_seeds() -> None:
    """Student's interval of two seeds 0.5 apart reaches 3 either way."""
    table = summary([*plain({0: 0.4, 1: 0.9}), *plain({0: 0.9, 1: 0.1}, technique=LLRD)])
    for arm in ("none", "llrd"):
        found = row(table, arm)
        assert (found["ci_low"], found["ci_high"]) == (-1.0, 1.0)
        assert (found["ci_all_low"], found["ci_all_high"]) == (-1.0, 1.0)


def test_a_change_of_correlations() -> None:
    """From nearly -1 to nearly 1, at seeds that differ: no change beyond 2."""
    low = dict(enumerate([-0.9, -0.8, -0.99, 0.5, -0.7, -0.95, -0.9, -0.8]))
    high = {seed: -score for seed, score in low.items()}
    found = row(summary([*plain(low), *plain(high, technique=LLRD)]), "llrd")
    for name in ("delta", "delta_all"):
        assert -2 <= found[f"{name}_low"] < found[f"{name}_high"] <= 2

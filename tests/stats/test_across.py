"""Means over tasks, against Welch's interval and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bluestab import stats
from bluestab.stats.across import Spread, across


def spread_of(scores: np.ndarray) -> Spread:
    return float(scores.mean()), float(scores.var(ddof=1)) / len(scores), len(scores) - 1.0


def test_equal_weights_are_welchs_interval() -> None:
    rng = np.random.default_rng(0)
    tasks = {"a": rng.normal(0.8, 0.1, 5), "b": rng.normal(0.4, 0.3, 10), "c": rng.normal(size=7)}
    found = across({t: spread_of(x) for t, x in tasks.items()}, dict.fromkeys(tasks, 1 / 3))
    expected = stats.welch_interval(tasks)
    assert found is not None
    assert expected is not None
    interval = found.interval()
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_p_is_the_level_at_which_the_interval_ends_at_zero() -> None:
    found = across({"a": (0.1, 0.001, 4.0), "b": (0.2, 0.004, 9.0)}, {"a": 0.5, "b": 0.5})
    assert found is not None
    assert found.estimate == pytest.approx(0.15)
    assert found.error == pytest.approx(math.sqrt(0.25 * 0.005))
    assert found.interval(1 - found.p).low == pytest.approx(0, abs=1e-9)


def test_what_has_no_error() -> None:
    weights = {"a": 0.5, "b": 0.5}
    assert across({}, weights) is None
    assert across({"a": (0.1, 0.001, 4.0), "b": None}, weights) is None
    assert across({"a": (0.1, 0.0, 4.0), "b": (0.1, 0.0, 4.0)}, weights) is None
    still = across({"a": (0.1, 0.001, 4.0), "b": (0.1, 0.0, 4.0)}, weights)
    assert still is not None
    assert still.df == pytest.approx(4.0)
    with pytest.raises(KeyError):
        across({"a": (0.1, 0.001, 4.0)}, {})


@pytest.mark.parametrize("n", [5, 10])
def test_it_covers(n: int) -> None:
    """Four tasks of which one varies three times as much."""
    rng = np.random.default_rng(n)
    hits, m = 0, 1000
    for _ in range(m):
        tasks = {str(t): spread_of((3 if t == 0 else 1) * rng.normal(size=n)) for t in range(4)}
        found = across(tasks, dict.fromkeys(tasks, 0.25))
        assert found is not None
        hits += found.interval().low <= 0 <= found.interval().high
    assert 0.93 <= hits / m <= 0.97

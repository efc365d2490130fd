"""Numbers over seeds against cases worked by hand and against numpy and scipy."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from bluestab.stats import failed_share, iqm, mean, median, paired_delta, std, std_ratio, summary


def test_by_hand() -> None:
    scores = [5.0, 1.0, 2.0, 3.0, 9.0]
    assert mean(scores) == 4.0
    assert std(scores) == math.sqrt(10)  # squares 1 9 4 1 25, over 4
    assert median(scores) == 3.0
    assert median(scores[:4]) == 2.5
    assert iqm(scores) == pytest.approx(10 / 3)  # without 1 and 9
    assert iqm(scores[:3]) == mean(scores[:3])  # nothing to leave out


def test_undefined() -> None:
    for function in (mean, std, median, iqm):
        assert function([]) is None
    assert std([1.0]) is None
    assert std_ratio([1.0], [1.0, 2.0]) is None
    assert std_ratio([1.0, 2.0], [1.0]) is None
    assert std_ratio([1.0, 2.0], [0.1, 0.1, 0.1]) is None
    assert failed_share(0, 0, 0) is None


def test_equal_scores_have_no_spread() -> None:
    assert np.std([0.1] * 3, ddof=1) > 0  # what rounding makes of it elsewhere
    assert std([0.1] * 3) == 0.0
    assert mean([0.1] * 3) == 0.1
    assert std_ratio([0.1] * 3, [1.0, 2.0]) == 0.0


def test_equal_numpy_and_scipy() -> None:
    rng = np.random.default_rng(1)
    for _ in range(1000):
        scores = rng.normal(loc=rng.normal(scale=50), size=rng.integers(2, 25))
        assert mean(scores) == pytest.approx(np.mean(scores))
        assert std(scores) == pytest.approx(np.std(scores, ddof=1))
        assert median(scores) == pytest.approx(np.median(scores))
        assert iqm(scores) == pytest.approx(trim_mean(scores, 0.25))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_order_of_runs_changes_no_bit(scores: list[float], random: Random) -> None:
    shuffled = list(scores)
    random.shuffle(shuffled)
    alive = [False] * len(scores)
    got = summary(scores, alive)
    assert got == summary(shuffled, alive)
    for name in ("mean", "median", "iqm"):
        assert min(scores) <= got[name] <= max(scores)  # type: ignore[operator]


def test_failed_share() -> None:
    assert failed_share(1, 2, 12) == 0.25
    assert failed_share(0, 0, 5) == 0.0
    assert failed_share(2, 3, 5) == 1.0
    for counts in ((2, 2, 3), (-1, 1, 3), (1, -1, 3), (0, 0, -1)):
        with pytest.raises(ValueError, match="among"):
            failed_share(*counts)


def test_paired_delta_uses_shared_seeds_only() -> None:
    a = {0: 0.5, 1: 0.7, 2: 0.9}
    b = {1: 0.6, 2: 0.6, 3: 0.0}
    assert paired_delta(a, b) == pytest.approx((2, (0.1 + 0.3) / 2))
    assert paired_delta(b, a) == pytest.approx((2, -0.2))
    assert paired_delta({0: 1.0}, {1: 1.0}) == (0, None)
    assert paired_delta({}, {}) == (0, None)


def test_std_ratio() -> None:
    assert std_ratio([0.0, 1.0], [0.0, 4.0]) == 0.25
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=7), rng.normal(size=5)
    assert std_ratio(a, b) == pytest.approx(np.std(a, ddof=1) / np.std(b, ddof=1))


def test_summary() -> None:
    got = summary([0.8, 0.0, 0.9, 0.7], [False, True, False, False])
    assert got == {
        "mean": pytest.approx(0.6),
        "mean_without_failed": pytest.approx(0.8),
        "std": pytest.approx(np.std([0.8, 0.0, 0.9, 0.7], ddof=1)),
        "median": 0.75,
        "iqm": 0.75,
        "min": 0.0,
        "max": 0.9,
    }
    all_failed = summary([0.0], [True])
    assert (all_failed["mean"], all_failed["mean_without_failed"]) == (0.0, None)
    assert set(summary([], []).values()) == {None}


def test_refuses_nonsense() -> None:
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="needs its failure_score"):
            mean([0.5, bad])
    with pytest.raises(ValueError, match="one-dimensional"):
        std(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="2 scores, but 1"):
        summary([0.1, 0.2], [True])

"""Probability of improvement and almost stochastic order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as oracle

from bluestab import stats
from bluestab.stats.dominance import corrected_level


def test_probability_of_improvement_is_mann_whitneys() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 8, size=9) / 10, rng.integers(0, 8, size=7) / 10
    expected = oracle.mannwhitneyu(a, b).statistic / 63
    assert stats.probability_of_improvement(a, b) == pytest.approx(expected)
    assert stats.probability_of_improvement([0.9 - 0.8], [0.7 - 0.6]) == 0.5
    assert stats.probability_of_improvement([], [1.0]) is None


def test_probability_of_improvement_interval() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.5, 1, size=15), rng.normal(size=15)
    centre = stats.probability_of_improvement(a, b)
    assert centre is not None
    for paired in (True, False):
        got = stats.probability_of_improvement_interval(a, b, paired)
        assert got is not None
        assert 0 <= got.low < centre < got.high <= 1
    # arms that move together differ less surely when drawn apart
    together = stats.probability_of_improvement_interval(a, a - 0.1)
    apart = stats.probability_of_improvement_interval(a, a - 0.1, False)
    assert together is not None
    assert apart is not None
    assert together.high - together.low < apart.high - apart.low
    assert stats.probability_of_improvement_interval([2, 3], [0, 1]) is None
    assert stats.probability_of_improvement_interval([2], [0]) is None


def grid_violation(a: np.ndarray, b: np.ndarray) -> float:
    t = (np.arange(200_000) + 0.5) / 200_000
    behind = np.sort(b)[(t * len(b)).astype(int)] - np.sort(a)[(t * len(a)).astype(int)]
    return float(np.sum(np.maximum(behind, 0) ** 2) / np.sum(behind**2))


def test_almost_stochastic_order() -> None:
    from bluestab.stats import dominance

    rng = np.random.default_rng(5)
    for n, m in ((5, 5), (5, 7), (10, 4)):
        a, b = np.sort(rng.normal(size=n)), np.sort(rng.normal(size=m))
        exact = dominance._violation(a[None], b[None], 0.0)[0]
        assert exact == pytest.approx(grid_violation(a, b), abs=1e-3)
    low, high = rng.normal(size=10), rng.normal(9, 1, size=10)
    assert stats.almost_stochastic_order(high, low) == 0.0
    assert stats.almost_stochastic_order(low, high) == 1.0
    same = stats.almost_stochastic_order(low, low[::-1])
    assert same is not None
    assert same >= 0.5
    assert stats.almost_stochastic_order([0.5] * 4, [0.5] * 4) == 0.5
    assert stats.almost_stochastic_order([1.0], low) is None


def test_more_comparisons_need_more() -> None:
    """The usual implementation gives 0.0289, 0.0270, 0.0250, 0.0243 here: the wrong way round."""
    assert [corrected_level(0.95, c) for c in (1, 2, 3, 10)] == pytest.approx(
        [0.95, 0.975, 0.98333, 0.995], abs=1e-5
    )
    rng = np.random.default_rng(6)
    a, b = rng.normal(1.2, 1, size=20), rng.normal(size=20)
    bounds = [stats.almost_stochastic_order(a, b, comparisons=c) for c in (1, 2, 3, 10, 100)]
    assert bounds == sorted(bounds)  # type: ignore[type-var]
    assert bounds[0] < bounds[-1] < 1  # type: ignore[operator]
    with pytest.raises(ValueError, match="comparisons is 0"):
        stats.almost_stochastic_order(a, b, comparisons=0)

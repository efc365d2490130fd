"""The ratio of two spreads over runs that share seeds; the rest of `variance` is in test_tests."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bluestab import stats
from bluestab.stats.intervals import t_quantile


def blocks(n: int, size: int) -> stats.Design:
    return stats.design_of([(("init", k // size), ("order", k)) for k in range(n)])


def test_independent_runs_keep_their_jackknife() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 9))
    ratio, found = stats.std_ratio_by_design(a, 2 * b, stats.independent(9), level=0.9)
    plain = stats.std_ratio_interval(a, 2 * b, level=0.9)
    assert found is not None
    assert plain is not None
    assert ratio == pytest.approx(stats.std_ratio(a, 2 * b))
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))


def test_whole_blocks_are_left_out() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 12))
    _, found = stats.std_ratio_by_design(a, b, blocks(12, 3))

    def log(kept: np.ndarray) -> float:
        return math.log(a[kept].std(ddof=1) / b[kept].std(ddof=1))

    whole = log(np.ones(12, bool))
    pseudo = [4 * whole - 3 * log(np.arange(12) // 3 != block) for block in range(4)]
    half = t_quantile(3, 0.95) * np.std(pseudo, ddof=1) / 2
    assert found is not None
    assert math.log(found.low) == pytest.approx(np.mean(pseudo) - half)
    assert math.log(found.high) == pytest.approx(np.mean(pseudo) + half)
    twice = stats.std_ratio_by_design(np.repeat(a, 2), np.repeat(b, 2), blocks(24, 2))[1]
    once = stats.std_ratio_by_design(a, b, stats.independent(12))[1]
    assert twice is not None
    assert once is not None
    assert twice.low == pytest.approx(once.low, rel=0.02), "a run that is there twice is one run"


def test_within_folds_the_spread_is_that_of_seeds() -> None:
    rng = np.random.default_rng(2)
    a, b, of_fold = rng.normal(size=15), rng.normal(size=15), np.arange(15) % 5
    seeds = stats.design_of([(("seed", k // 5),) for k in range(15)])
    ratio, found = stats.std_ratio_by_design(a + 10 * of_fold, b - 9 * of_fold, seeds, [*of_fold])
    moved, same = stats.std_ratio_by_design(a, b, seeds, [*of_fold])
    assert ratio == pytest.approx(moved)
    within = [np.mean([x[of_fold == f].var(ddof=1) for f in range(5)]) for x in (a, b)]
    assert ratio == pytest.approx((within[0] / within[1]) ** 0.5)
    assert found is not None
    assert same is not None
    assert found.low == pytest.approx(same.low)
    one = stats.std_ratio_by_design(a[:5], b[:5], stats.independent(5), [*of_fold[:5]])
    assert one == (None, None), "one run of every fold"


def test_arms_that_do_not_vary_and_too_few_blocks() -> None:
    a, flat, plain = [0.1, 0.3, 0.2, 0.5], [0.7] * 4, stats.independent(4)
    assert stats.std_ratio_by_design(flat, a, plain) == (0.0, None)
    assert stats.std_ratio_by_design(flat, flat, plain) == (0.0, None)
    assert stats.std_ratio_by_design(a, flat, plain) == (math.inf, None)
    assert stats.std_ratio_by_design([0.1], [0.2], stats.independent(1)) == (None, None)
    assert stats.std_ratio_by_design(a, a[::-1], blocks(4, 2))[1] is None
    with pytest.raises(ValueError, match="4 and 3 scores of 4 runs"):
        stats.std_ratio_by_design(a, a[:3], plain)

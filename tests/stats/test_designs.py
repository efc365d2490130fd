"""Runs that share seeds: the design read from them, and what mean, test and share make of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bluestab import stats
from bluestab.stats.designs import Design
from bluestab.stats.intervals import wilson_of_share


def streams(**seeds: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted({"dropout": 0, "init": 0, "order": 0, "split": 0, **seeds}.items()))


def seeded(n: int) -> list[tuple[tuple[str, Any], ...]]:
    return [streams(init=s, order=s, dropout=s) for s in range(n)]


def crossed(rows: int, columns: int) -> list[tuple[tuple[str, Any], ...]]:
    return [streams(init=i, order=j) for i, j in product(range(rows), range(columns))]


@pytest.mark.parametrize(
    ("runs", "said", "n_independent"),
    [
        (seeded(6), "", 6),
        (crossed(5, 4), "5 init x 4 order", 4),
        ([streams(init=0, order=j) for j in range(4)], "", 4),
        # every order is its own, initialisations come three times
        ([streams(init=k // 3, order=k, dropout=k) for k in range(12)], "4 init", 4),
        # a whole seed crossed with training subsets
        (
            [streams(init=s, order=s, dropout=s, split=p) for s in range(5) for p in range(3)],
            "5 dropout+init+order x 3 split",
            3,
        ),
        # subsets lie within initialisations: what they tie, these tie already
        ([streams(init=k // 4, split=k // 2, order=k) for k in range(8)], "2 init", 2),
        ([*seeded(5), streams(init=0, order=9, dropout=9)], "5 init", 5),
        ([streams()], "", 1),
        ([], "", 0),
    ],
)
def test_design_is_read_from_the_seeds(runs: Sequence[Any], said: str, n_independent: int) -> None:
    design = stats.design_of(runs)
    assert (str(design), design.n_independent) == (said, n_independent)
    assert design.independent == (not said)


def test_independent_runs_keep_their_statistics() -> None:
    a, b = [0.5, 0.7, 0.6, 0.9, 0.8, 0.75], [0.4, 0.65, 0.61, 0.7, 0.6, 0.7]
    design = stats.design_of(seeded(6))
    assert stats.mean_interval(a, design) == stats.t_interval(a)
    assert stats.mean_test(a, b, design) == stats.paired_permutation(a, b)
    assert stats.share_interval([True, False], design) == stats.wilson(1, 2)


def test_blocks_are_the_repetitions() -> None:
    """Of equal size: Student's interval of their means, and the sign-flip test of these."""
    values = np.random.default_rng(0).normal(size=(7, 3)) + np.arange(7)[:, None] / 3
    design = stats.design_of(
        [streams(init=i, order=10 * i + j) for i in range(7) for j in range(3)]
    )
    expected = stats.t_interval(values.mean(axis=1))
    found = stats.mean_interval(values.ravel(), design)
    assert expected is not None
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.method == "block t"
    test = stats.mean_test(values.ravel(), np.zeros(21), design)
    assert test.p == stats.paired_permutation(values.mean(axis=1), np.zeros(7)).p
    assert (test.name, test.n) == ("block sign flips", 7)
    few = Design((("init", (0, 0, 1, 1, 2, 2)),), 6)
    assert stats.mean_test([1.0, 2, 3, 4, 5, 6], [0.0] * 6, few).p is None, "three blocks"


def test_crossed_seeds_by_hand() -> None:
    values = np.random.default_rng(1).normal(size=(4, 6))
    design = stats.design_of(crossed(4, 6))
    rows, columns = (values.mean(axis=k).var(ddof=1) / values.shape[1 - k] for k in (1, 0))
    df = (rows + columns) ** 2 / (rows**2 / 3 + columns**2 / 5)
    assert stats.mean_spread(values.ravel(), design) == pytest.approx((rows + columns, df))
    t = values.mean() / np.sqrt(rows + columns)
    test = stats.mean_test(values.ravel(), np.zeros(24), design)
    assert test.p == pytest.approx(2 * scipy_stats.t.sf(abs(t), df))
    interval = stats.mean_interval(values.ravel(), design)
    assert interval is not None
    assert interval.method == "two-way t"
    half = scipy_stats.t.ppf(0.975, df) * np.sqrt(rows + columns)
    assert (interval.low, interval.high) == pytest.approx(
        (values.mean() - half, values.mean() + half)
    )


def test_order_of_runs_changes_no_bit() -> None:
    runs, values = crossed(4, 5), np.random.default_rng(2).normal(size=20)
    turned = np.random.default_rng(3).permutation(20)
    first = stats.mean_spread(values, stats.design_of(runs))
    second = stats.mean_spread(values[turned], stats.design_of([runs[i] for i in turned]))
    assert first == pytest.approx(second, rel=1e-12)


def test_failed_share_of_crossed_seeds_is_less_sure() -> None:
    """Two of five initialisations fail, whatever the order: four degrees of freedom."""
    failed = [i < 2 for i, _ in product(range(5), range(5))]
    found = stats.share_interval(failed, stats.design_of(crossed(5, 5)))
    plain = stats.wilson(10, 25)
    assert found is not None
    assert plain is not None
    few = wilson_of_share(0.4, 4)
    assert (found.low, found.high) == pytest.approx((few.low, few.high))
    assert found.low < plain.low
    assert plain.high < found.high
    none = stats.share_interval([False] * 25, stats.design_of(crossed(5, 5)))
    assert none == stats.wilson(0, 5)


def test_no_spread_no_interval() -> None:
    design = stats.design_of(crossed(3, 3))
    assert stats.mean_interval([0.5] * 9, design) is None
    assert stats.mean_test([0.5] * 9, [0.5] * 9, design).p is None
    with pytest.raises(ValueError, match="share the seeds"):
        stats.mean_test([0.5] * 9, [0.5] * 8, design)
    with pytest.raises(ValueError, match="8 scores of 9 runs"):
        stats.mean_spread([0.5] * 8, design)

"""Intervals against scipy, closed forms and cases worked by hand."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats as oracle

from bluestab import stats
from bluestab.stats import Interval


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    assert interval.low < interval.high
    return interval.low, interval.high


def test_wilson_is_scipys() -> None:
    for n in range(1, 26):
        for failed in range(n + 1):
            expected = oracle.binomtest(failed, n).proportion_ci(0.9, method="wilson")
            assert ends(stats.wilson(failed, n, 0.9)) == pytest.approx(tuple(expected), abs=1e-12)
    low, high = ends(stats.wilson(0, 5))
    assert low == 0.0
    assert high == pytest.approx(0.4345, abs=1e-4)
    assert ends(stats.wilson(5, 5))[1] == 1.0
    assert stats.wilson(0, 0) is None
    for bad in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="failed runs among"):
            stats.wilson(*bad)


def test_t_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 10):
        x = rng.normal(70, 2, size=n)
        expected = oracle.t.interval(0.99, n - 1, x.mean(), x.std(ddof=1) / math.sqrt(n))
        assert ends(stats.t_interval(x, 0.99)) == pytest.approx(expected)
    assert stats.t_interval([1.0, 2.0]) == stats.default_interval([2.0, 1.0])
    # by hand: mean 2, std 1, t(2) 4.3027, sqrt(3)
    assert ends(stats.t_interval([1.0, 2.0, 3.0])) == pytest.approx((-0.4841, 4.4841), abs=1e-4)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("name", ["mean", "median", "iqm", "std"])
def test_bootstrap_is_scipys(method: str, name: str) -> None:
    """The same draws and the same ends; scipy's are of the scores as they stand."""
    statistic = getattr(stats, name)
    x = np.sort(np.random.default_rng(1).lognormal(size=12))

    def plain(row: np.ndarray) -> float:
        return float(statistic(row))

    expected = oracle.bootstrap(
        (x,), plain, vectorized=False, method=method, n_resamples=499, rng=np.random.default_rng(7)
    ).confidence_interval
    got = stats.bootstrap(x, statistic, method=method, resamples=499, seed=7)  # type: ignore[arg-type]
    assert ends(got) == pytest.approx(tuple(expected), rel=1e-9)
    # any function of the scores, not only those that are quick
    slow = stats.bootstrap(x, plain, method=method, resamples=499, seed=7)  # type: ignore[arg-type]
    assert ends(slow) == pytest.approx(tuple(expected), rel=1e-9)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_paired_bootstrap_is_that_of_differences(method: str) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 9))
    order = np.lexsort((b, a))
    expected = oracle.bootstrap(
        ((a - b)[order],), np.mean, method=method, n_resamples=999, rng=np.random.default_rng(0)
    ).confidence_interval
    got = stats.paired_bootstrap(a, b, method=method, resamples=999)  # type: ignore[arg-type]
    # scipy misses a tie or two for rounding, which moves bca's ends by a resample
    close = 1e-9 if method == "percentile" else 2e-3
    assert ends(got) == pytest.approx(tuple(expected), rel=close)
    low, high = ends(stats.paired_bootstrap(a, b, stats.median, method="percentile"))
    back = ends(stats.paired_bootstrap(b, a, stats.median, method="percentile"))
    assert back == pytest.approx(
        (-high, -low), abs=0.2
    )  # other draws, as the pairs are sorted by b


@given(st.lists(st.floats(0, 1), min_size=3, max_size=8), st.randoms(use_true_random=False))
@example([0.0, 0.0, 1.4628416737058688e-150], Random(0))
def test_the_order_of_runs_changes_no_bit(scores: list[float], random: Random) -> None:
    shuffled = list(range(len(scores)))
    random.shuffle(shuffled)
    a, b = scores, [x * x - 0.1 * i for i, x in enumerate(scores)]
    c, d = [a[i] for i in shuffled], [b[i] for i in shuffled]
    few = {"resamples": 49}
    for f in (stats.t_interval, lambda x: stats.bootstrap(x, **few)):
        assert f(a) == f(c)
    for g in (stats.paired_bootstrap, stats.std_ratio_interval):
        assert g(a, b, **few) == g(c, d, **few)
    assert stats.stratified_bootstrap({"x": a, "y": b}, **few) == stats.stratified_bootstrap(
        {"y": d, "x": c}, **few
    )
    assert stats.paired_permutation(a, b) == stats.paired_permutation(c, d)
    assert stats.paired_variance(a, b) == stats.paired_variance(c, d)
    assert stats.almost_stochastic_order(a, b, **few) == stats.almost_stochastic_order(c, d, **few)


def test_the_seed_decides() -> None:
    x = np.random.default_rng(3).normal(size=10)
    assert stats.bootstrap(x) == stats.bootstrap(x)
    assert stats.bootstrap(x, seed=1) != stats.bootstrap(x)


def test_undefined() -> None:
    flat = [0.1 + 0.2, 0.3, 0.3]  # equal but for rounding
    for scores in ([], [0.5], flat):
        assert stats.t_interval(scores) is None
        assert stats.bootstrap(scores) is None
        assert stats.paired_bootstrap(scores, scores[::-1]) is None
        assert stats.stratified_bootstrap({"a": scores}) is None
        assert stats.welch_interval({"a": scores}) is None
        assert stats.std_ratio_interval(scores, scores) is None
    assert stats.stratified_bootstrap({}) is None
    assert stats.welch_interval({}) is None
    assert stats.bootstrap([0.1, 0.2, 0.3], lambda x: None) is None
    # undefined in a quarter of the resamples
    half = [0.0, 1.0]
    assert stats.bootstrap(half, lambda x: None if max(x) == 0 else 1.0 + sum(x)) is None
    # one failed run in five: more than 2.5 % of the resamples leave one arm constant
    assert stats.bootstrap([0.9, 0.9, 0.9, 0.9, 0.5], stats.std, method="bca") is not None
    assert (
        stats.std_ratio_interval([0.9, 0.9, 0.9, 0.9, 0.5], [1, 2, 3, 4, 5], method="percentile")
        is None
    )


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="level is 95"):
        stats.t_interval([1, 2], 95)
    with pytest.raises(ValueError, match="method is 'basic'"):
        stats.bootstrap([1, 2], method="basic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="resamples is 0"):
        stats.bootstrap([1, 2], resamples=0)
    with pytest.raises(ValueError, match="needs its failure_score"):
        stats.bootstrap([1, math.nan])
    with pytest.raises(ValueError, match="2 scores cannot be paired with 3"):
        stats.paired_bootstrap([1, 2], [1, 2, 3])


def test_tasks_count_the_same() -> None:
    rng = np.random.default_rng(4)
    tasks = {"small": rng.normal(50, 3, size=5), "large": rng.normal(90, 1, size=10)}
    low, high = ends(stats.stratified_bootstrap(tasks))
    centre = (tasks["small"].mean() + tasks["large"].mean()) / 2
    assert low < centre < high
    # width: the spread of the mean over tasks, resampled with n in the denominator
    deviation = math.sqrt(sum(x.var() / len(x) for x in tasks.values())) / 2
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.05)
    assert stats.stratified_bootstrap({**tasks, "other": [1.0]}) is None
    with pytest.raises(ValueError, match="large 10, small 5"):
        stats.stratified_bootstrap(tasks, stats.iqm, pooled=True)


def test_pooled_iqm_is_that_of_all_runs() -> None:
    rng = np.random.default_rng(5)
    tasks = {"a": rng.normal(0, 1, 8), "b": rng.normal(10, 1, 8), "c": rng.normal(5, 1, 8)}
    low, high = ends(stats.stratified_bootstrap(tasks, stats.iqm, pooled=True))
    iqm = oracle.trim_mean(np.concatenate(list(tasks.values())), 0.25)
    assert low < iqm < high
    mine = ends(stats.stratified_bootstrap(tasks, stats.mean, pooled=True))
    assert mine == pytest.approx(ends(stats.stratified_bootstrap(tasks)), rel=1e-9)


def test_welch_is_students_for_one_task_and_scipys_for_two() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=5), rng.normal(scale=4, size=10)
    assert ends(stats.welch_interval({"a": a})) == pytest.approx(ends(stats.t_interval(a)))
    expected = oracle.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)
    got = ends(stats.welch_interval({"a": a, "b": b}))
    assert got == pytest.approx((expected.low / 2, expected.high / 2))


def test_pearson_interval() -> None:
    """Test and validation set of BIOSSES at r = 0.923: 20 and 16 pairs."""
    assert ends(stats.pearson_interval(0.923, 20)) == pytest.approx((0.81, 0.97), abs=0.005)
    assert ends(stats.pearson_interval(0.923, 16)) == pytest.approx((0.79, 0.97), abs=0.005)
    x, y = np.random.default_rng(7).normal(size=(2, 30))
    found = oracle.pearsonr(x, y)
    expected = tuple(found.confidence_interval(0.9))
    assert ends(stats.pearson_interval(found.statistic, 30, 0.9)) == pytest.approx(expected)
    assert stats.pearson_interval(0.5, 3) is None
    assert stats.pearson_interval(1.0, 30) is None
    with pytest.raises(ValueError, match="lies in"):
        stats.pearson_interval(1.1, 30)


def test_the_interval_over_folds_ends_where_its_test_rejects() -> None:
    scores = np.random.default_rng(3).normal(0.7, 0.1, size=5)
    found = stats.corrected_t_interval(scores, n_train=80, n_test=20)
    assert found is not None
    assert found.method == "corrected t"
    for end in (found.low, found.high):
        assert stats.corrected_resampled_t(scores - end, 80, 20).p == pytest.approx(0.05)
    plain = stats.t_interval(scores)
    assert plain is not None
    ratio = (found.high - found.low) / (plain.high - plain.low)
    assert ratio == pytest.approx((1 + 5 * 20 / 80) ** 0.5)
    assert stats.corrected_t_interval([0.5, 0.5], 80, 20) is None
    with pytest.raises(ValueError, match="0 test examples"):
        stats.corrected_t_interval(scores, 80, 0)

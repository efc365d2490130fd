"""Tests over seeds against scipy, all exchanges written out, and published examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as oracle

from bluestab import stats
from bluestab.stats import signflips


def by_hand(differences: list[float]) -> float:
    """Every choice of signs, in whole numbers."""
    seen = abs(sum(differences))
    flips = itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in flips]
    return sum(s >= seen for s in sums) / len(sums)


def test_permutation_by_hand() -> None:
    found = stats.paired_permutation([0.7] * 6, [0.6] * 6)
    assert (found.p, found.smallest_p, found.n) == (2 / 64, 2 / 64, 6)
    assert found.statistic == pytest.approx(0.1)
    assert found.name == "paired permutation"
    rng = np.random.default_rng(0)
    for n in (6, 7, 10):
        for _ in range(30):
            whole = rng.integers(-4, 5, size=n)  # with ties and zeros
            base = rng.integers(0, 100, size=n)
            found = stats.paired_permutation((base + whole) / 1000, base / 1000)
            expected = by_hand(whole.tolist())
            k = np.count_nonzero(whole)
            assert found.smallest_p == min(1.0, 2.0 ** (1 - k))
            assert found.p == (expected if k >= 6 else None)


def test_permutation_is_scipys() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 11))
    expected = oracle.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    found = stats.paired_permutation(a, b)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12)
    assert found.statistic == pytest.approx(expected.statistic)
    assert stats.default_test(a, b) == found


def test_twenty_pairs_are_exact() -> None:
    d = np.random.default_rng(2).normal(0.4, 1, size=20)
    signs = 1.0 - 2.0 * ((np.arange(2**20)[:, None] >> np.arange(20)) & 1)
    expected = np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-9)
    assert stats.paired_permutation(d, np.zeros(20)).p == expected


def test_many_pairs_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    d = np.random.default_rng(3).normal(0.3, 1, size=30)
    exact = stats.paired_permutation(d, np.zeros(30))
    monkeypatch.setattr(signflips, "EXACT", 20)
    drawn = stats.paired_permutation(d, np.zeros(30))
    assert drawn.name == "paired permutation (drawn)"
    assert drawn.p == pytest.approx(exact.p, abs=0.003)
    far = stats.paired_permutation(np.ones(30), np.zeros(30))
    assert far.p == far.smallest_p == 1 / 100_000  # never zero


def test_too_few_seeds_have_no_p() -> None:
    a = [0.9, 0.8, 0.7, 0.95, 0.85]
    b = [x - 0.1 for x in a]
    for test in (stats.paired_permutation, stats.wilcoxon):
        found = test(a, b)
        assert (found.p, found.smallest_p, found.n) == (None, 0.0625, 5)
        assert test(a, b, 0.1).p == 0.0625
        # six seeds, but at two of them both arms failed alike
        assert test([*a[:4], 0.5, 0.5], [*b[:4], 0.5, 0.5]).p is None
        assert test([], []).p is None
    spread = stats.paired_variance([1, 2, 3, 4, 9], [1, 2, 3, 4, 5])
    assert spread.p is None
    assert spread.smallest_p > 0.05


def test_wilcoxon_is_scipys() -> None:
    rng = np.random.default_rng(4)
    for n in (6, 9, 20, 45):
        a, b = rng.normal(size=(2, n))
        expected = oracle.wilcoxon(a, b, method="exact")
        found = stats.wilcoxon(a, b)
        assert found.p == pytest.approx(expected.pvalue)
        assert found.statistic == expected.statistic
    a = rng.normal(0.05, 1, size=300)
    expected = oracle.wilcoxon(a, method="approx")
    assert stats.wilcoxon(a, np.zeros(300)).p == pytest.approx(expected.pvalue, rel=0.01)


def test_wilcoxon_with_ties_by_hand() -> None:
    rng = np.random.default_rng(5)
    for _ in range(30):
        whole = rng.choice([-3, -2, -1, 1, 2, 3], size=8)
        base = rng.integers(0, 100, size=8)
        ranks = oracle.rankdata(np.abs(whole)) * np.sign(whole) * 2
        expected = by_hand(ranks.astype(int).tolist())
        zeros = np.zeros(2)
        found = stats.wilcoxon(
            np.concatenate([(base + whole) / 1000, zeros]), np.concatenate([base / 1000, zeros])
        )
        assert found.p == pytest.approx(expected)
        assert (found.n, found.smallest_p) == (10, 2 / 2**8)


def test_corrected_resampled_t_by_hand() -> None:
    """Ten folds: mean 1, std 1, so that t = 1 / sqrt(1/10 + 1/9)."""
    scores = np.array([1.0] * 5 + [0.0] * 5)
    scores = (scores - 0.5) / scores.std(ddof=1) + 1
    found = stats.corrected_resampled_t(scores, n_train=900, n_test=100)
    assert found.statistic == pytest.approx(1 / math.sqrt(0.1 + 1 / 9))
    assert found.p == pytest.approx(2 * oracle.t.sf(1 / math.sqrt(0.1 + 1 / 9), 9))
    assert stats.corrected_resampled_t([0.1], 9, 1).p is None
    assert stats.corrected_resampled_t([0.1, 0.1], 9, 1).p is None
    with pytest.raises(ValueError, match="0 test examples"):
        stats.corrected_resampled_t(scores, 900, 0)


def test_corrected_resampled_t_without_test_examples_is_students() -> None:
    scores = np.random.default_rng(6).normal(0.3, 1, size=8)
    found = stats.corrected_resampled_t(scores, n_train=10**12, n_test=1)
    assert found.p == pytest.approx(oracle.ttest_1samp(scores, 0).pvalue)


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # untested ones do not count
    assert stats.holm([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]
    assert stats.holm([None]) == [None]
    assert stats.holm([]) == []
    with pytest.raises(ValueError, match=r"p-value 1 is 1\.5"):
        stats.holm([0.5, 1.5])


def test_brown_forsythe_is_scipys() -> None:
    rng = np.random.default_rng(7)
    for n, m in ((5, 5), (6, 11), (20, 20)):
        a, b = rng.normal(size=n), rng.normal(scale=2, size=m)
        expected = oracle.levene(a, b, center="median")
        found = stats.brown_forsythe(a, b)
        assert (found.p, found.statistic) == pytest.approx((expected.pvalue, expected.statistic))
        assert found.n == n
    assert stats.brown_forsythe([1.0], [2.0, 3.0]).p is None
    assert stats.brown_forsythe([1.0, 1.0], [2.0, 2.0]).p is None


def spread_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """All exchanges, one at a time."""
    a, b = a - np.median(a), b - np.median(b)
    ratios = []
    for exchanged in itertools.product((False, True), repeat=len(a)):
        x, y = np.where(exchanged, b, a), np.where(exchanged, a, b)
        ratios.append(abs(math.log(x.std() / y.std())))
    return float(np.mean(np.array(ratios) >= ratios[0] - 1e-9))


def test_paired_variance_by_hand() -> None:
    rng = np.random.default_rng(8)
    for n in (6, 7, 9):
        a, b = rng.normal(size=n), rng.normal(scale=3, size=n)
        found = stats.paired_variance(a, b)
        assert found.p == spread_by_hand(a, b)
        assert found.statistic == stats.std_ratio(a, b)
        assert found.smallest_p == 2 / 2**n
        assert stats.paired_variance(b, a).p == found.p
        assert stats.paired_variance(a + 5, b).p == pytest.approx(found.p)


def test_paired_variance_of_constant_arms() -> None:
    varied = [1.0, 2.0, 4.0, 7.0, 11.0, 16.0, 22.0]
    found = stats.paired_variance([0.5] * 7, varied)
    # no exchange of some but not all pairs leaves an arm constant; the one at the median may
    assert found.p == 4 / 2**7
    assert found.statistic == 0.0
    assert stats.paired_variance(varied, [0.5] * 7).statistic is None
    assert stats.paired_variance([0.5] * 7, [0.7] * 7).p is None
    assert stats.paired_variance([0.5], [0.7]).p is None


def test_paired_variance_of_many_pairs_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from bluestab.stats import variance

    rng = np.random.default_rng(9)
    a, b = rng.normal(size=14), rng.normal(scale=1.7, size=14)
    exact = stats.paired_variance(a, b).p
    monkeypatch.setattr(variance, "EXACT", 10)
    drawn = stats.paired_variance(a, b)
    assert drawn.p == pytest.approx(exact, abs=0.005)
    assert drawn.name == "paired std permutation (drawn)"


def test_paired_variance_survives_a_failed_run() -> None:
    """One run far from close ones costs digits, but the arms as they are always count."""
    close = 0.9 + 1e-6 * np.arange(10)
    failed = np.append(close[:9] + 3e-7, 0.0)
    found = stats.paired_variance(close, failed)
    assert found.p is not None
    assert found.p >= found.smallest_p > 0


def test_std_ratio_interval_bootstrap_is_scipys() -> None:
    rng = np.random.default_rng(10)
    pairs = rng.normal(size=(12, 2)) * [1, 2]
    a, b = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].T
    for method in ("percentile", "bca"):
        expected = oracle.bootstrap(
            (a, b),
            lambda x, y, axis=-1: np.log(np.std(x, axis=axis) / np.std(y, axis=axis)),
            paired=True,
            method=method,
            n_resamples=499,
            rng=np.random.default_rng(0),
        ).confidence_interval
        got = stats.std_ratio_interval(a, b, method=method, resamples=499)
        assert got is not None
        assert (got.low, got.high) == pytest.approx(tuple(np.exp(expected)))


def test_std_ratio_jackknife_by_hand() -> None:
    a, b = np.random.default_rng(11).normal(size=(2, 7))
    whole = math.log(a.std(ddof=1) / b.std(ddof=1))
    pseudo = []
    for i in range(7):
        x, y = np.delete(a, i), np.delete(b, i)
        pseudo.append(7 * whole - 6 * math.log(x.std(ddof=1) / y.std(ddof=1)))
    expected = oracle.t.interval(0.95, 6, np.mean(pseudo), oracle.sem(pseudo))
    got = stats.std_ratio_interval(a, b)
    assert got is not None
    assert (math.log(got.low), math.log(got.high)) == pytest.approx(expected)
    back = stats.std_ratio_interval(b, 3 * a)
    assert back is not None
    assert (back.low, back.high) == pytest.approx((1 / got.high / 3, 1 / got.low / 3))


def test_std_ratio_jackknife_of_independent_arms_is_welchs() -> None:
    rng = np.random.default_rng(12)
    a, b = rng.normal(size=6), rng.normal(size=9)

    def pseudo(x: np.ndarray) -> list[float]:
        n = len(x)
        whole = math.log(x.std(ddof=1))
        return [n * whole - (n - 1) * math.log(np.delete(x, i).std(ddof=1)) for i in range(n)]

    expected = oracle.ttest_ind(pseudo(a), pseudo(b), equal_var=False).confidence_interval()
    got = stats.std_ratio_interval(a, b, paired=False)
    assert got is not None
    assert (math.log(got.low), math.log(got.high)) == pytest.approx(tuple(expected))
    # all runs but one agree: without that one there is no spread
    assert stats.std_ratio_interval([0.9] * 5 + [0.1], a) is None
    assert stats.std_ratio_interval([1, 2], [2, 5]) is None
    for method in ("percentile", "bca"):
        assert stats.std_ratio_interval(a, b, paired=False, method=method) is not None

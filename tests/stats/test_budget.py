"""Budgets, dominance, power and components against closed forms and everything written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as oracle

from bluestab import stats
from bluestab.stats.dominance import corrected_level


def test_expected_best_by_hand() -> None:
    scores = [0.9, 0.5, 0.7]
    unbiased = stats.expected_best(scores, 3)
    assert unbiased == pytest.approx([0.7, (0.7 + 0.9 + 0.9) / 3, 0.9])
    plug_in = stats.expected_best(scores, 3, "plug-in")
    assert plug_in == pytest.approx(
        [0.7, (0.5 + 3 * 0.7 + 5 * 0.9) / 9, (0.5 + 7 * 0.7 + 19 * 0.9) / 27]
    )


def test_expected_best_is_the_mean_over_all_draws() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, size=6) / 10  # with ties
    for k in range(1, 7):
        subsets = [max(part) for part in itertools.combinations(scores, k)]
        assert stats.expected_best(scores, k)[-1] == pytest.approx(np.mean(subsets))
        draws = [max(part) for part in itertools.product(scores, repeat=k)]
        assert stats.expected_best(scores, k, "plug-in")[-1] == pytest.approx(np.mean(draws))
        assert stats.expected_best_std(scores, k)[-1] == pytest.approx(np.std(draws))


def test_expected_best_of_hundreds_of_trials() -> None:
    scores = np.random.default_rng(1).normal(size=500)
    curve = stats.expected_best(scores, 500)
    assert curve[0] == pytest.approx(scores.mean())
    assert curve[-1] == scores.max()
    assert np.all(np.diff(curve) >= 0)
    assert curve[9] == pytest.approx(1.539, abs=0.2)  # expected largest of ten normal numbers


def test_plug_in_errs_low_and_the_other_does_not() -> None:
    rng = np.random.default_rng(2)
    truth = np.max(rng.normal(size=(200_000, 8)), axis=1).mean()
    samples = rng.normal(size=(2000, 10))
    unbiased = [stats.expected_best(s, 8)[-1] for s in samples]
    plug_in = [stats.expected_best(s, 8, "plug-in")[-1] for s in samples]
    assert np.mean(unbiased) == pytest.approx(truth, abs=0.04)
    assert np.mean(plug_in) < truth - 0.1
    assert np.mean(np.array(plug_in) < truth) > 0.6


def test_expected_best_refuses() -> None:
    for sampler in ("tpe", "grid", "manual"):
        with pytest.raises(ValueError, match=f"'{sampler}' depend on each other"):
            stats.expected_best([0.5, 0.6], 2, sampler=sampler)
        with pytest.raises(ValueError, match="depend on each other"):
            stats.expected_chosen([0.5], [0.5], 1, sampler=sampler)
    assert len(stats.expected_best([0.5, 0.6], 2, sampler="random")) == 2
    for budget in (0, 3):
        with pytest.raises(ValueError, match=r"lies in 1\.\.2"):
            stats.expected_best([0.5, 0.6], budget)
    with pytest.raises(ValueError, match="method is 'biased'"):
        stats.expected_best([0.5], 1, "biased")  # type: ignore[arg-type]


def test_expected_chosen_is_the_mean_over_all_subsets() -> None:
    validation, test = [3, 1, 2, 5, 4], [0.1, 0.9, 0.3, 0.2, 0.8]
    for k in range(1, 6):
        chosen = [
            max(part)[1] for part in itertools.combinations(zip(validation, test, strict=True), k)
        ]
        assert stats.expected_chosen(validation, test, k)[-1] == pytest.approx(np.mean(chosen))
    # equal in validation: a coin decides
    assert stats.expected_chosen([1, 1], [0.2, 0.4], 2) == pytest.approx([0.3, 0.3])
    assert stats.expected_chosen(test, test, 5) == pytest.approx(stats.expected_best(test, 5))
    with pytest.raises(ValueError, match="2 validation scores, but 1"):
        stats.expected_chosen([1, 2], [1], 1)


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


def test_seeds_needed_is_the_table_of_every_textbook() -> None:
    """Paired t-test, 5 % two-sided, power 0.8: 199, 34 and 15 pairs at d = 0.2, 0.5, 0.8."""
    unit = np.array([-1.0, 0.0, 1.0])  # std 1
    assert [stats.seeds_needed(unit, d) for d in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert stats.power_of(34, 0.5) == pytest.approx(0.8078, abs=1e-4)
    assert stats.seeds_needed(7 + 3 * unit, -1.5) == 34
    assert stats.more_seeds_needed(unit, 0.5) == 31
    assert stats.more_seeds_needed(np.tile(unit, 20), 0.5) == 0
    assert stats.seeds_needed(unit, 50) == 6  # fewer could not reach 5 % in a permutation test
    assert (stats.fewest_pairs(), stats.fewest_pairs(0.05 / 8)) == (6, 9)
    assert stats.seeds_needed(unit, 1e-6) is None
    assert stats.seeds_needed([1.0], 0.5) is None
    assert stats.seeds_needed([1.0, 1.0], 0.5) is None
    assert stats.more_seeds_needed([1.0], 0.5) is None
    assert stats.power_of(1, 9) == 0.0
    assert stats.power_of(30, 9) == 1.0
    for bad in (0.0, float("nan")):
        with pytest.raises(ValueError, match="smallest difference"):
            stats.seeds_needed(unit, bad)
    with pytest.raises(ValueError, match="power is 80"):
        stats.seeds_needed(unit, 0.5, 80)


def test_assurance_allows_for_a_spread_that_was_small_by_luck() -> None:
    differences = np.random.default_rng(7).normal(size=10)
    plain = stats.seeds_needed(differences, 0.5)
    sure = stats.seeds_needed(differences, 0.5, assurance=0.8)
    wider = differences * np.sqrt(9 / oracle.chi2.ppf(0.2, 9))
    assert sure == stats.seeds_needed(wider, 0.5)
    assert plain is not None
    assert sure is not None
    assert sure > plain


def test_power_is_that_of_many_t_tests() -> None:
    d = np.random.default_rng(8).normal(0.6, 1, size=(20_000, 12))
    found = np.mean(oracle.ttest_1samp(d, 0, axis=1).pvalue <= 0.05)
    assert stats.power_of(12, 0.6) == pytest.approx(found, abs=0.01)


def test_two_way_by_hand() -> None:
    """Rows 1 2 3 / 3 4 8: means 2, 5; columns 2, 3, 5.5."""
    found = stats.two_way([[1, 2, 3], [3, 4, 8]])
    assert found is not None
    assert (found.df_init, found.df_order, found.df_residual) == (1, 2, 2)
    assert found.f_init == pytest.approx(13.5 / 1.5)
    assert found.f_order == pytest.approx(6.5 / 1.5)
    assert found.residual == pytest.approx(1.5)
    assert found.init == pytest.approx((13.5 - 1.5) / 3)
    assert found.order == pytest.approx((6.5 - 1.5) / 2)
    assert found.p_init == pytest.approx(oracle.f.sf(9, 1, 2))
    assert found.p_order == pytest.approx(oracle.f.sf(13 / 3, 2, 2))
    total = 1.5 + 4 + 2.5
    assert (found.share_init, found.share_order, found.share_residual) == pytest.approx(
        (4 / total, 2.5 / total, 1.5 / total)
    )
    # varying the initialisation alone: columns (1, 3), (2, 4), (3, 8) have variances 2, 2, 12.5
    assert found.std_init_alone == pytest.approx(np.sqrt(5.5))
    assert found.std_order_alone == pytest.approx(np.sqrt((1 + 7) / 2))


def test_two_way_finds_what_was_put_in() -> None:
    rng = np.random.default_rng(9)
    found = [
        stats.two_way(
            2 * rng.normal(size=(8, 1)) + rng.normal(size=6) + 0.5 * rng.normal(size=(8, 6))
        )
        for _ in range(1500)
    ]
    means = np.mean([(f.init, f.order, f.residual) for f in found if f], axis=0)
    assert means == pytest.approx([4.0, 1.0, 0.25], rel=0.06)
    null = [stats.two_way(rng.normal(size=(5, 5))) for _ in range(2000)]
    for share in (
        np.mean([f.p_init <= 0.05 for f in null if f and f.p_init is not None]),
        np.mean([f.p_order <= 0.05 for f in null if f and f.p_order is not None]),
    ):
        assert share == pytest.approx(0.05, abs=0.015)


def test_two_way_edges() -> None:
    scores = np.random.default_rng(10).normal(size=(4, 3))
    found = stats.two_way(scores)
    assert stats.two_way(scores[::-1, [2, 0, 1]]) == found
    turned = stats.two_way(scores.T)
    assert found is not None
    assert turned is not None
    assert turned.init == pytest.approx(found.order)
    flat = stats.two_way(np.full((3, 3), 0.1))
    assert flat is not None
    assert (flat.init, flat.share_init, flat.f_init, flat.p_init) == (0.0, None, None, None)
    assert stats.two_way([[1.0, 2.0]]) is None
    with pytest.raises(ValueError, match=r"not of shape \(2,\)"):
        stats.two_way([1.0, 2.0])
    with pytest.raises(ValueError, match="failure_score"):
        stats.two_way([[1.0, np.nan], [1.0, 2.0]])


def test_contrasts_within_folds_hold_the_spread_over_seeds_and_nothing_of_the_folds() -> None:
    """Helmert's: orthonormal, so their squares add up to those around the means of the folds."""
    drawn = np.random.default_rng(0)
    folds = {fold: drawn.normal(size=n) for fold, n in enumerate((4, 1, 3))}
    found = stats.within_folds(folds)
    assert len(found) == 3 + 0 + 2
    around = sum(float(((x - x.mean()) ** 2).sum()) for x in folds.values())
    assert float((found**2).sum()) == pytest.approx(around)
    assert found[0] == pytest.approx((folds[0][0] - folds[0][1]) / 2**0.5)
    moved = stats.within_folds({fold: x + 10 * fold for fold, x in folds.items()})
    assert moved == pytest.approx(found)
    assert len(stats.within_folds({})) == 0


def test_nested_mean_by_hand() -> None:
    found = stats.nested_mean({1: [0.6, 0.8], 0: [0.5], 10: [0.9, 0.9, 0.9]})
    assert found is not None
    assert found.by_fold == pytest.approx([0.5, 0.7, 0.9])
    assert found.mean == pytest.approx(0.7)
    assert found.std_folds == pytest.approx(0.2)
    assert found.std_seeds == pytest.approx(np.sqrt((0.02 + 0) / 2))
    assert (found.n_folds, found.n) == (3, 6)
    single = stats.nested_mean({"a": [0.5]})
    assert single is not None
    assert (single.std_folds, single.std_seeds) == (None, None)
    assert stats.nested_mean({}) is None
    with pytest.raises(ValueError, match="fold 'b' has no score"):
        stats.nested_mean({"a": [1.0], "b": []})

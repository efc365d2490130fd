"""Expected best of k runs, by hand and as a mean over all draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bluestab import stats


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

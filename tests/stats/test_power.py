"""How many seeds are needed, against textbooks and many t tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as oracle

from bluestab import stats


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


def test_a_pilot_reaches_the_power_as_often_as_planned() -> None:
    """Pilots of 5 seeds, one standard deviation to find, eight arms corrected by Bonferroni.

    As planned without assurance, and before the correction, half of the pilots ask for too few.
    """
    rng, d, level = np.random.default_rng(11), 1.0, 0.05 / 8
    reached = {"plain": 0, "assured": 0}
    for _ in range(400):
        pilot = rng.normal(size=5)
        for name, told in (
            ("plain", {"level": 0.05}),
            ("assured", {"level": level, "assurance": 0.8}),
        ):
            n = stats.seeds_needed(pilot, d, **told)
            assert n is not None
            reached[name] += stats.power_of(n, d, level) >= 0.8
    assert reached["assured"] / 400 >= 0.8 - 0.06
    assert reached["plain"] / 400 < 0.4

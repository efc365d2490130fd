"""Signs that may be looked at again: the formula, its interval, and how often it errs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from bluestab.stats.anytime import anytime_change, fewest_looked, fortune, p_of_signs


def test_the_fortune_is_that_of_all_biased_coins() -> None:
    for n in (1, 5, 12):
        for k in range(n + 1):
            expected = quad(lambda t, k=k, n=n: 2**n * t**k * (1 - t) ** (n - k), 0, 1)[0]
            assert fortune(k, n) == pytest.approx(expected)
    assert fortune(5000, 5000) > 1e300
    assert p_of_signs(10, 10) == pytest.approx(11 / 1024)


def test_betting_on_fair_coins_is_fair() -> None:
    """One more sign leaves the fortune as it is, on average: a martingale."""
    for n in range(12):
        for k in range(n + 1):
            after = (fortune(k, n + 1) + fortune(k + 1, n + 1)) / 2
            assert after == pytest.approx(fortune(k, n))


def test_fewest() -> None:
    assert fewest_looked(0.05) == 8
    assert p_of_signs(8, 8) <= 0.05 < p_of_signs(7, 7)
    few = anytime_change(np.arange(7) + 1.0, np.zeros(7))
    assert (few.n, few.delta, few.p, few.low) == (7, 4.0, None, None)


@given(st.lists(st.integers(-5, 5), min_size=8, max_size=24), st.sampled_from([0.05, 0.2]))
def test_p_and_interval_are_one_statement(values: list[int], level: float) -> None:
    a = np.array(values, dtype=float)
    found = anytime_change(a, np.zeros(len(a)), level)
    assert found.p is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.high
    assert (found.p <= level) == (not found.low <= 0 <= found.high)
    for theta in np.arange(-6, 6) + 0.5:
        inside = found.low <= theta <= found.high
        below = int((a < theta).sum())
        assert inside == (p_of_signs(below, len(a)) > level)


def test_several_arms_share_the_level() -> None:
    a = np.arange(12) + 1.0
    one, four = anytime_change(a, np.zeros(12)), anytime_change(a, np.zeros(12), n_arms=4)
    assert one.p is not None
    assert four.p == pytest.approx(4 * one.p)
    assert four.low is not None
    assert one.low is not None
    assert four.low <= one.low
    with pytest.raises(ValueError, match="cannot be paired"):
        anytime_change(a, a[:3])


def test_looking_after_every_seed_errs_no_more_than_said() -> None:
    """Two arms alike, from 8 to 40 seeds: the paired permutation test finds something in 20 %."""
    rng = np.random.default_rng(5)
    positive = np.cumsum(rng.normal(size=(4000, 40)) > 0, axis=1)
    p = np.array(
        [[p_of_signs(k, n) for k in range(n + 1)] + [1.0] * (40 - n) for n in range(1, 41)]
    )
    ever = (p[np.arange(40), positive] <= 0.05).any(axis=1)
    assert ever.mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)

"""Intervals with other test items: against loops, and beside those over seeds alone."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as oracle

from bluestab import stats
from bluestab.stats import Interval
from bluestab.tasks.score_sums import of_items
from bluestab.tasks.score_sums import score as item_score
from bluestab.tasks.scoring import pearson

FEW = {"resamples": 499}
CORRELATION = item_score("pearson")


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    assert interval.low < interval.high
    return interval.low, interval.high


def correlated(n_seeds: int = 5, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    truth = rng.normal(size=20)
    predicted = (
        0.9 * truth + 0.4 * rng.normal(size=(n_seeds, 20)) + 0.1 * rng.normal(size=(n_seeds, 1))
    )
    return truth, predicted + shift * rng.normal(size=20)


def test_one_seed_has_the_noise_of_the_test_set() -> None:
    """140 questions, 87.6 % right: a standard error of 2.8 points."""
    right = (np.arange(140) < 0.876 * 140).astype(int)
    items = of_items("accuracy", right.tolist(), [1] * 140)
    low, high = ends(stats.items_and_seeds_interval(item_score("accuracy"), [items]))
    assert (high - low) / (2 * 1.96) == pytest.approx(0.028, abs=0.002)


def test_both_count() -> None:
    truth, predicted = correlated()
    seeds = [of_items("pearson", p, truth) for p in predicted]
    both = stats.items_and_seeds_interval(CORRELATION, seeds, **FEW)
    low, high = ends(both)
    scores = [pearson(p, truth) for p in predicted]
    assert low < np.mean(scores) < high
    over_seeds = ends(stats.t_interval(scores))
    assert high - low > 1.2 * (over_seeds[1] - over_seeds[0])
    assert stats.items_and_seeds_interval(CORRELATION, seeds[::-1], **FEW) == both
    # the same items for both arms: what they share cancels
    worse = [of_items("pearson", p, truth) for p in correlated(shift=0.3)[1]]
    difference = ends(stats.items_and_seeds_interval(CORRELATION, seeds, minus=worse, **FEW))
    assert difference[0] < difference[1] < high
    assert stats.items_and_seeds_interval(CORRELATION, seeds, minus=seeds, **FEW) is None
    # a diverged seed scores the same whatever the items
    diverged = ends(stats.items_and_seeds_interval(CORRELATION, [*seeds[:4], 0.0], **FEW))
    assert diverged[0] < low
    flat = of_items("pearson", np.full(20, 3.0), truth)
    assert stats.items_and_seeds_interval(CORRELATION, [flat], **FEW) is None
    with pytest.raises(ValueError, match=r"5 seeds with items of shapes \[\(19, 6\), \(20, 6\)\]"):
        stats.items_and_seeds_interval(CORRELATION, [*seeds[:4], seeds[4][:19]])
    with pytest.raises(ValueError, match="5 and 4 seeds"):
        stats.items_and_seeds_interval(CORRELATION, seeds, minus=seeds[:4])


def test_it_is_the_two_intervals_at_a_right_angle() -> None:
    """Against loops that draw items one by one, at the expanded level, and Student's t."""
    rng = np.random.default_rng(4)
    truth = rng.normal(size=12)
    predicted = truth + rng.normal(size=(4, 12))
    drawn = []
    for _ in range(4000):
        items = rng.integers(0, 12, size=12)
        drawn.append(np.mean([pearson(predicted[s][items], truth[items]) for s in range(4)]))
    tail = NormalDist().cdf(-oracle.t.ppf(0.975, 11) * math.sqrt(12 / 11))
    over_items = np.quantile(drawn, [tail, 1 - tail])
    scores = [pearson(p, truth) for p in predicted]
    over_seeds, centre = ends(stats.t_interval(scores)), np.mean(scores)
    expected = (
        centre - math.hypot(centre - over_items[0], centre - over_seeds[0]),
        centre + math.hypot(over_items[1] - centre, over_seeds[1] - centre),
    )
    seeds = [of_items("pearson", p, truth) for p in predicted]
    found = ends(stats.items_and_seeds_interval(CORRELATION, seeds, resamples=4000))
    assert found == pytest.approx(expected, abs=0.03)


def test_the_printed_interval_is_taken() -> None:
    truth, predicted = correlated()
    seeds = [of_items("pearson", p, truth) for p in predicted]
    centre = float(np.mean([pearson(p, truth) for p in predicted]))
    wide = Interval(centre - 3, centre + 4, 0.95, "of another design")
    found = ends(stats.items_and_seeds_interval(CORRELATION, seeds, over_seeds=wide, **FEW))
    assert found[0] <= wide.low
    assert found[1] >= wide.high
    assert found == pytest.approx((wide.low, wide.high), abs=0.05)


@given(
    st.integers(2, 6),
    st.sampled_from([2, 20, 500]),
    st.floats(0, 3),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_never_narrower_than_over_seeds(
    n_seeds: int, n_items: int, sd: float, stream: int, paired: bool
) -> None:
    rng = np.random.default_rng(stream)

    def arm() -> list[np.ndarray]:
        right = rng.normal(size=(n_seeds, n_items)) + sd * rng.normal(size=(n_seeds, 1)) > 0
        return [np.stack([row, np.ones(n_items)], axis=1) for row in right.astype(float)]

    own, other = arm(), arm() if paired else None
    changes = [x[:, 0].mean() for x in own]
    if other is not None:
        changes = [x - y[:, 0].mean() for x, y in zip(changes, other, strict=True)]
    alone = stats.t_interval(changes)
    found = stats.items_and_seeds_interval(item_score("accuracy"), own, minus=other, resamples=99)
    if alone is not None:
        low, high = ends(found)
        assert low <= alone.low + 1e-9
        assert high >= alone.high - 1e-9

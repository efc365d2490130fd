"""Racing, decided by hand; the pooled error against a least-squares solver."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluestab.sweeps.search.objectives import OBJECTIVES
from bluestab.sweeps.search.race import (
    Race,
    as_if_complete,
    fewest_pairs,
    residual_std,
    rungs,
    verdict,
)

MEAN = OBJECTIVES["mean"]
HALVING = Race("halving", eta=2, margin=1e9, p=0.1)  # ranks alone
BOUND = Race("halving", eta=2, margin=1.0, p=0.1)
WILCOXON = Race("wilcoxon", eta=2, margin=1.0, p=0.1)


def test_rungs() -> None:
    assert rungs(2, 5) == [1, 2, 4]
    assert rungs(2, 4) == [1, 2]
    assert rungs(3, 10) == [1, 3, 9]
    assert rungs(2, 1) == []
    assert rungs(2, 2) == [1]


def test_the_better_half_goes_on() -> None:
    others = [[0.1], [0.2], [0.3]]
    assert verdict([0.25], others, HALVING, MEAN, 5) is None  # 2. of 4
    assert verdict([0.15], others, HALVING, MEAN, 5) == "3. of 4 points after 1 of 5 seeds"
    assert verdict([0.25], [*others, [0.3]], HALVING, MEAN, 5) is None  # 3. of 5: half, rounded up
    assert verdict([0.3], [[0.3]], HALVING, MEAN, 5) is None  # a tie is no defeat


def test_points_are_compared_on_the_seeds_they_share() -> None:
    """The later seeds of the others are hard: they must not make the newcomer look good."""
    others = [[0.5, 0.6, 0.0, 0.0, 0.0]]
    assert verdict([0.4], others, HALVING, MEAN, 5) is not None
    assert verdict([0.4, 0.8], others, HALVING, MEAN, 5) is None
    assert verdict([0.4, 0.8, 0.0], others, HALVING, MEAN, 5) is None  # 3 is no rung
    assert verdict([0.4], [[]], HALVING, MEAN, 5) is None  # nobody got so far


def test_the_first_and_the_complete_are_never_stopped() -> None:
    assert verdict([0.1], [], HALVING, MEAN, 5) is None
    assert verdict([], [[0.9]], HALVING, MEAN, 5) is None
    assert verdict([0.1] * 5, [[0.9] * 5], HALVING, MEAN, 5) is None
    assert verdict([0.1], [[0.9]], Race("none", 2, 1.0, 0.1), MEAN, 5) is None


def test_shown_to_be_worse_than_the_leader() -> None:
    """After 3 seeds, which is no rung, by just more or just less than the pooled error allows."""
    leader, other = [0.80, 0.81, 0.79, 0.80, 0.80], [0.70, 0.70, 0.71, 0.69, 0.70]
    error = residual_std([leader[:3], leader, other])  # a constant less changes no residual
    assert error is not None

    def told(factor: float, others: list[list[float]]) -> str | None:
        less = factor * error * math.sqrt(2 / 3)
        return verdict([score - less for score in leader[:3]], others, BOUND, MEAN, 5)

    assert "worse than the leader" in str(told(1.01, [leader, other]))
    assert told(0.99, [leader, other]) is None
    assert told(1.01, [leader[:4], other[:4]]) is None  # nobody has all seeds


def test_wilcoxon_acts_from_its_first_possible_seed() -> None:
    assert (fewest_pairs(0.1), fewest_pairs(0.05), fewest_pairs(0.25)) == (4, 5, 2)
    leader = [0.9, 0.8, 0.85, 0.95, 0.9, 0.9]
    worse = [score - 0.01 * (i + 1) for i, score in enumerate(leader)]
    acts = [verdict(worse[:k], [leader], WILCOXON, MEAN, 6) is not None for k in range(1, 6)]
    assert acts == [False, False, False, True, True]
    better = [score + 0.1 for score in leader]
    assert verdict(better[:5], [leader], WILCOXON, MEAN, 6) is None


@given(st.integers(0, 10**6))
def test_residual_std_is_that_of_least_squares(seed: int) -> None:
    draws = np.random.default_rng(seed)
    n, width = int(draws.integers(2, 7)), int(draws.integers(2, 6))
    rows = [draws.normal(size=int(draws.integers(2, width + 1))).tolist() for _ in range(n)]
    width = max(map(len, rows))
    design, scores = [], []
    for i, row in enumerate(rows):
        for k, score in enumerate(row):
            design.append([float(i == j) for j in range(n)] + [float(k == j) for j in range(width)])
            scores.append(score)
    solved = np.linalg.lstsq(np.array(design), np.array(scores), rcond=None)[0]
    left = np.array(scores) - np.array(design) @ solved
    freedom = len(scores) - n - width + 1
    found = residual_std(rows)
    if freedom < 1:
        assert found is None
    else:
        assert found == pytest.approx(math.sqrt(float((left**2).sum()) / freedom), abs=1e-6)


def test_one_score_says_nothing_about_the_error() -> None:
    assert residual_std([[0.1], [0.5], [0.9]]) is None
    assert residual_std([[0.1, 0.2], [0.5]]) is None


def test_a_stopped_point_is_estimated_with_the_seeds_put_right() -> None:
    full = [[0.9, 0.5, 0.4], [0.7, 0.3, 0.2]]  # the first seed is 0.3 better than the mean of all
    assert as_if_complete([0.8], full, 3) == pytest.approx(0.5)
    assert as_if_complete([0.8], [[0.9]], 3) == 0.8

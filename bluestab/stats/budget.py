"""What a budget of runs can be expected to find: the best of k, by validation."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from bluestab.stats.arrays import FloatArray, finite, ordered

INDEPENDENT = ("seeds", "random")
"""Ways to draw trials that leave them independent and alike, which every curve here needs."""


def expected_best(
    scores: npt.ArrayLike,
    budget: int,
    method: Literal["unbiased", "plug-in"] = "unbiased",
    *,
    sampler: str = "seeds",
) -> FloatArray:
    """Expected best of k of the `scores` `(n_trials,)`, for k = 1..budget: `(budget,)`.

    unbiased  sum_j v_(j) C(j-1, k-1) / C(n, k): all subsets of k alike (Tang et al. 2020)
    plug-in   sum_j v_(j) ((j/n)^k - ((j-1)/n)^k): draws with replacement (Dodge et al. 2019); errs
              low, as a draw may come twice
    sampler   how the trials were chosen, `seeds` or `random`. Any other, as tpe or grid, raises
              ValueError: its trials depend on each other, and the curve would be wrong
    Both are the mean at k = 1 and never above the best. Raises ValueError if budget does not lie in
    1..n: nothing is known beyond the trials made.
    """
    _independent(sampler)
    values = ordered(scores)
    _within(budget, len(values))
    if method == "unbiased":
        weights = _subset_weights(len(values), budget)
    elif method == "plug-in":
        weights = _plug_in_weights(len(values), budget)
    else:
        raise ValueError(f"method is {method!r}: choose unbiased or plug-in")
    return np.array([math.fsum(row) for row in weights * values])


def expected_best_std(scores: npt.ArrayLike, budget: int, *, sampler: str = "seeds") -> FloatArray:
    """Standard deviation of the best of k draws with replacement, for k = 1..budget: `(budget,)`.

    sqrt(sum_j w_j (v_(j) - expected_best)^2) with the plug-in weights (Dodge et al. 2019, 3.3). It
    is the spread of one search, not the uncertainty of the curve. Errors as `expected_best`.
    """
    centre = expected_best(scores, budget, "plug-in", sampler=sampler)
    values = ordered(scores)
    weights = _plug_in_weights(len(values), budget)
    found: FloatArray = np.sqrt(np.sum(weights * (values - centre[:, None]) ** 2, axis=1))
    return found


def expected_chosen(
    validation: npt.ArrayLike, test: npt.ArrayLike, budget: int, *, sampler: str = "seeds"
) -> FloatArray:
    """Expected test score of the best of k trials by validation, for k = 1..budget: `(budget,)`.

    The j-th from below of n is chosen with probability C(j-1, k-1) / C(n, k); trials equal in
    validation count with the mean of their test scores. May fall as k grows, where validation
    selects noise. Errors as `expected_best`, and ValueError if the two differ in length.
    """
    _independent(sampler)
    chosen_by, scored = finite(validation), finite(test)
    if len(chosen_by) != len(scored):
        raise ValueError(f"{len(chosen_by)} validation scores, but {len(scored)} test scores")
    _within(budget, len(scored))
    order = np.lexsort((scored, chosen_by))
    chosen_by, scored = chosen_by[order], scored[order]
    _, group = np.unique(chosen_by, return_inverse=True)
    scored = (np.bincount(group, scored) / np.bincount(group))[group]
    return np.array([math.fsum(row) for row in _subset_weights(len(scored), budget) * scored])


def _subset_weights(n: int, budget: int) -> FloatArray:
    """Row k - 1: chance that the j-th smallest of n is the largest of k drawn, `(budget, n)`."""
    weights = np.zeros((budget, n))
    place = np.arange(n, 1, -1)  # j = n, n-1, .., 2
    for k in range(1, budget + 1):
        # C(j-1, k-1) / C(n, k) is k/n for j = n, and each step down multiplies by (j-k) / (j-1)
        steps = np.maximum(place - k, 0) / (place - 1)
        weights[k - 1] = k / n * np.cumprod(np.concatenate([[1.0], steps]))[::-1]
    return weights


def _plug_in_weights(n: int, budget: int) -> FloatArray:
    reached = np.arange(n + 1) / n
    return np.array([np.diff(reached**k) for k in range(1, budget + 1)])


def _within(budget: int, n: int) -> None:
    if not 1 <= budget <= n:
        raise ValueError(f"budget is {budget}: with {n} trials it lies in 1..{n}")


def _independent(sampler: str) -> None:
    if sampler not in INDEPENDENT:
        raise ValueError(
            f"trials chosen by {sampler!r} depend on each other: a curve over budgets needs "
            f"independent ones, drawn by {' or '.join(INDEPENDENT)}"
        )

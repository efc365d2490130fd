"""Is one arm better as a distribution, not only in its mean? Pairs of seeds do not count here."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from bluestab.stats import resampling
from bluestab.stats.arrays import TIE, FloatArray, arms, ordered, scale, share
from bluestab.stats.intervals import Interval


def probability_of_improvement(a: npt.ArrayLike, b: npt.ArrayLike) -> float | None:
    """P(a run of `a` beats one of `b`), ties half, over all n_a n_b combinations; in [0, 1].

    Mann and Whitney's U / (n_a n_b), as rliable (Agarwal et al. 2021). 0.5 means neither; 0.75 is
    the least that Bouthillier et al. (2021) call an improvement. None if an arm has no score.
    """
    left, right = ordered(a), ordered(b)
    if not len(left) or not len(right):
        return None
    return float(_wins(left[None], right[None], TIE * scale(left, right))[0])


def probability_of_improvement_interval(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    paired: bool = True,
    *,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval | None:
    """Percentile bootstrap interval of `probability_of_improvement`, as rliable.

    paired  draw seeds, with both their scores; False draws the scores of each arm on their own
    None if an arm has n < 2 or all resamples agree, as they do if every run of one arm beats all of
    the other. Covers less often than it says below 20 seeds, see `bluestab.stats`.
    Raises ValueError if paired arms differ in length.
    """
    share(level)
    left, right = arms(a, b, paired)
    if min(len(left), len(right)) < 2:
        return None
    samples = resampling.samples_of(left, right, paired, resamples, seed)
    ends = resampling.percentile(_wins(*samples, TIE * scale(left, right)), level)
    return ends and Interval(*ends, level, "percentile")


def almost_stochastic_order(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    level: float = 0.95,
    comparisons: int = 1,
    resamples: int = 1000,
    seed: int = 0,
) -> float | None:
    """e_min: an upper bound of how far `a` is from beating `b` at every quantile, in [0, 1].

    e = int (Qb - Qa)+^2 / int (Qb - Qa)^2 over quantiles, 0 if a dominates, 1 if b does; e_min =
    clip(e - sqrt((n + m) / nm) s z(1 - level), 0, 1), s from the bootstrap (del Barrio et al. 2018;
    Dror et al. 2019; Ulmer et al. 2022, arXiv 2204.06815). The integrals over the two step
    functions are exact, where deep-significance sums over a grid. a is called better if e_min < 0.2
    (their advice, for 0.5 has many false positives); print it with the level. e_min(a, b) is not
    1 - e_min(b, a).
    comparisons  how many are made: the level becomes 1 - (1 - level) / comparisons, Bonferroni's.
                 deep-significance 1.2.8 adds (1 - level) / comparisons to the level instead, which
                 weakens it the more comparisons there are
    Equal arms have e = 0.5: neither is better. None if an arm has n < 2. It is large-sample theory
    and ignores that seeds are shared: false positives in `bluestab.stats`.
    """
    corrected = corrected_level(level, comparisons)
    left, right = ordered(a), ordered(b)
    n, m = len(left), len(right)
    if min(n, m) < 2:
        return None
    tie = TIE * scale(left, right)
    observed = float(_violation(left[None], right[None], tie)[0])
    drawn = _violation(
        np.sort(left[resampling.draws(n, resamples, seed)], axis=1),
        np.sort(right[resampling.draws(m, resamples, seed + 1)], axis=1),
        tie,
    )
    # sqrt((n + m) / nm) and the sqrt(nm / (n + m)) inside s cancel
    spread = float(np.std(drawn - observed))
    bound = observed - spread * NormalDist().inv_cdf(1 - corrected)
    return min(1.0, max(0.0, bound))


def corrected_level(level: float, comparisons: int) -> float:
    """Bonferroni: 1 - (1 - level) / comparisons. Raises ValueError if there are none."""
    if comparisons < 1:
        raise ValueError(f"comparisons is {comparisons}: count the one being made")
    return 1 - (1 - share(level)) / comparisons


def _wins(left: FloatArray, right: FloatArray, tie: float) -> FloatArray:
    """Row by row share of combinations in which left is larger, ties half."""
    wins = np.zeros(len(left))
    for column in range(left.shape[1]):
        ahead = left[:, column, None] - right
        wins += np.sum(ahead > tie, axis=1) + 0.5 * np.sum(np.abs(ahead) <= tie, axis=1)
    wins /= left.shape[1] * right.shape[1]
    return wins


def _violation(left: FloatArray, right: FloatArray, tie: float) -> FloatArray:
    """e of each row of sorted scores `(rows, n)` and `(rows, m)`; 0.5 where both are equal."""
    n, m = left.shape[1], right.shape[1]
    # both quantile functions are constant between these, in units of 1 / nm
    edges = np.unique(np.concatenate([np.arange(n + 1) * m, np.arange(m + 1) * n]))
    width, start = np.diff(edges), edges[:-1]
    behind = right[:, start // n] - left[:, start // m]
    behind = np.where(np.abs(behind) <= tie, 0.0, behind)
    total = (behind**2) @ width
    against = (np.maximum(behind, 0.0) ** 2) @ width
    found: FloatArray = np.where(total > 0, against / np.where(total > 0, total, 1.0), 0.5)
    return found

"""Bootstrap samples and what intervals are made of them. Every draw comes from an explicit seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from bluestab.stats import describe
from bluestab.stats.arrays import TIE, FloatArray, scale

Statistic = Callable[[npt.ArrayLike], float | None]
"""Scores `(n_seeds,)` -> a number, or None where it is undefined."""

UNDEFINED = 0.01
"""Share of resamples in which a statistic may be undefined before its interval is, too."""


def draws(n: int, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """Indices `(resamples, n)` in [0, n), with replacement."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}: draw at least one")
    return np.random.default_rng(seed).integers(0, n, size=(resamples, n))


def samples_of(
    left: FloatArray, right: FloatArray, paired: bool, resamples: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Bootstrap samples `(resamples, n)` of two arms; of paired ones the same seeds are drawn."""
    rows = draws(len(left), resamples, seed)
    other = rows if paired else draws(len(right), resamples, seed + 1)
    return left[rows], right[other]


def of_rows(statistic: Statistic, samples: FloatArray) -> FloatArray:
    """`statistic` of every row of `samples` `(resamples, n)`; NaN, inside here only, for None."""
    quick = _QUICK.get(statistic)
    if quick is not None:
        return quick(samples)
    found = (statistic(row) for row in samples)
    return np.array([math.nan if value is None else value for value in found], dtype=np.float64)


def _quick_iqm(samples: FloatArray) -> FloatArray:
    n = samples.shape[1]
    middle: FloatArray = np.sort(samples, axis=1)[:, n // 4 : n - n // 4].mean(axis=1)
    return middle


def _quick_std(samples: FloatArray) -> FloatArray:
    found: FloatArray = np.std(samples, axis=1, ddof=1)
    # rounding would give equal scores a spread
    return np.where(np.ptp(samples, axis=1) == 0, 0.0, found)


_QUICK: dict[Statistic, Callable[[FloatArray], FloatArray]] = {
    describe.mean: lambda samples: samples.mean(axis=1),
    describe.median: lambda samples: np.median(samples, axis=1),
    describe.iqm: _quick_iqm,
    describe.std: _quick_std,
}
"""The same numbers for all rows at once, to the last bits."""


def percentile(values: FloatArray, level: float) -> tuple[float, float] | None:
    """The middle `level` of resampled `values`, as `numpy.quantile`, ends interpolated.

    None if more than `UNDEFINED` of them are NaN, or if all are equal: a width of zero would be a
    certainty that resampling cannot give.
    """
    return _quantiles(values, (1 - level) / 2, (1 + level) / 2)


def bca(
    values: FloatArray, estimate: float, leave_one_out: FloatArray, level: float
) -> tuple[float, float] | None:
    """Bias-corrected and accelerated ends (Efron 1987; Efron & Tibshirani 1993, eq. 14.9-14.15).

    values         the statistic of each resample
    estimate       the statistic of the scores themselves
    leave_one_out  the statistic without score i, `(n,)`: their skewness is the acceleration
    None where `percentile` is, or where the estimate lies outside all resamples.
    """
    normal = NormalDist()
    kept = values[~np.isnan(values)]
    if np.isnan(leave_one_out).any() or not len(kept):
        return None
    # half of the ties, as scipy.stats.bootstrap: scores on a grid have many; rounding hides some
    tie = TIE * scale(kept[np.isfinite(kept)])
    below = (np.mean(kept < estimate - tie) + np.mean(kept <= estimate + tie)) / 2
    if not 0 < below < 1:
        return None
    bias = normal.inv_cdf(float(below))
    away = leave_one_out.mean() - leave_one_out
    away = away / max(float(np.abs(away).max()), np.finfo(float).tiny)  # powers could underflow
    squares = float(np.sum(away**2))
    acceleration = float(np.sum(away**3)) / (6 * squares**1.5) if squares > 0 else 0.0

    def moved(tail: float) -> float:
        shifted = bias + normal.inv_cdf(tail)
        return normal.cdf(bias + shifted / (1 - acceleration * shifted))

    return _quantiles(values, moved((1 - level) / 2), moved((1 + level) / 2))


def _quantiles(values: FloatArray, low: float, high: float) -> tuple[float, float] | None:
    kept = values[~np.isnan(values)]
    if len(kept) < (1 - UNDEFINED) * len(values):
        return None
    kept.sort()
    ends = []
    for quantile in (low, high):
        place = quantile * (len(kept) - 1)
        before, after = float(kept[math.floor(place)]), float(kept[math.ceil(place)])
        if not math.isfinite(before) or not math.isfinite(after):
            return None  # the ratio of two standard deviations may be 0 / 1 or 1 / 0
        ends.append(before + (after - before) * (place - math.floor(place)))
    return (ends[0], ends[1]) if ends[0] < ends[1] else None

"""Does one arm vary less over seeds than the other? Ratios of standard deviations, and tests."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bluestab.stats import describe, resampling
from bluestab.stats.arrays import TIE, FloatArray, arms, finite, pairs, same, scale, share
from bluestab.stats.designs import Design
from bluestab.stats.intervals import Interval, ends_of, leave_one_out, t_quantile
from bluestab.stats.tests import Test, f_tail

EXACT = 16
"""Up to so many pairs all exchanges are counted; beyond, they are drawn."""

DRAWS = 19_999

ROUNDING = 1e-6
"""Ratios of spreads that agree to this share are ties: a failed run beside others costs digits."""

LARGEST = 700.0
"""Logarithms beyond this have no float: such an end of an interval is infinite."""


def paired_variance(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.05) -> Test:
    """Permutation test of std(a) / std(b) of `a` and `b` `(n_seeds,)` over shared seeds.

    Each arm is moved to median 0, then scores are exchanged seed by seed; p = share of the 2^n
    exchanges after which |log std ratio| is at least as large, standard deviations about the new
    means. Ties count against a difference. Statistic: std(a) / std(b), None if an arm is constant.
    Beyond 16 pairs 19,999 exchanges are drawn with a fixed seed.

    The medians are estimates, so the level is not exact: at most 6.4 % instead of 5 % was measured,
    within Monte-Carlo error (see `bluestab.stats`). Chosen by simulation over normal scores, skewed
    ones and failed runs: sign flips of |a - median| - |b - median| reached 6.7 %, Pitman and
    Morgan's test 40 %, the same on ranks 9 %, and whatever moves arms to their means 37 %.
    Raises ValueError for unequal lengths.
    """
    share(level)
    both = pairs(a, b)
    n, name = len(both), "paired std permutation"
    if n < 2 or (same(both[:, 0]) and same(both[:, 1])):
        return Test(name, n, None, 1.0, None)
    left, right = ((both - np.median(both, axis=0)) / scale(both)).T
    k = int(np.sum(np.abs(left - right) > TIE))
    smallest = min(1.0, 2.0 ** (1 - k)) if k < 1000 else 0.0
    if n <= EXACT:
        # exchanging all pairs only turns the ratio over: the first one can stay
        sums, squares = _exchanges(right - left), _exchanges(right**2 - left**2)
    else:
        name = f"{name} (drawn)"
        smallest = max(smallest, 1 / (DRAWS + 1))
        swaps = np.random.default_rng(0).integers(0, 2, size=(DRAWS + 1, n)).astype(np.float64)
        swaps[0] = 0.0
        sums, squares = swaps @ (right - left), swaps @ (right**2 - left**2)
    # what one arm gains the other loses; the first exchange is none
    top = _spreads(left.sum() + sums, (left**2).sum() + squares, n)
    bottom = _spreads(right.sum() - sums, (right**2).sum() - squares, n)
    low, high = np.minimum(top, bottom), np.maximum(top, bottom)
    # high / low as far out as at first, without a division by the spread of a constant arm
    as_far = (high * low[0] >= low * high[0] * (1 - ROUNDING)) & (high > 0)
    p = float(np.mean(as_far))
    return Test(name, n, p if smallest <= level else None, smallest, describe.std_ratio(*both.T))


def _exchanges(gains: FloatArray) -> FloatArray:
    """Sums of every subset of `gains` `(n,)` without the first: `(2^(n-1),)`."""
    sums = np.zeros(1)
    for gain in gains[1:]:
        sums = np.concatenate([sums, sums + gain])
    return sums


def _spreads(sums: FloatArray, squares: FloatArray, n: int) -> FloatArray:
    """Sums of squares about the mean; what rounding leaves of a constant arm is zero."""
    spreads = squares - sums**2 / n
    return np.where(spreads <= n * TIE**2, 0.0, spreads)


def brown_forsythe(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.05) -> Test:
    """Brown and Forsythe's test of equal variances: Levene's about the median, without pairs.

    F = MS between / MS within of |score - median of its arm|, on 1 and n_a + n_b - 2 degrees of
    freedom (`scipy.stats.levene(center="median")`). Statistic: F. **Not calibrated for arms that
    share their seeds**: it takes them for independent, and the more their scores rise and fall
    together the less it rejects: about 2 % instead of 5 % at a correlation of 0.5 (see
    `bluestab.stats`), below 1 % at 0.9. Use `paired_variance` there; this one is for arms with
    different seeds.
    """
    share(level)
    both = arms(a, b, paired=False)
    name, n = "brown-forsythe", min(map(len, both))
    if n < 2:
        return Test(name, n, None, 1.0, None)
    away = [np.abs(arm - np.median(arm)) for arm in both]
    means = [float(part.mean()) for part in away]
    grand = float(np.concatenate(away).mean())
    between = sum(len(part) * (m - grand) ** 2 for part, m in zip(away, means, strict=True))
    within = sum(float(((part - m) ** 2).sum()) for part, m in zip(away, means, strict=True))
    df = len(both[0]) + len(both[1]) - 2
    if within <= (TIE * scale(*both)) ** 2:
        return Test(name, n, None, 1.0, None)
    statistic = between / (within / df)
    return Test(name, n, f_tail(statistic, 1, df), 0.0, statistic)


def std_ratio_interval(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    paired: bool = True,
    *,
    method: Literal["jackknife", "percentile", "bca"] = "jackknife",
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval | None:
    """Interval of std(a) / std(b), made on the logarithm of the ratio; ends above 0.

    paired  leave out, or draw, seeds with both their scores; False treats each arm on its own
    method  jackknife: Student's interval of the pseudo-values n log r - (n - 1) log r_(-i) (Miller
            1968); for two independent arms, the difference of those of their own, after Welch.
            percentile, bca: bootstrap, which covers normal scores less often at every n (91 to
            93 % for 94 to 95 %); for others all three are about as far off, see `bluestab.stats`
    None if an arm has n < 2 (jackknife: 3) or no spread, or if an end is zero or infinite, as when
    all runs of one arm but one agree. Raises ValueError if paired arms differ in length.
    """
    share(level)
    left, right = arms(a, b, paired)
    if min(len(left), len(right)) < 2 or same(left) or same(right):
        return None
    log: Interval | None
    if method == "jackknife":
        log = _jackknife(left, right, paired, level)
    else:
        found = _log_ratio(*resampling.samples_of(left, right, paired, resamples, seed))
        estimate = float(_log_ratio(left[None], right[None])[0])
        log = ends_of(found, estimate, lambda: _without_each(left, right, paired), method, level)
    return log and Interval(math.exp(log.low), math.exp(log.high), level, method)


def std_ratio_by_design(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    design: Design,
    strata: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> tuple[float | None, Interval | None]:
    """std(a) / std(b) over runs `(n,)` that may share seeds, and its interval.

    strata  of every run the part about whose mean it varies, as its fold; None: one for all
    The jackknife of `std_ratio_interval`, which leaves out whole blocks of runs, of every factor of
    the design in turn; over crossed seeds the variances of the factors are added, as in
    `designs.mean_spread`. 95 % one-sided bounds are too low in 0.8 to 5.6 % of 5 x 5 crossed seeds,
    4.6 to 6.4 % of 6 to 10 blocks and 2.0 to 5.1 % of 3 to 10 seeds in 5 folds (normal scores).
    Ratio: 0 where a does not vary, inf where b alone does not, None where neither could. Interval:
    None as in `std_ratio_interval`, or if a factor has fewer than 3 blocks.
    Raises ValueError for unequal lengths.
    """
    share(level)
    left, right = finite(a), finite(b)
    if not len(left) == len(right) == design.n:
        raise ValueError(f"{len(left)} and {len(right)} scores of {design.n} runs")
    names = list(strata or [None] * len(left))
    if len(left) <= len(set(names)):
        return None, None
    order = np.lexsort((right, left))  # the last bits do not depend on which run came first
    parts = np.array([[name == one for one in dict.fromkeys(names)] for name in names], float)
    left, right, parts = left[order], right[order], parts[order]

    def log_ratios(kept: FloatArray) -> FloatArray:
        spreads = [_within(arm, parts, kept) for arm in (left, right)]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs: FloatArray = (np.log(spreads[0]) - np.log(spreads[1])) / 2
        return logs

    estimate = float(log_ratios(np.ones((1, len(left))))[0])
    ratio = 0.0 if math.isnan(estimate) else math.exp(estimate)
    factors = [np.array(blocks)[order] for _, blocks in design.factors] or [np.arange(len(left))]
    if not math.isfinite(estimate) or min(len({*blocks}) for blocks in factors) < 3:
        return ratio, None
    without = [log_ratios(blocks[None] != np.unique(blocks)[:, None]) for blocks in factors]
    log = _of_pseudo_values(estimate, without, level)
    return ratio, log and Interval(math.exp(log.low), math.exp(log.high), level, log.method)


def _within(scores: FloatArray, parts: FloatArray, kept: FloatArray) -> FloatArray:
    """Sums of squares about the means of the parts `(n, k)` of the runs that are kept `(m, n)`."""
    centred = scores - parts @ (parts.T @ scores / parts.sum(axis=0))
    sums, counts = kept @ (centred[:, None] * parts), kept @ parts
    squares = kept @ centred**2 - (sums**2 / np.maximum(counts, 1)).sum(axis=1)
    return np.where(squares <= len(scores) * (TIE * scale(scores)) ** 2, 0.0, squares)


def _without_each(left: FloatArray, right: FloatArray, paired: bool) -> FloatArray:
    """log of the std ratio without pair i; without score i of the one arm, then of the other."""
    if paired:
        return _log_ratio(leave_one_out(left), leave_one_out(right))
    return np.concatenate(
        [
            _log_ratio(leave_one_out(left), np.broadcast_to(right, (len(left), len(right)))),
            _log_ratio(np.broadcast_to(left, (len(right), len(left))), leave_one_out(right)),
        ]
    )


def _jackknife(left: FloatArray, right: FloatArray, paired: bool, level: float) -> Interval | None:
    if min(len(left), len(right)) < 3:
        return None
    estimate = float(_log_ratio(left[None], right[None])[0])
    without = _without_each(left, right, paired)
    n = len(left)
    parts = [without] if paired else [without[:n], without[n:]]
    return _of_pseudo_values(estimate, parts, level)


def _of_pseudo_values(
    estimate: float, parts: Sequence[FloatArray], level: float
) -> Interval | None:
    """Student's interval of the sum of jackknives, from what is left without each."""
    if not all(np.isfinite(part).all() for part in parts):
        return None
    # as distances from the estimate: each arm on its own adds its bias and its variance
    pseudo = [(len(part) - 1) * (estimate - part) for part in parts]
    centre = estimate + sum(float(part.mean()) for part in pseudo)
    variances = [float(np.var(part, ddof=1)) / len(part) for part in pseudo]
    if sum(variances) <= TIE**2:
        return None
    df = sum(variances) ** 2 / sum(
        v**2 / (len(part) - 1) for v, part in zip(variances, pseudo, strict=True)
    )
    half = t_quantile(df, level) * math.sqrt(sum(variances))
    if max(abs(centre - half), abs(centre + half)) > LARGEST:
        return None
    return Interval(centre - half, centre + half, level, "jackknife")


def _log_ratio(left: FloatArray, right: FloatArray) -> FloatArray:
    """Row by row; -inf and inf where one arm is constant, NaN where both are."""
    top = resampling.of_rows(describe.std, left)
    bottom = resampling.of_rows(describe.std, right)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: FloatArray = np.log(top) - np.log(bottom)
    return ratio

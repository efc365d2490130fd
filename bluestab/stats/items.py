"""Intervals of a mean over seeds that hold for other test items of the same kind, too.

Seeds and items are crossed: every seed is scored on the same items. What either leaves open is
found by itself, and the two distances from the estimate are added as the sides of a right angle:
the method of variance estimates recovery (MOVER; Zou & Donner 2008, Statistics in Medicine 27,
1693-1702). So the interval is never narrower than that over seeds, nor than that over items. What
seed and item do only together is in both variances, which errs towards wide intervals, as the
two-term variance of `designs.mean_spread` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from bluestab.stats import resampling
from bluestab.stats.arrays import FloatArray, scale, share
from bluestab.stats.intervals import Interval, default_interval, t_quantile

Sums = Callable[[FloatArray], FloatArray]
"""Sums over items `(..., k)` -> scores `(...)`, NaN where undefined: `tasks/score_sums.py`."""

AT_ONCE = 4_000_000
"""Weights of items that are held at once: 32 MB of them."""


def items_and_seeds_interval(
    score: Sums,
    seeds: Sequence[FloatArray | float],
    *,
    minus: Sequence[FloatArray | float] | None = None,
    over_seeds: Interval | None = None,
    level: float = 0.95,
    resamples: int = 1999,
    seed: int = 0,
) -> Interval | None:
    """Interval of the mean score when other seeds and other test items could have come.

    seeds       of every seed what each item adds to the sums, `(n_items, k)`; a number for a seed
                that scores this whatever the items, as a diverged run does
    minus       the same of a second arm at the same seeds: then the interval of the difference
    over_seeds  the interval over seeds that is printed beside it; None: `default_interval`
    Over items: percentiles of the mean over seeds when items are drawn with replacement, the same
    for all seeds and both arms, their tails moved out by t(n_items - 1) / z sqrt(n / (n - 1))
    (the expanded percentile interval, Hesterberg 2015, The American Statistician 69(4)). With one
    seed that is all there is: the noise of the test set alone.
    None if there are fewer than 2 items, items make no difference and seeds have no interval, or
    the score is undefined in more than 1 % of the resamples. Raises ValueError if the shapes do not
    fit.
    """
    share(level)
    arms = [seeds, *([] if minus is None else [minus])]
    found = {part.shape for arm in arms for part in arm if isinstance(part, np.ndarray)}
    if len(found) > 1 or len({len(arm) for arm in arms}) > 1:
        lengths = " and ".join(str(len(arm)) for arm in arms)
        raise ValueError(f"{lengths} seeds with items of shapes {sorted(found)}: expected one")
    n_seeds, n_items = len(seeds), max((shape[0] for shape in found), default=0)
    if n_seeds < 1 or n_items < 2:
        return None
    # in an order that does not know which run came first
    rows = sorted(range(n_seeds), key=lambda i: [np.asarray(arm[i]).tobytes() for arm in arms])
    whole = np.array([_changes(score, arms, i, np.ones((1, n_items)))[0] for i in rows])
    if np.isnan(whole).any():
        return None
    estimate = float(whole.mean())
    means = _means(score, arms, rows, n_items, resamples, seed)
    if np.isnan(means).mean() > resampling.UNDEFINED:
        return None
    ends = resampling.percentile(means, _expanded(level, n_items))
    if over_seeds is None:
        over_seeds = default_interval(whole, level)
    found_by = [
        *([] if ends is None else [ends]),
        *([] if over_seeds is None else [(over_seeds.low, over_seeds.high)]),
    ]
    if not found_by:
        return None
    below = math.hypot(*(max(estimate - low, 0.0) for low, _ in found_by))
    above = math.hypot(*(max(high - estimate, 0.0) for _, high in found_by))
    return Interval(estimate - below, estimate + above, level, "mover")


def _expanded(level: float, n: int) -> float:
    """The level at which percentiles of n items reach as far as Student's t with n - 1 would."""
    normal = NormalDist()
    z = normal.inv_cdf((1 + level) / 2)
    further = t_quantile(n - 1, level) * math.sqrt(n / (n - 1))
    return 2 * normal.cdf(max(further, z)) - 1


def _means(
    score: Sums,
    arms: Sequence[Sequence[FloatArray | float]],
    rows: Sequence[int],
    n_items: int,
    resamples: int,
    seed: int,
) -> FloatArray:
    """Mean over seeds of the score, or of its change, for every draw of items: `(resamples,)`."""
    generator = np.random.default_rng(seed)
    means = np.zeros(resamples)
    step = max(1, AT_ONCE // n_items)
    for start in range(0, resamples, step):
        chosen = slice(start, min(start + step, resamples))
        items = _times_drawn(generator, chosen.stop - start, n_items)
        for i in rows:
            means[chosen] += _changes(score, arms, i, items) / len(rows)
    # sums of equal numbers in another order differ in their last bits
    return np.where(np.abs(means - means[0]) <= 1e-12 * scale(means), means[0], means)


def _changes(
    score: Sums, arms: Sequence[Sequence[FloatArray | float]], i: int, items: FloatArray
) -> FloatArray:
    """Score of seed i, minus that of the second arm if there is one: `(len(items),)`."""
    scored, *other = (
        score(items @ part)
        if isinstance(part := arm[i], np.ndarray)
        else np.full(len(items), float(part))
        for arm in arms
    )
    return scored - other[0] if other else scored


def _times_drawn(generator: np.random.Generator, resamples: int, n: int) -> FloatArray:
    """How often each of n comes when n are drawn with replacement: `(resamples, n)`."""
    drawn = generator.integers(0, n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n)
    return counts.reshape(resamples, n).astype(np.float64)

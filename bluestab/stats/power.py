"""How many seeds a comparison needs, judged from the seeds at hand."""

from __future__ import annotations

import math

import numpy.typing as npt

from bluestab.stats import describe
from bluestab.stats.arrays import finite, same, share

MOST = 100_000
"""Beyond so many seeds the answer is None: no one will run them."""


def power_of(n: int, effect: float, level: float = 0.05) -> float:
    """Power of the two-sided paired t-test with `n` pairs, in [0, 1]; 0.0 if n < 2.

    effect  mean difference / std of the differences
    Noncentral t with n - 1 degrees of freedom and noncentrality effect sqrt(n), both tails, for
    normal differences. The permutation test of the report came within 1.5 points of it at 8, 15 and
    34 pairs; at 6, where its p comes in coarse steps, it had 73 % for 88 % (effect 1.6).
    """
    share(level)
    if n < 2:
        return 0.0
    from scipy.special import nctdtr, stdtrit  # not scipy.stats, which takes a second to load

    critical = float(stdtrit(n - 1, 1 - level / 2))
    away = abs(effect) * math.sqrt(n)
    # far out scipy returns NaN for a tail that is nil
    lower = float(nctdtr(n - 1, away, -critical))
    upper = float(nctdtr(n - 1, away, critical))
    return (0.0 if math.isnan(lower) else lower) + 1 - (0.0 if math.isnan(upper) else upper)


def seeds_needed(
    differences: npt.ArrayLike,
    d: float,
    power: float = 0.8,
    level: float = 0.05,
    *,
    assurance: float | None = None,
) -> int | None:
    """Shared seeds at which a true mean difference `d` would be found with probability `power`.

    differences  score of a - score of b at the seeds at hand, `(n_seeds,)`: for their spread alone
    d            smallest difference worth finding, in the unit of the scores; decide on it before
                 looking: the observed difference here makes a power analysis circular
    assurance    None takes the spread as it is, which is a coin toss for whether the power is
                 reached; 0.8 takes its upper limit at 80 % confidence, std sqrt((n - 1) /
                 chi2(0.2, n - 1)) (Browne 1995), for normal differences
    Smallest n with `power_of` >= power, at least the fewest pairs with which the permutation test
    can reach `level` (6 for 5 %). None if fewer than 2 differences, no spread, or beyond 100,000.
    Raises ValueError if d is zero or not finite, or a probability lies outside (0, 1).
    """
    share(power, "power")
    share(level)
    if not math.isfinite(d) or d == 0:
        raise ValueError(f"d is {d}: name the smallest difference worth finding")
    values = finite(differences)
    spread = describe.std(values)
    if spread is None or same(values):
        return None
    if assurance is not None:
        from scipy.special import chdtri

        df = len(values) - 1
        # chdtri takes the upper tail
        spread *= math.sqrt(df / float(chdtri(df, share(assurance, "assurance"))))
    effect = abs(d) / spread
    low, high = 1, 2
    while power_of(high, effect, level) < power:
        low, high = high, high * 2
        if low > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(middle, effect, level) < power:
            low = middle
        else:
            high = middle
    needed = max(high, fewest_pairs(level))
    return needed if needed <= MOST else None


def more_seeds_needed(
    differences: npt.ArrayLike,
    d: float,
    power: float = 0.8,
    level: float = 0.05,
    *,
    assurance: float | None = None,
) -> int | None:
    """`seeds_needed` beyond those in `differences`; 0 if they are enough, None as there."""
    needed = seeds_needed(differences, d, power, level, assurance=assurance)
    return None if needed is None else max(0, needed - len(finite(differences)))


def fewest_pairs(level: float = 0.05) -> int:
    """Fewest pairs with which a two-sided exact paired test can reach `level`: 2^(1-n) <= level."""
    n = 1
    while 2.0 ** (1 - n) > share(level):
        n += 1
    return n

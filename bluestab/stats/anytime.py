"""Tests that hold however often one looks: seeds may be added until something is found.

A p of one look is no p of many: where seeds are added until p < 0.05, 10 to 17 % of arms that do
nothing are found to do something. Here a fortune is bet on the signs of the differences. If an arm
does nothing, its score and the baseline's could be exchanged at every seed, each sign is a fair
coin, and no way of betting on fair coins grows on average. With the bets spread evenly over all
biased coins (the mixture of Robbins 1970, Annals of Mathematical Statistics 41(5)) the fortune
after k of n signs is

    E = 2^n k! (n - k)! / (n + 1)!

By Ville's inequality (1939) the chance that it ever reaches 1/level, at any of infinitely many
looks, is at most the level, so 1/E is a p that is valid at every look. What it costs: sizes are not
looked at, and 8 seeds are the fewest for 5 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bluestab.stats import describe
from bluestab.stats.arrays import TIE, FloatArray, finite, scale, share

NAME = "signs, at any look"


@dataclass(frozen=True)
class Anytime:
    """What a test that may be looked at again found.

    n          seeds; delta: mean difference
    p          two-sided, in (0, 1]; None where n seeds of one sign could not reach the level
    low, high  of the centre about which differences are symmetric: the values that the same test
               does not reject; None where p is
    """

    n: int
    delta: float | None
    p: float | None = None
    low: float | None = None
    high: float | None = None
    name: str = NAME


def fortune(k: int, n: int) -> float:
    """What a stake of 1 has become after `k` of `n` signs were positive, see above; inf if huge."""
    log = n * math.log(2) + math.lgamma(k + 1) + math.lgamma(n - k + 1) - math.lgamma(n + 2)
    return math.exp(min(log, 700.0))


def p_of_signs(k: int, n: int) -> float:
    """Two-sided p of `k` positive signs among `n`, valid at any look: min(1, 1 / fortune)."""
    return min(1.0, 1 / fortune(k, n))


def fortune_above(k: npt.ArrayLike, n: npt.ArrayLike) -> FloatArray:
    """What a stake of 1 has become after `k` of `n` signs were positive, spread evenly over the
    coins that are biased towards positive ones alone.

    Where no sign is more likely positive than negative, whatever came before, this does not grow on
    average (a supermartingale): that it ever reaches 1/level has at most probability `level`
    (Ville 1939). Arrays of one shape, 0 <= k <= n.
    """
    from scipy.special import betainc, betaln  # not scipy.stats, which takes a second to load

    k, n = np.asarray(k, dtype=float), np.asarray(n, dtype=float)
    log = (n + 1) * math.log(2) + betaln(k + 1, n - k + 1)
    found: FloatArray = np.exp(np.minimum(log, 700.0)) * betainc(n - k + 1, k + 1, 0.5)
    return found


def fewest_looked(level: float = 0.05) -> int:
    """Fewest seeds, all of one sign, at which `p_of_signs` is at most `level`."""
    n = 1
    while p_of_signs(n, n) > share(level):
        n += 1
    return n


def anytime_change(
    own: npt.ArrayLike, reference: npt.ArrayLike, level: float = 0.05, n_arms: int = 1
) -> Anytime:
    """The change of `own` against `reference` `(n,)` over shared seeds, however often one looked.

    n_arms  comparisons that are made together: p is multiplied by their number, and the interval
            is at the level that this leaves (Bonferroni)
    Hypothesis: at every seed the two scores could as well be exchanged. The interval is of their
    symmetric centre, by order statistics. Raises ValueError for unequal lengths.
    """
    a, b = finite(own), finite(reference)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} scores cannot be paired with {len(b)}: share the seeds")
    tie = TIE * scale(a, b)
    differences = np.sort(a - b)
    delta, n = describe.mean(differences), len(differences)
    alone = share(level) / n_arms
    if not n or p_of_signs(n, n) > alone:
        return Anytime(n, delta)
    # seeds without a difference stand with the fewer: towards the larger p
    most = max(int((differences > tie).sum()), int((differences < -tie).sum()))
    p = min(1.0, n_arms * p_of_signs(most, n)) if 2 * most > n else 1.0
    return Anytime(n, delta, p, *_ends(differences, alone, tie))


def _ends(ordered: FloatArray, level: float, tie: float) -> tuple[float, float]:
    """The order statistics between which no value is rejected.

    With k differences below a value theta, theta is rejected if p_of_signs(k, n) <= level, as for
    k = 0: the lower end is the smallest difference with more than so many below it.
    """
    n = len(ordered)
    k = 0
    while k < n and p_of_signs(k, n) <= level:
        k += 1
    # values up to the k-th smallest have fewer than k below them
    low, high = float(ordered[k - 1]), float(ordered[n - k])
    return tuple(0.0 if abs(end) <= tie else end for end in (low, high))  # type: ignore[return-value]

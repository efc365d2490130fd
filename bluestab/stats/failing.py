"""Failed runs of two arms at the same seeds: does one fail less, and what is not yet seen?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bluestab.stats.arrays import finite, share
from bluestab.stats.intervals import Interval, wilson
from bluestab.stats.tests import Test


def mcnemar(own: Sequence[bool], reference: Sequence[bool], level: float = 0.05) -> Test:
    """Exact test that two arms fail equally often, over the seeds `(n,)` that they share.

    Only seeds at which one failed and the other did not say anything: of these, those at which
    `own` failed are binomial with one half (McNemar 1947, exact). p = min(1, twice the smaller
    tail), 1 where no seed tells them apart. Statistic: difference of the failed shares.
    p is None where n seeds could not reach the level. Raises ValueError for unequal lengths.
    """
    share(level)
    only_own, only_reference = _discordant(own, reference)
    n, k = len(own), only_own + only_reference
    tail = sum(math.comb(k, i) for i in range(min(only_own, only_reference) + 1))
    smallest = min(1.0, 2.0 ** (1 - n))
    p = min(1.0, 2 * tail / 2**k)
    change = (only_own - only_reference) / n if n else None
    return Test("McNemar, exact", n, p if smallest <= level else None, smallest, change)


def newcombe_paired(
    own: Sequence[bool], reference: Sequence[bool], level: float = 0.95
) -> Interval | None:
    """Interval of the failed share of `own` minus that of `reference`, in [-1, 1]; None if n = 0.

    Wilson's intervals of both shares, combined with the correlation of the pairs (Newcombe 1998,
    Statistics in Medicine 17:2635, method 10). Raises ValueError for unequal lengths.
    """
    share(level)
    only_own, only_reference = _discordant(own, reference)
    n = len(own)
    if not n:
        return None
    a = sum(x and y for x, y in zip(own, reference, strict=True))
    b, c = only_own, only_reference
    d = n - a - b - c
    product = (a + b) * (c + d) * (a + c) * (b + d)
    phi = 0.0
    if product:
        excess = float(a * d - b * c)
        if excess > 0:
            excess = max(excess - n / 2, 0.0)
        phi = excess / math.sqrt(product)
    first, second = wilson(a + b, n, level), wilson(a + c, n, level)
    assert first is not None
    assert second is not None
    p, q = (a + b) / n, (a + c) / n

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    low = p - q - reach(p - first.low, second.high - q)
    high = p - q + reach(first.high - p, q - second.low)
    return Interval(max(low, -1.0), min(high, 1.0), level, "newcombe")


def at_most(failed: int, n: int, level: float = 0.95) -> float:
    """Upper bound of a share of which `failed` of `n` were seen (Clopper & Pearson 1934).

    The share at which no more than these are seen has probability 1 - level: one-sided, exact.
    1.0 if n = 0. Raises ValueError if `failed` does not lie in 0..n.
    """
    share(level)
    if not 0 <= failed <= n:
        raise ValueError(f"{failed} failed runs among {n}")
    if failed == n:
        return 1.0
    if not failed:
        return -math.expm1(math.log1p(-level) / n)
    from scipy.special import betaincinv  # not scipy.stats, which takes a second to load

    return float(betaincinv(failed + 1, n - failed, level))


@dataclass(frozen=True)
class Unseen:
    """Could failures that these seeds did not show turn the sign of a change?

    share  upper bound of the share of seeds at which the arm that is ahead fails alone
    turns  whether the mean change has another sign, or none, at this share
    """

    share: float
    turns: bool


def unseen(
    own: npt.ArrayLike,
    reference: npt.ArrayLike,
    own_failed: Sequence[bool],
    reference_failed: Sequence[bool],
    failure_score: float | None,
    level: float = 0.95,
    *,
    higher_is_better: bool = True,
) -> Unseen | None:
    """What failures not yet seen could do to the mean change of `own`, scores `(n,)` by seed.

    The arm that is ahead fails, while the other does not, at k of n seeds, so at `at_most(k, n)` of
    all seeds: there the change is that of these k, or, if there is none, from the other arm's mean
    to `failure_score`; elsewhere it is what it was. The arm behind is left as it is.
    None without a change, or if it is not known what a failed run scores.
    Raises ValueError for unequal lengths.
    """
    sign = 1 if higher_is_better else -1
    a, b = (sign * finite(scores) for scores in (own, reference))
    first, second = (np.array(failed, dtype=bool) for failed in (own_failed, reference_failed))
    if not len(a) == len(b) == len(first) == len(second):
        raise ValueError(
            f"{len(a)} and {len(b)} scores of {len(first)} and {len(second)} runs cannot be paired"
        )
    if not len(a) or float((a - b).mean()) == 0:
        return None
    if (a - b).mean() < 0:  # seen from the arm that is ahead
        a, b, first, second = b, a, second, first
    alone, fine = first & ~second, ~(first | second)
    bound = at_most(int(alone.sum()), len(a), level)
    if alone.any():
        lost = float((a - b)[alone].mean())
    elif failure_score is None:
        return None
    else:
        against = b[fine] if fine.any() else b
        lost = min(sign * failure_score - float(against.mean()), 0.0)
    won = 0.0 if alone.all() else float((a - b)[~alone].mean())
    return Unseen(bound, bound * lost + (1 - bound) * won <= 0)


def _discordant(own: Sequence[bool], reference: Sequence[bool]) -> tuple[int, int]:
    """Seeds at which only the one, and only the other failed."""
    if len(own) != len(reference):
        raise ValueError(f"{len(own)} runs cannot be paired with {len(reference)}")
    both = list(zip(own, reference, strict=True))
    return sum(x and not y for x, y in both), sum(y and not x for x, y in both)

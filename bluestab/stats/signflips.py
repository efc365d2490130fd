"""In how many ways of signing n numbers is their sum as far from zero as it is: exactly.

Two arms that share their seeds may be exchanged seed by seed if the arm has no effect; each
exchange turns the sign of one difference. Under that hypothesis all 2^n signs are equally likely.
"""

from __future__ import annotations

import numpy as np

from bluestab.stats.arrays import FloatArray

EXACT = 40
"""Up to so many numbers other than zero all sign patterns are counted; beyond, they are drawn."""

DRAWS = 99_999


def p_value(values: FloatArray, tie: float, seed: int = 0) -> tuple[float, float, bool]:
    """Two-sided p of |sum|, the smallest p these numbers allow, and whether p is exact.

    values  `(n,)`; those within `tie` of zero have no sign and change nothing
    tie     sums within `tie` of the observed one count as equal to it: towards the larger p
    The smallest p is 2^(1-k) for k numbers other than zero: all signs alike. Counted by meeting in
    the middle (sorted sums of one half, searched for those of the other); drawn beyond `EXACT`,
    with (hits + 1) / (draws + 1), which no p of zero can come from (Phipson & Smyth 2010).
    """
    signed = values[np.abs(values) > tie]
    k = len(signed)
    smallest = min(1.0, 2.0 ** (1 - k)) if k < 1000 else 0.0
    limit = abs(float(signed.sum())) - tie
    if limit <= 0:
        return 1.0, smallest, True
    if k > EXACT:
        return _drawn(signed, limit, seed), max(smallest, 1 / (DRAWS + 1)), False
    first, second = np.sort(_sums(signed[: k // 2])), _sums(signed[k // 2 :])
    # the sums are symmetric about zero, so those below -limit are as many as those above limit
    above = len(first) * len(second) - int(np.searchsorted(first, limit - second).sum())
    return 2 * above / 2**k, smallest, True


def _sums(values: FloatArray) -> FloatArray:
    """All `2^n` sums of `values` `(n,)` with every choice of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _drawn(signed: FloatArray, limit: float, seed: int) -> float:
    generator, hits, left = np.random.default_rng(seed), 0, DRAWS
    while left:
        batch = min(left, 9_999)
        signs = generator.integers(0, 2, size=(batch, len(signed))) * 2.0 - 1.0
        hits += int(np.sum(np.abs(signs @ signed) >= limit))
        left -= batch
    return (hits + 1) / (DRAWS + 1)

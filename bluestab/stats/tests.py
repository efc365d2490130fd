"""Tests: could the difference between two arms be the seeds alone? All are two-sided.

Arms share their seeds, so the default is the paired permutation test: it needs no distribution and
its level is exact at any n. It also tells where n cannot reach the level at all: six shared seeds
are the fewest for 5 %. How often each test errs was measured: see the tables in `bluestab.stats`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from bluestab.stats import describe, signflips
from bluestab.stats.arrays import TIE, FloatArray, finite, pairs, same, scale, share


@dataclass(frozen=True)
class Test:
    """What a test found.

    name        the test, and `(drawn)` if its p comes from random draws
    n           pairs, or scores in the smaller group of a test without pairs
    p           two-sided, in (0, 1]; None where no scores of such an n, with such ties, could reach
                the level, and where the statistic is undefined
    smallest_p  the least p that could have come out, whatever the signs; 0.0 if there is no least
    statistic   see the test; None where undefined
    """

    __test__: ClassVar[bool] = False  # pytest, which collects classes of this name

    name: str
    n: int
    p: float | None
    smallest_p: float
    statistic: float | None


def paired_permutation(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.05) -> Test:
    """Exact sign-flip test of the mean difference of `a` and `b` `(n_seeds,)` over shared seeds.

    Null hypothesis: at every seed the two scores could as well be exchanged (Fisher 1935; the
    paired randomisation test). p = share of the 2^n exchanges with |mean difference| at least as
    large; ties count against the difference. Pairs without a difference change nothing. Statistic:
    mean of a - b. Beyond 40 differing pairs 99,999 exchanges are drawn with a fixed seed.
    It is a test of no effect at all: arms alike in mean but not in spread and skew are rejected
    more often than the level says (`unlike arms` in `bluestab.stats`).
    Raises ValueError for unequal lengths.
    """
    share(level)
    both = pairs(a, b)
    differences = both[:, 0] - both[:, 1]
    p, smallest, exact = signflips.p_value(differences, TIE * scale(both))
    return Test(
        "paired permutation" if exact else "paired permutation (drawn)",
        len(both),
        p if smallest <= level else None,
        smallest,
        describe.mean(differences),
    )


def default_test(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.05) -> Test:
    """The test a report shows for a delta: `paired_permutation`.

    Its level is exact under the hypothesis of no effect, whatever the distribution. As strong as
    `wilcoxon` or stronger in all but one of nine cells simulated, by far where runs fail.
    """
    return paired_permutation(a, b, level)


def wilcoxon(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.05) -> Test:
    """Wilcoxon's signed-rank test over shared seeds, exact at every n, with or without ties.

    Pairs without a difference are left out (Wilcoxon 1945), equal differences share their mean
    rank; p is the share of all sign patterns whose rank sum is as far from its middle
    (`scipy.stats.wilcoxon(method="exact")` where nothing is tied). Statistic: the smaller of the
    two rank sums. Null hypothesis and errors as `paired_permutation`.
    """
    share(level)
    both = pairs(a, b)
    differences, tie = both[:, 0] - both[:, 1], TIE * scale(both)
    differences = differences[np.abs(differences) > tie]
    k = len(differences)
    name = "wilcoxon signed-rank"
    if not k:
        return Test(name, len(both), None, 1.0, None)
    # doubled mean ranks are whole numbers, and so are their sums
    ranks = _doubled_ranks(np.abs(differences), tie)
    above, total = int(ranks[differences > 0].sum()), int(ranks.sum())
    lower = min(above, total - above)
    chances = np.zeros(total + 1)  # of every rank sum, over all sign patterns
    chances[0] = 1.0
    for rank in ranks.tolist():
        chances[rank:] += chances[:-rank]
        chances /= 2
    p = min(1.0, 2 * float(chances[: lower + 1].sum()))
    smallest = 2.0 ** (1 - k) if k < 1000 else 0.0
    return Test(name, len(both), p if smallest <= level else None, smallest, lower / 2)


def corrected_resampled_t(
    differences: npt.ArrayLike, n_train: int, n_test: int, level: float = 0.05
) -> Test:
    """Corrected resampled t-test of `differences` `(n_splits,)`, one per random split or fold.

    t = mean / sqrt((1/n + n_test/n_train) std^2), n - 1 degrees of freedom (Nadeau & Bengio 2003).
    Splits share training examples, which makes their scores agree more than new data would; the
    plain t-test ignores that and rejects too often. n_train and n_test are the examples of one
    split. A heuristic that was shown to hold its level in their experiments, not exact. Average
    over seeds within a split first (`nested_mean`). Statistic: t.
    Raises ValueError if a split has no examples.
    """
    share(level)
    values = finite(differences)
    if min(n_train, n_test) < 1:
        raise ValueError(f"a split of {n_train} training and {n_test} test examples")
    name = "corrected resampled t"
    if len(values) < 2 or same(values):
        return Test(name, len(values), None, 1.0, None)
    centre, spread = describe.mean(values), describe.std(values)
    assert centre is not None
    assert spread is not None
    statistic = centre / (spread * math.sqrt(1 / len(values) + n_test / n_train))
    return Test(name, len(values), t_tails(statistic, len(values) - 1), 0.0, statistic)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for the family of all that are not None (Holm 1979).

    The i-th smallest of m becomes max over j <= i of (m - j + 1) p_(j), at most 1, which holds the
    family-wise error whatever the dependence. None stays None and does not count into m: such a
    comparison could not have been rejected whatever came out, so it cannot add an error (Tarone
    1990). The family is what the caller passes: in a report, all arms compared with the baseline on
    one task. With m arms `fewest_pairs(level / m)` seeds are needed before any can be rejected.
    Raises ValueError for a p outside [0, 1].
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        if not 0 <= p <= 1:
            raise ValueError(f"p-value {i} is {p}: it lies in [0, 1]")
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[i] = largest
    return adjusted


def _doubled_ranks(sizes: FloatArray, tie: float) -> npt.NDArray[np.int64]:
    """Twice the mean rank of each size, from 2; sizes within `tie` of the one before are equal."""
    order = np.argsort(sizes, kind="stable")
    groups = np.concatenate([[0], np.cumsum(np.diff(sizes[order]) > tie)])
    counts = np.bincount(groups)
    last = np.cumsum(counts)
    ranks = np.empty(len(sizes), dtype=np.int64)
    ranks[order] = (2 * last - counts + 1)[groups]
    return ranks


def t_tails(statistic: float, df: float) -> float:
    """Both tails of Student's t beyond |statistic|."""
    from scipy.special import stdtr  # not scipy.stats, which takes a second to load

    return 2 * float(stdtr(df, -abs(statistic)))


def f_tail(statistic: float, df_1: float, df_2: float) -> float:
    """Upper tail of Fisher's F beyond `statistic`."""
    from scipy.special import fdtrc

    return float(fdtrc(df_1, df_2, statistic))

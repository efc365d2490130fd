"""Which runs are independent repetitions: read from their seeds, and respected by mean and test.

A run has several streams of random numbers (head initialisation, order of examples, dropout, choice
of training items). Where two runs share the seed of a stream that differs among others, they share
its luck: 5 initialisations crossed with 5 orders are 25 runs, but five and five repetitions. Taken
for 25 independent ones, their "95 %" interval covers 62 to 77 % (`make test-calibration`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bluestab.stats import describe, signflips
from bluestab.stats.arrays import TIE, FloatArray, finite, same, scale, share
from bluestab.stats.intervals import (
    Interval,
    default_interval,
    t_quantile,
    wilson,
    wilson_of_share,
)
from bluestab.stats.tests import Test, default_test

Streams = Iterable[tuple[str, Any]]
"""The seeds of a run, as (name, seed) pairs."""


@dataclass(frozen=True)
class Design:
    """How runs hang together.

    factors  names of the streams whose seeds runs share, and for every run which of these seeds it
             has, numbered from 0; none for independent runs, one for blocks of runs, two or more
             for crossed seeds
    n        runs
    """

    factors: tuple[tuple[str, tuple[int, ...]], ...]
    n: int

    @property
    def independent(self) -> bool:
        return not self.factors

    @property
    def n_independent(self) -> int:
        """Independent repetitions, at least: seeds of the stream that has the fewest."""
        return min((_size(blocks) for _, blocks in self.factors), default=self.n)

    @property
    def blocks(self) -> tuple[int, ...] | None:
        """Of every run the number of its block; None for crossed seeds, which have no blocks."""
        if self.independent:
            return tuple(range(self.n))
        return self.factors[0][1] if len(self.factors) == 1 else None

    def __str__(self) -> str:
        """`5 init x 5 order`; empty for independent runs."""
        return " x ".join(f"{_size(blocks)} {name}" for name, blocks in self.factors)


def design_of(runs: Sequence[Streams]) -> Design:
    """The design of runs, from their seeds.

    A stream with one seed in all runs, or another in every run, ties none of them together.
    Streams that tie the same runs are one factor; one whose blocks lie within those of another is
    covered by that one (training subsets drawn anew for every initialisation, say).
    """
    of_run = [dict(streams) for streams in runs]
    tied: dict[tuple[int, ...], list[str]] = {}
    for name in dict.fromkeys(name for streams in of_run for name in streams):
        blocks = _numbered([streams.get(name) for streams in of_run])
        if 1 < _size(blocks) < len(of_run):
            tied.setdefault(blocks, []).append(name)
    factors = [
        ("+".join(names), blocks)
        for blocks, names in tied.items()
        if not any(other != blocks and _within(blocks, other) for other in tied)
    ]
    return Design(tuple(factors), len(of_run))


def independent(n: int) -> Design:
    """The design of n runs that share nothing."""
    return Design((), n)


def mean_spread(scores: npt.ArrayLike, design: Design) -> tuple[float, float] | None:
    """Variance of the mean of `scores` `(n,)` over such a design, and its degrees of freedom.

    Of every factor the sample variance of the means of its blocks, times the sum of their squared
    weights; the sum over the factors, degrees of freedom after Satterthwaite (1946). For crossed
    seeds this is the two-term variance (Davezies, D'Haultfoeuille & Guyonvarch 2021, Annals of
    Statistics 49(2); MacKinnon, Nielsen & Webb 2021): in the two-way analysis its expectation is
    var(init)/I + var(order)/J + 2 var(rest)/(IJ), never too small. A factor with two blocks has one
    degree of freedom, and the whole then no more. None if n < 2 or there is no spread. Raises
    ValueError if there are not as many scores as runs.
    """
    values = finite(scores)
    if len(values) != design.n:
        raise ValueError(f"{len(values)} scores of {design.n} runs")
    if len(values) < 2 or same(values):
        return None
    factors = design.factors or (("run", tuple(range(design.n))),)
    parts = [between_blocks(values, blocks) for _, blocks in factors]
    variance = math.fsum(parts)
    if variance <= (TIE * scale(values)) ** 2:
        return None
    dfs = [_size(blocks) - 1 for _, blocks in factors]
    df = variance**2 / math.fsum(part**2 / df for part, df in zip(parts, dfs, strict=True))
    return variance, 1.0 if min(dfs) == 1 else df


def mean_interval(scores: npt.ArrayLike, design: Design, level: float = 0.95) -> Interval | None:
    """Interval of the mean of `scores` `(n,)`, or of paired differences, that respects the design.

    Independent runs: `default_interval`. Blocks: Student's, over the means of the blocks; crossed
    seeds: the same over both, see `mean_spread`. None where that is None.
    """
    if design.independent:
        return default_interval(scores, level)
    spread, centre = mean_spread(scores, design), describe.mean(scores)
    if spread is None or centre is None:
        return None
    half = t_quantile(spread[1], share(level)) * math.sqrt(spread[0])
    return Interval(centre - half, centre + half, level, _method(design))


def mean_test(a: npt.ArrayLike, b: npt.ArrayLike, design: Design, level: float = 0.05) -> Test:
    """Test of the mean difference of `a` and `b` `(n,)` over shared seeds of such a design.

    Independent runs: `default_test`. Blocks: its sign flips, of whole blocks (null hypothesis: the
    arms could be exchanged within every block), so that the level is exact. Crossed seeds: no block
    may be exchanged by itself, so Student's test of `mean_interval` (null hypothesis: equal means).
    Raises ValueError for unequal lengths.
    """
    if design.independent:
        return default_test(a, b, level)
    left, right = finite(a), finite(b)
    if len(left) != len(right):
        raise ValueError(f"{len(left)} scores cannot be paired with {len(right)}: share the seeds")
    differences, tie = left - right, TIE * scale(left, right)
    delta, blocks = describe.mean(differences), design.blocks
    if blocks is not None:
        p, smallest, exact = signflips.p_value(_sums(differences, blocks), tie)
        name = "block sign flips" if exact else "block sign flips (drawn)"
        return Test(name, _size(blocks), p if smallest <= level else None, smallest, delta)
    spread = mean_spread(np.where(np.abs(differences) <= tie, 0.0, differences), design)
    if spread is None or delta is None:
        return Test("two-way t", design.n_independent, None, 1.0, delta)
    from scipy.special import stdtr  # not scipy.stats, which takes a second to load

    p = 2 * float(stdtr(spread[1], -abs(delta) / math.sqrt(spread[0])))
    return Test("two-way t", design.n_independent, min(1.0, p), 0.0, delta)


def share_interval(failed: Sequence[bool], design: Design, level: float = 0.95) -> Interval | None:
    """Interval of the share of runs that failed; None without runs.

    Independent runs: `wilson`. Else Wilson's for the effective number of runs p (1 - p) / variance
    (Korn & Graubard 1998), at most n; where all runs ended alike, for the number of independent
    repetitions.
    """
    n_failed, n = sum(failed), len(failed)
    if design.independent or not n:
        return wilson(n_failed, n, level)
    p = n_failed / n
    spread = mean_spread([float(one) for one in failed], design)
    effective = design.n_independent if spread is None else min(n, p * (1 - p) / spread[0])
    return wilson_of_share(p, effective, level)


def _method(design: Design) -> str:
    return "block t" if len(design.factors) == 1 else "two-way t"


def between_blocks(values: FloatArray, blocks: tuple[int, ...]) -> float:
    """Variance of the mean of `values` `(n,)` that their blocks bring: see `mean_spread`."""
    sizes = np.bincount(blocks)
    means = np.sort(np.bincount(blocks, weights=values) / sizes)
    return float(np.var(means, ddof=1)) * float(np.sum((sizes / len(values)) ** 2))


def _sums(values: FloatArray, blocks: tuple[int, ...]) -> FloatArray:
    return np.sort(np.bincount(blocks, weights=values))


def _numbered(labels: Sequence[Any]) -> tuple[int, ...]:
    """Equal labels -> equal numbers, in order of appearance."""
    numbers = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return tuple(numbers[label] for label in labels)


def _size(blocks: tuple[int, ...]) -> int:
    return len(set(blocks))


def _within(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    """Whether every block of `inner` lies within one of `outer`."""
    return len(set(zip(inner, outer, strict=True))) == _size(inner)

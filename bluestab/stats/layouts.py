"""How the runs of a comparison hang together, by seeds and folds: what the mean, the change and the
spread of a verdict go by."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bluestab.stats import describe
from bluestab.stats.arrays import same
from bluestab.stats.changes import Pairs, changes_by_design
from bluestab.stats.designs import Design, independent, mean_interval
from bluestab.stats.intervals import Interval
from bluestab.stats.over_folds import FoldsMean, folds_mean
from bluestab.stats.variance import std_ratio_by_design

Scores = Mapping[Any, float]
"""Seed, or seed and fold -> score."""

Designs = Callable[[Sequence[Any]], Design]
"""Keys of scores -> how the seeds of their runs hang together, whatever their folds."""


def unrelated(keys: Sequence[Any]) -> Design:
    """The design of runs that share no seed."""
    return independent(len(keys))


@dataclass(frozen=True)
class Folds:
    """of: key of a score -> its fold; n_train, n_validation: items of one fold."""

    of: Callable[[Any], Hashable]
    n_train: int
    n_validation: int


@dataclass(frozen=True)
class Layout:
    """design: of the seeds; folds: of a cross-validation, else None."""

    design: Designs = unrelated
    folds: Folds | None = None

    def mean(
        self, scores: Scores, level: float, sign: int = 1
    ) -> tuple[float | None, float | None]:
        """Mean, and its one-sided bound at `level`: the lower one, with sign -1 the upper one.

        Scores that do not vary are their own bound; None without a mean, or a bound.
        """
        values, interval = list(scores.values()), 2 * level - 1
        if self.folds is None:
            mean = describe.mean(values)
            bound = mean_interval(values, self.design(list(scores)), interval)
            if bound is None and len(values) > 1 and same(np.array(values)):
                return mean, mean
        else:
            over_folds = self._over_folds(scores)
            if over_folds is None:
                return None, None
            mean, bound = over_folds.mean, over_folds.interval(interval)
        if bound is None:
            return mean, None
        return mean, bound.low if sign > 0 else bound.high

    def changes(
        self, pairs: Mapping[str, Pairs], level: float
    ) -> dict[str, tuple[float | None, float | None]]:
        """Arm -> its mean change, and p over all arms at once, from its scores and its baseline's.

        Over folds see `over_folds`; p is multiplied by the number of arms.
        """
        if self.folds is None:
            found = changes_by_design(pairs, self.design, level)
            return {arm: (one.delta, one.p_family) for arm, one in found.items()}
        tested: dict[str, tuple[float | None, float | None]] = {}
        for arm, own in pairs.items():
            change = self._over_folds({key: x - y for key, (x, y) in own.items()})
            if change is not None:
                p = change.test().p
                tested[arm] = change.mean, None if p is None else min(1.0, len(pairs) * p)
        return tested

    def spread(
        self, own: Scores, reference: Scores, keys: Sequence[Any], level: float
    ) -> tuple[float | None, Interval | None]:
        """Ratio of the standard deviations at these keys, and its interval."""
        return std_ratio_by_design(
            [own[key] for key in keys],
            [reference[key] for key in keys],
            self.design(keys),
            None if self.folds is None else [self.folds.of(key) for key in keys],
            level,
        )

    def shared(self, keys: Sequence[Any]) -> tuple[str, ...]:
        """Kinds of seed that several runs share; over folds all are shared, and none is named."""
        return () if self.folds else tuple(name for name, _ in self.design(keys).factors)

    def n_seeds(self, keys: Sequence[Any]) -> int:
        """Independent repetitions, of the kind of seed that has the fewest, in a fold."""
        design = self.design(keys)
        if self.folds is None or not design.independent:
            return design.n_independent
        return math.ceil(design.n / max(len({self.folds.of(key) for key in keys}), 1))

    def lacking(self, keys: Sequence[Any], fewest: int) -> int:
        """Seeds that are lacking until there are as many degrees of freedom as `fewest` pairs have:
        of every kind that is shared, and in every fold."""
        if self.folds is not None:
            n_folds = max(len({self.folds.of(key) for key in keys}), 1)
            return max(0, math.ceil((fewest - (len(keys) - n_folds)) / n_folds))
        sizes = [len({*blocks}) for _, blocks in self.design(keys).factors] or [len(keys)]
        return max(0, math.ceil((fewest - 1 - sum(size - 1 for size in sizes)) / len(sizes)))

    def _over_folds(self, scores: Scores) -> FoldsMean | None:
        assert self.folds is not None
        return folds_mean(
            list(scores.values()),
            [self.folds.of(key) for key in scores],
            self.design(list(scores)),
            (self.folds.n_train, self.folds.n_validation),
        )

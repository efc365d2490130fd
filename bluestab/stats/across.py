"""A mean over tasks of what each of them shows: its error is that of all their seeds together.

The tasks are taken as they are: no interval here says anything about other tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bluestab.stats.intervals import Interval, t_interval_of_error
from bluestab.stats.tests import t_tails

Spread = tuple[float, float, float]
"""Of one task: estimate, variance of the estimate, degrees of freedom of that."""


@dataclass(frozen=True)
class Across:
    """Weighted sum over tasks: estimate, standard error (> 0), degrees of freedom."""

    estimate: float
    error: float
    df: float

    def interval(self, level: float = 0.95) -> Interval:
        """Student's, with the degrees of freedom of Welch (1947) and Satterthwaite (1946)."""
        return t_interval_of_error(self.estimate, self.error, self.df, level)

    @property
    def p(self) -> float:
        """Two-sided, that the sum is nothing: the level at which the interval ends at zero."""
        return t_tails(self.estimate / self.error, self.df)


def across(tasks: Mapping[str, Spread | None], weights: Mapping[str, float]) -> Across | None:
    """The sum over tasks of weight times estimate, whose seeds are independent between tasks.

    tasks    None for one without a spread to tell its error by; a variance of 0 for one that
             scored the same at every seed
    weights  of the same tasks

    Variance: sum of weight^2 times variance. None without a task, where one has no spread, or where
    none varies. Raises KeyError for a task without a weight.
    """
    known = [(weights[task], spread) for task, spread in sorted(tasks.items())]
    if not known or any(spread is None for _, spread in known):
        return None
    parts = [(w, *spread) for w, spread in known if spread is not None]
    variances = [(w * w * variance, df) for w, _, variance, df in parts]
    total = math.fsum(variance for variance, _ in variances)
    if total <= 0:
        return None
    df = total**2 / math.fsum(v**2 / df for v, df in variances if v > 0)
    return Across(math.fsum(w * estimate for w, estimate, *_ in parts), math.sqrt(total), df)

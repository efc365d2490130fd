"""The mean over the folds of a cross-validation: what its folds, and its seeds, leave open.

Folds share training items, so their scores agree more than new data would (Nadeau & Bengio 2003).
And a seed that trains in every fold brings its luck to all of them, which folds cannot show: 5
seeds x 5 folds whose seeds hold 60 % of the variance were called apart in up to 23 %.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from bluestab.stats.arrays import TIE, scale
from bluestab.stats.components import nested_mean
from bluestab.stats.designs import Design, between_blocks
from bluestab.stats.intervals import Interval, t_interval_of_error
from bluestab.stats.tests import Test, t_tails

NAME = "corrected resampled t"


@dataclass(frozen=True)
class FoldsMean:
    """Mean of scores, or of paired differences, over folds.

    variance, df  of it, see `folds_mean`; None where folds do not differ, or their sizes are not
                  known
    """

    mean: float
    n_folds: int
    variance: float | None = None
    df: float | None = None

    def interval(self, level: float = 0.95) -> Interval | None:
        if self.variance is None or self.df is None:
            return None
        found = t_interval_of_error(self.mean, math.sqrt(self.variance), self.df, level)
        return Interval(found.low, found.high, level, "corrected t")

    def test(self) -> Test:
        """Of a mean of zero; its p is None where there is no variance. Statistic: t."""
        if self.variance is None or self.df is None:
            return Test(NAME, self.n_folds, None, 1.0, None)
        statistic = self.mean / math.sqrt(self.variance)
        return Test(NAME, self.n_folds, t_tails(statistic, self.df), 0.0, statistic)


def folds_mean(
    scores: Sequence[float],
    folds: Sequence[Hashable],
    design: Design,
    sizes: tuple[int, int] | None,
) -> FoldsMean | None:
    """Mean over folds of the mean over the runs of each; None without runs.

    folds   of every run; design: of their seeds, in which folds play no part
    sizes   items that train and test in a fold
    Variance: that over folds, times 1/n + n_test/n_train, and that over seeds of what they do
    within folds; degrees of freedom after Satterthwaite (1946), those of the folds at most. As in
    `designs.mean_spread` it is not too small where folds and seeds add up. Seeds that are others in
    every fold add nothing, nor does one seed alone, of which all this says nothing about others.
    Raises ValueError if a fold has no training or no test items.
    """
    groups: dict[Hashable, list[float]] = {fold: [] for fold in folds}
    for fold, score in zip(folds, scores, strict=True):
        groups[fold].append(score)
    nested = nested_mean(groups)
    if nested is None:
        return None
    found = FoldsMean(nested.mean, nested.n_folds)
    if sizes is None or nested.std_folds is None:
        return found
    if min(sizes) < 1:
        raise ValueError(f"a fold of {sizes[0]} training and {sizes[1]} test examples")
    means = {fold: float(np.mean(values)) for fold, values in groups.items()}
    within = np.array([x - means[fold] for fold, x in zip(folds, scores, strict=True)])
    parts = [nested.std_folds**2 * (1 / nested.n_folds + sizes[1] / sizes[0])]
    parts += [between_blocks(within, blocks) for _, blocks in design.factors]
    dfs = [nested.n_folds - 1, *(len({*blocks}) - 1 for _, blocks in design.factors)]
    variance = math.fsum(parts)
    if variance <= (TIE * scale(np.array(scores))) ** 2:
        return found
    df = variance**2 / math.fsum(part**2 / df for part, df in zip(parts, dfs, strict=True))
    return FoldsMean(nested.mean, nested.n_folds, variance, min(df, nested.n_folds - 1.0))

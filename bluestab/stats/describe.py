"""Numbers that describe the scores of one cell over its seeds, or compare two cells.

Pure functions over a 1-D array of scores, `(n_seeds,)`; None where a number is undefined, never
NaN. Sums are exact (`statistics`, not numpy), so that a table does not change with the order in
which runs finished, and equal scores have a standard deviation of exactly zero.

Failed runs are in the scores, with their own score or the task's `failure_score`. A score that is
not finite therefore means that a run was not classified, and raises ValueError instead of being
dropped or spreading through the table.
"""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy.typing as npt

from bluestab.stats.arrays import finite

Seed = TypeVar("Seed", bound=Hashable)


def mean(scores: npt.ArrayLike) -> float | None:
    """Arithmetic mean of `scores` `(n_seeds,)`; None if there are none."""
    values = _values(scores)
    return statistics.mean(values) if values else None


def std(scores: npt.ArrayLike) -> float | None:
    """Sample standard deviation (n - 1 in the denominator) of `scores` `(n_seeds,)`; None if n < 2.

    It estimates the spread over all seeds, not only over those that were run.
    """
    values = _values(scores)
    return statistics.stdev(values) if len(values) >= 2 else None


def median(scores: npt.ArrayLike) -> float | None:
    """Middle value of `scores` `(n_seeds,)`, of two middle ones their mean; None if n = 0."""
    values = _values(scores)
    return statistics.median(values) if values else None


def iqm(scores: npt.ArrayLike) -> float | None:
    """Interquartile mean of `scores` `(n_seeds,)`: mean of the middle 50 %; None if n = 0.

    The `floor(n / 4)` lowest and as many of the highest scores are left out, so nothing is for
    n < 4. As rliable (Agarwal et al. 2021) and `scipy.stats.trim_mean(scores, 0.25)`.
    """
    values = sorted(_values(scores))
    n_cut = len(values) // 4
    return mean(values[n_cut : len(values) - n_cut])


def failed_share(n_degenerate: int, n_diverged: int, n: int) -> float | None:
    """`(n_degenerate + n_diverged) / n`, in [0, 1]; None if `n` is 0.

    `n` counts the runs with a result, done or diverged; crashed runs are no result and are not in
    it. Raises ValueError if the counts are negative or do not fit into `n`.
    """
    if min(n_degenerate, n_diverged) < 0 or n_degenerate + n_diverged > n:
        raise ValueError(f"{n_degenerate} degenerate and {n_diverged} diverged runs among {n}")
    return (n_degenerate + n_diverged) / n if n else None


def paired_delta(
    scores_by_seed_a: Mapping[Seed, float], scores_by_seed_b: Mapping[Seed, float]
) -> tuple[int, float | None]:
    """Number of seeds both have, and the mean over these of score a - score b; None if 0 seeds.

    Seeds that only one of them has are left out of both: at equal seed two arms share items, batch
    order and head, so the difference is the technique's.
    """
    shared = [seed for seed in scores_by_seed_a if seed in scores_by_seed_b]
    a = _values([scores_by_seed_a[seed] for seed in shared])
    b = _values([scores_by_seed_b[seed] for seed in shared])
    return len(shared), mean([x - y for x, y in zip(a, b, strict=True)])


def std_ratio(a: npt.ArrayLike, b: npt.ArrayLike) -> float | None:
    """`std(a) / std(b)` of two arrays of scores; below 1 means that a varies less over seeds.

    None if either is undefined (n < 2) or `std(b)` is 0.
    """
    std_a, std_b = std(a), std(b)
    return None if std_a is None or not std_b else std_a / std_b


def summary(scores: Sequence[float], failed: Sequence[bool]) -> dict[str, float | None]:
    """`mean`, `mean_without_failed`, `std`, `median`, `iqm`, `min`, `max`; None where undefined.

    All are over every run but `mean_without_failed`, over the runs whose `failed` is false.
    Raises ValueError if the two differ in length.
    """
    values = _values(scores)
    if len(values) != len(failed):
        raise ValueError(f"{len(values)} scores, but {len(failed)} runs marked as failed or not")
    return {
        "mean": mean(values),
        "mean_without_failed": mean([s for s, f in zip(values, failed, strict=True) if not f]),
        "std": std(values),
        "median": median(values),
        "iqm": iqm(values),
        "min": min(values, default=None),
        "max": max(values, default=None),
    }


def _values(scores: npt.ArrayLike) -> list[float]:
    values: list[float] = finite(scores).tolist()
    return values

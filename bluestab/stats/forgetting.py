"""What a network forgets while it learns one task after another: numbers of one sequence.

a(t, i), of tasks numbered in the order in which they are trained: the score on task i after stage
t, with the head of task i as it stood after stage i. `(T, T)`, NaN above the diagonal. Scores grow
with quality: those of an error are given with their sign turned. Definitions as in Chaudhry et al.
2018 (ECCV) and Lopez-Paz & Ranzato 2017 (NeurIPS).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bluestab.stats.arrays import FloatArray
from bluestab.stats.intervals import Interval
from bluestab.stats.resampling import draws, percentile


def average(scores: npt.ArrayLike) -> float:
    """Mean over all i of a(T, i)."""
    return float(_square(scores)[-1].mean())


def forgetting(scores: npt.ArrayLike) -> float:
    """Mean over i < T of the best a(t, i), i <= t < T, minus a(T, i); it may be negative."""
    table = _square(scores)
    return float(np.mean(np.nanmax(table[:-1, :-1], axis=0) - table[-1, :-1]))


def backward(scores: npt.ArrayLike) -> float:
    """Mean over i < T of a(T, i) - a(i, i): what later tasks did to earlier ones."""
    return -float(drops(scores).mean())


def forward(scores: npt.ArrayLike, alone: npt.ArrayLike) -> float:
    """Mean over i > 1 of a(i, i) minus the score of a run on task i alone: what earlier tasks did
    for later ones. (alone: of every task, `(T,)`.)"""
    return float(np.mean((np.diag(_square(scores)) - np.asarray(alone, dtype=np.float64))[1:]))


def drops(scores: npt.ArrayLike) -> FloatArray:
    """a(i, i) - a(T, i) for i < T."""
    table = _square(scores)
    found: FloatArray = np.diag(table)[:-1] - table[-1, :-1]
    return found


def reduction(
    drop: Sequence[Sequence[float]],
    reference: Sequence[Sequence[float]],
    level: float = 0.95,
    resamples: int = 9_999,
    seed: int = 0,
) -> tuple[float, Interval | None]:
    """1 - mean drop / mean drop of the reference, and its interval by resampling seeds.

    drop, reference  of the same seeds: for each seed one or more mean drops, of its orders

    A ratio of means, over orders and tasks, not a mean of ratios. Percentile ends; None with fewer
    than three seeds. Of few seeds such an interval is too narrow (see `bluestab.stats`). The caller
    sees to it that the mean drop of the reference is above 0. Raises ValueError if the seeds of the
    two are not as many.
    """
    own, other = (np.array([np.mean(one) for one in of]) for of in (drop, reference))
    if len(own) != len(other):
        raise ValueError(f"{len(own)} seeds cannot be paired with {len(other)}")
    found = 1 - float(own.mean() / other.mean())
    if len(own) < 3:
        return found, None
    rows = draws(len(own), resamples, seed)
    below = other[rows].mean(axis=1)
    ratios = 1 - own[rows].mean(axis=1) / np.where(below > 0, below, np.nan)
    ends = percentile(ratios, level)
    return found, None if ends is None else Interval(*ends, level, "percentile")


def _square(scores: npt.ArrayLike) -> FloatArray:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) != table.shape[1] or len(table) < 2:
        raise ValueError(f"scores are (T, T) of two tasks or more, not of shape {table.shape}")
    known = table[np.tril_indices(len(table))]
    if not np.isfinite(known).all():
        raise ValueError("every task has a finite score after its own stage and all later ones")
    return table

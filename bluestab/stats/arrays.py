"""What goes into a statistic: checked, and in an order that does not depend on who came first."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

TIE = 1e-9
"""Differences that agree to this share of the largest score are ties: 0.9 - 0.8 and 0.7 - 0.6 are
one number, whatever binary fractions make of them."""


def finite(scores: npt.ArrayLike) -> FloatArray:
    """`scores` as float64 `(n_seeds,)`; ValueError for other shapes and for NaN or infinity."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"scores are one-dimensional (n_seeds,), not of shape {array.shape}")
    for i, value in enumerate(array.tolist()):
        if not math.isfinite(value):
            raise ValueError(f"score {i} is {value}: a failed run needs its failure_score")
    return array


def ordered(scores: npt.ArrayLike) -> FloatArray:
    """Checked scores from low to high: what is drawn from them then knows no order of runs."""
    return np.sort(finite(scores))


def pairs(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """Scores of two arms at the same seeds, `(n_seeds, 2)`, rows in canonical order.

    Raises ValueError if the arms differ in length: then their seeds cannot be the same.
    """
    left, right = finite(a), finite(b)
    if len(left) != len(right):
        raise ValueError(f"{len(left)} scores cannot be paired with {len(right)}: share the seeds")
    together = np.column_stack([left, right])
    return together[np.lexsort((right, left))]


def arms(a: npt.ArrayLike, b: npt.ArrayLike, paired: bool) -> tuple[FloatArray, FloatArray]:
    """Scores of two arms, each `(n_seeds,)`: paired row by row, or each arm in its own order.

    Raises ValueError as `pairs` does.
    """
    if not paired:
        return ordered(a), ordered(b)
    both = pairs(a, b)
    return both[:, 0], both[:, 1]


def scale(*scores: FloatArray) -> float:
    """Largest absolute score, at least the smallest positive normal number: the unit of `TIE`."""
    largest = max((float(np.abs(part).max(initial=0.0)) for part in scores), default=0.0)
    return max(largest, float(np.finfo(np.float64).tiny))


def share(level: float, name: str = "level") -> float:
    """`level` itself; ValueError unless 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"{name} is {level}: it lies between 0 and 1")
    return level


def same(scores: FloatArray, unit: float | None = None) -> bool:
    """No spread beyond rounding, see `TIE`; differences need the `scale` of what they are of."""
    unit = scale(scores) if unit is None else unit
    return len(scores) == 0 or float(np.ptp(scores)) <= TIE * unit

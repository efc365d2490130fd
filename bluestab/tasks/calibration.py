"""How well probabilities fit what happens: pure functions, each with its definition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SUM_TOLERANCE = 1e-4
"""How far the probabilities of an item may sum from 1: a float32 softmax stays within 1e-6, half
precision or logits do not."""


def ece(probabilities: npt.ArrayLike, targets: npt.ArrayLike, n_bins: int = 15) -> float | None:
    """Expected calibration error of the top class, in [0, 1], 0 is best; None if no items.

    Guo et al. 2017, eq. 3: the mean over items of |accuracy - mean confidence| of the bin they are
    in. Confidence is the largest probability of the item, its class the first that has it. Bins are
    equally wide and closed on the right, ((m - 1) / n_bins, m / n_bins], as there, so a confidence
    of 1.0 lies in the last one. (torchmetrics closes them on the left and gives 1.0 a bin of its
    own: equal unless a confidence falls on an edge, as a saturated softmax does.)

    `probabilities`: `(n_items, n_classes)`, each row sums to 1; `targets`: integer classes,
    `(n_items,)`. Raises ValueError on other shapes, a probability that is negative or not finite,
    a row whose sum is off by more than 1e-4, a target outside the classes, `n_bins` < 1.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}: expected at least 1")
    p, true = _distributions(probabilities, targets)
    if not len(true):
        return None
    confidence = p.max(axis=1)
    right = p.argmax(axis=1) == true
    inner_edges = np.linspace(0.0, 1.0, n_bins + 1)[1:-1]
    # side="left": a value on an edge belongs to the bin below it
    bins = np.searchsorted(inner_edges, confidence, side="left")
    # |sum of (right - confidence)| of a bin is its number of items times the gap of its means
    gaps = np.bincount(bins, weights=right - confidence, minlength=n_bins)
    return float(np.sum(np.abs(gaps)) / len(true))


def brier(probabilities: npt.ArrayLike, targets: npt.ArrayLike) -> float | None:
    """Brier score in [0, 2], 0 is best; None if no items.

    Brier 1950, eq. 2: the mean over items of the squared distance between their probabilities and
    the one-hot target, summed over all classes. For two classes that is twice what scikit-learn's
    `brier_score_loss` gives, which counts the positive class alone. Arguments and errors as `ece`.
    """
    p, true = _distributions(probabilities, targets)
    if not len(true):
        return None
    distance = p.copy()
    distance[np.arange(len(true)), true] -= 1.0
    return float(np.mean(np.sum(distance**2, axis=1)))


def _distributions(
    probabilities: npt.ArrayLike, targets: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Probabilities `(n_items, n_classes)` and classes `(n_items,)`, checked."""
    p, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets)
    if p.shape == true.shape == (0,):
        return p, true.astype(np.int64)
    if p.ndim != 2 or true.shape != p.shape[:1]:
        raise ValueError(
            f"probabilities have shape {p.shape}, targets {true.shape}: expected "
            "(n_items, n_classes) and (n_items,)"
        )
    if true.size and true.dtype.kind not in "biu":
        raise ValueError(f"classes are integers, not {true.dtype}")
    bad = ~(np.isfinite(p) & (p >= 0)).all(axis=1)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(f"item {i}: {p[i].tolist()} holds what is no probability")
    off = np.abs(p.sum(axis=1) - 1)
    if (off > SUM_TOLERANCE).any():
        i = int(np.argmax(off > SUM_TOLERANCE))
        raise ValueError(
            f"item {i}: its probabilities sum to {p[i].sum():.6g}, not to 1 (logits need a softmax)"
        )
    outside = (true < 0) | (true >= p.shape[1])
    if outside.any():
        i = int(np.argmax(outside))
        raise ValueError(f"item {i}: target {true[i]} is outside the classes 0 .. {p.shape[1] - 1}")
    return p, true.astype(np.int64)

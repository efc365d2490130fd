"""Scores of predictions against targets: what every number in a record and a table means.

Written out here because the usual libraries answer other questions: torchmetrics has no entity
score and no F1 of the positive classes, seqeval is lenient unless told otherwise, and both return
NaN or warn where a score does not exist. Here every function is pure and returns a float, or None
where the score is undefined; never NaN, which would pass silently through a mean.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def accuracy(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float | None:
    """Share of right predictions in [0, 1]; None if there are none.

    `predictions`, `targets`: integer classes, `(n_items,)`. Raises ValueError on unequal shapes.
    """
    predicted, true = _classes(predictions, targets)
    return float(np.mean(predicted == true)) if len(true) else None


def exact_match(predictions: Sequence[Any], targets: Sequence[Any]) -> float | None:
    """Share of items whose prediction equals their target as a whole, in [0, 1]; None if there are
    none. Raises ValueError if the two differ in length."""
    same = [p == t for p, t in zip(predictions, targets, strict=True)]
    return sum(same) / len(same) if same else None


def macro_f1(predictions: npt.ArrayLike, targets: npt.ArrayLike, n_classes: int) -> float | None:
    """Unweighted mean over the classes `0 .. n_classes - 1` of their F1, in [0, 1]; None if empty.

    A class in neither predictions nor targets has F1 0 and counts in the mean, as scikit-learn's
    `f1_score(average="macro", labels=range(n_classes), zero_division=0)`: so the number of terms
    does not depend on the seed. `predictions`, `targets`: integer classes, `(n_items,)`.
    Raises ValueError on unequal shapes or a class outside the range.
    """
    predicted, true = _classes(predictions, targets)
    if not len(true):
        return None
    for name, classes in (("prediction", predicted), ("target", true)):
        if classes.min() < 0 or classes.max() >= n_classes:
            raise ValueError(f"a {name} lies outside the classes 0 .. {n_classes - 1}")
    n_right = np.bincount(true[predicted == true], minlength=n_classes)
    n_predicted = np.bincount(predicted, minlength=n_classes)
    n_true = np.bincount(true, minlength=n_classes)
    return float(
        np.mean([f1_of(*counts) for counts in zip(n_right, n_predicted, n_true, strict=True)])
    )


def positive_f1(
    predictions: npt.ArrayLike, targets: npt.ArrayLike, positive: Collection[int]
) -> float | None:
    """Micro F1 over the classes in `positive` only, in [0, 1]; None if there are no items.

    The BLURB score of ChemProt, DDI and GAD (Gu et al. 2022), scikit-learn's
    `f1_score(labels=positive, average="micro", zero_division=0)`: 0.0 if everything is predicted
    and labelled negative. It is not torchmetrics' micro F1 with `ignore_index=negative`: that drops
    the *items* whose target is negative, so a false alarm on them costs nothing; here only the
    negative *class* is left out of the count, and every false alarm lowers precision.

    `predictions`, `targets`: integer or boolean classes of any one shape, counted entry by entry.
    Raises ValueError on unequal shapes or an empty `positive`.
    """
    wanted = list(positive)
    if not wanted:
        raise ValueError("no class is positive: name at least one")
    predicted, true = _classes(predictions, targets, flatten=True)
    if not len(true):
        return None
    is_predicted, is_true = np.isin(predicted, wanted), np.isin(true, wanted)
    n_right = int(np.sum(is_true & (predicted == true)))
    return f1_of(n_right, int(np.sum(is_predicted)), int(np.sum(is_true)))


def multilabel_f1(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float | None:
    """Micro F1 of labels that are there or not, in [0, 1]; None if there are no items.

    All decisions are pooled: 2 TP / (2 TP + FP + FN) over items and labels; 0/0 is 0.0. The BLURB
    score of HoC (Gu et al. 2022), one item per abstract; scikit-learn's
    `f1_score(average="micro", zero_division=0)`.

    `predictions`, `targets`: 0/1 or boolean, `(n_items, n_labels)`. Raises ValueError on unequal
    or other shapes, or other values.
    """
    predicted, true = _decisions(predictions, targets)
    if not len(true):
        return None
    return f1_of(int(np.sum(predicted & true)), int(np.sum(predicted)), int(np.sum(true)))


def multilabel_macro_f1(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float | None:
    """Unweighted mean over the labels of their F1, in [0, 1]; None if there are no items.

    A label that is neither predicted nor true anywhere has F1 0 and counts in the mean, as in
    scikit-learn's `f1_score(average="macro", zero_division=0)`. Arguments and errors as in
    `multilabel_f1`; also ValueError if there are no labels.
    """
    predicted, true = _decisions(predictions, targets)
    if not len(true):
        return None
    if not true.shape[1]:
        raise ValueError("there are no labels: expected (n_items, n_labels) with n_labels >= 1")
    counts = zip((predicted & true).sum(0), predicted.sum(0), true.sum(0), strict=True)
    return float(np.mean([f1_of(*found) for found in counts]))


def pearson(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float | None:
    """Pearson correlation in [-1, 1] of two real `(n_items,)` arrays, computed in float64.

    None if undefined: fewer than two items, a constant input, or a value that is not finite. A
    collapsed regression model is such a case. Constant means equal to the last bit; predictions
    that differ at all have a correlation. Raises ValueError unless both are 1-D and equally long.
    """
    x, y = _reals(predictions, targets)
    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    x, y = _deviations(x), _deviations(y)
    if not (x.any() and y.any()):
        return None
    # numpy's own sum, not a BLAS dot product, whose last bits depend on the number of threads
    r = np.sum(x * y) / (np.sqrt(np.sum(x * x)) * np.sqrt(np.sum(y * y)))
    return float(np.clip(r, -1.0, 1.0))


def spearman(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float | None:
    """Spearman correlation in [-1, 1]: Pearson of the ranks; equal values share their mean rank.

    None and ValueError as in `pearson`.
    """
    x, y = _reals(predictions, targets)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    return pearson(_ranks(x), _ranks(y))


def rmse(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float | None:
    """Root of the mean squared difference, in the unit of the targets, >= 0; lower is better.

    None if there are no items or the result is not finite. Raises ValueError unless both are 1-D
    and equally long.
    """
    x, y = _reals(predictions, targets)
    if not len(x):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        value = float(np.sqrt(np.mean((x - y) ** 2)))
    return value if np.isfinite(value) else None


def f1_of(n_right: int, n_predicted: int, n_true: int) -> float:
    """2 TP / (2 TP + FP + FN), in [0, 1]; 0/0 is 0.0."""
    total = int(n_predicted) + int(n_true)
    return 2 * int(n_right) / total if total else 0.0


def _decisions(
    predictions: npt.ArrayLike, targets: npt.ArrayLike
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Tables of yes and no, `(n_items, n_labels)`; no items in any shape with a 0 in front."""
    predicted, true = np.asarray(predictions), np.asarray(targets)
    if predicted.shape != true.shape:
        raise ValueError(f"predictions have shape {predicted.shape}, targets {true.shape}")
    if true.ndim != 2 and true.shape != (0,):
        raise ValueError(f"expected tables (n_items, n_labels), not of shape {true.shape}")
    for array in (predicted, true):
        if array.size and (array.dtype.kind not in "biu" or array.min() < 0 or array.max() > 1):
            raise ValueError(f"labels are there or not, 0 or 1: found other values ({array.dtype})")
    return predicted.astype(np.bool_), true.astype(np.bool_)


def _classes(
    predictions: npt.ArrayLike, targets: npt.ArrayLike, *, flatten: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    predicted, true = np.asarray(predictions), np.asarray(targets)
    _check_shapes(predicted.shape, true.shape, any_rank=flatten)
    for array in (predicted, true):
        # an empty list has no type of its own, numpy makes it float
        if array.size and array.dtype.kind not in "biu":
            raise ValueError(f"classes are integers, not {array.dtype}")
    return predicted.astype(np.int64).ravel(), true.astype(np.int64).ravel()


def _reals(
    predictions: npt.ArrayLike, targets: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    _check_shapes(x.shape, y.shape)
    return x, y


def _check_shapes(
    predicted: tuple[int, ...], true: tuple[int, ...], *, any_rank: bool = False
) -> None:
    # (n,) against (n, 1) would broadcast to n x n without a word
    if predicted != true:
        raise ValueError(f"predictions have shape {predicted}, targets {true}")
    if len(true) != 1 and not any_rank:
        raise ValueError(f"predictions and targets are one-dimensional, not of shape {true}")


def _deviations(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Deviations from the mean up to a positive factor; all zero only if `x` is constant.

    Scaling by a power of two is exact and keeps the squares within float64. Taking the first value
    off before the mean is exact where all values are close together, so the rounding of a large
    mean cannot drown small deviations (3.1 + 1e-9 * noise keeps all the digits it has).
    """
    _, exponent = np.frexp(np.max(np.abs(x)))
    x = np.ldexp(x, -exponent)
    x = x - x[0]
    centred: npt.NDArray[np.float64] = x - np.mean(x)
    return centred


def _ranks(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks 1 .. n; equal values share the mean of their ranks."""
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank: npt.NDArray[np.float64] = last - (counts - 1) / 2
    return mean_rank[group]


def perplexity(likelihoods: Sequence[Sequence[float] | float]) -> float | None:
    """exp of the mean negative log-likelihood (nats) over all pieces of all items; None if there is
    none. It compares models of one vocabulary alone: with longer pieces each is harder to guess."""
    if not likelihoods:
        return None
    pieces = np.concatenate([np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in likelihoods])
    if not len(pieces) or not np.isfinite(pieces).all():
        return None
    return math.exp(min(float(pieces.mean()), 700.0))


def counted_f1(counts: Sequence[Sequence[float]]) -> float | None:
    """2 TP / (2 TP + FP + FN) of (TP, FP, FN) per item, pooled; 0/0 is 0.0, None without items."""
    if not counts:
        return None
    right, wrong, missed = np.asarray(counts, dtype=np.float64).sum(axis=0)
    total = 2 * right + wrong + missed
    return float(2 * right / total) if total else 0.0

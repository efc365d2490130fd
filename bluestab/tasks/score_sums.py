"""Scores as functions of sums over items: what resampling test items a thousand times needs.

A metric is here if it can be had from the sum over items of a few numbers per item, so that the
scores of all resamples are one matrix product. Ranks (Spearman) and calibration are not of that
kind. `of_items` and `score` together give what `bluestab.tasks.scoring` gives, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bluestab.tasks.scoring_tags import spans

FloatArray = npt.NDArray[np.float64]
Score = Callable[[FloatArray], FloatArray]
"""Sums `(..., k)` -> scores `(...)`, NaN where undefined."""


def of_items(
    metric: str,
    predictions: Sequence[Any],
    targets: Sequence[Any],
    *,
    positive: Sequence[str] = (),
    types: Sequence[str] = (),
) -> FloatArray | None:
    """What each item adds to the sums of `metric`: `(n_items, k)`; None for another metric.

    predictions, targets  as they stand in a run's predictions: class names, lists of labels or of
                          IOB2 tags, numbers
    positive              classes that count in positive_f1
    types                 of words, for word_macro_f1

    Raises ValueError for tags that are not IOB2.
    """
    pairs = list(zip(predictions, targets, strict=True))
    if metric == "accuracy":
        return _table([(p == t, 1) for p, t in pairs])
    if metric == "accuracy_at_1":
        return _table([(bool(p) and p[0] == t, 1) for p, t in pairs])
    if metric == "positive_f1":
        return _table([(p == t and t in positive, p in positive, t in positive) for p, t in pairs])
    if metric == "micro_f1":
        return _table([_counts(set(p), set(t)) for p, t in pairs])
    if metric == "entity_f1":
        return _table([_counts(spans(p), spans(t)) for p, t in pairs])
    if metric == "word_macro_f1":
        return _table([[n for kind in types for n in _words(p, t, kind)] for p, t in pairs])
    if metric == "pearson":
        return _moments(np.asarray(predictions, dtype=float), np.asarray(targets, dtype=float))
    if metric == "rmse":
        return _table([((p - t) ** 2, 1) for p, t in pairs])
    if metric == "perplexity":
        return _table([(sum(p), len(p)) for p, _ in pairs])
    return None


def score(metric: str) -> Score:
    """How `metric` follows from the sums of `of_items`. Raises KeyError for another metric."""
    return SCORES[metric]


def _table(rows: Sequence[Sequence[float]]) -> FloatArray:
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)


def _counts(predicted: set[Any], true: set[Any]) -> tuple[int, int, int]:
    return len(predicted & true), len(predicted), len(true)


def _words(predicted: Sequence[str], true: Sequence[str], kind: str) -> tuple[int, int, int]:
    a, b = ({i for i, tag in enumerate(tags) if tag[2:] == kind} for tags in (predicted, true))
    return _counts(a, b)


def _moments(x: FloatArray, y: FloatArray) -> FloatArray:
    """Around the mean of all items, so that little is lost where sums are subtracted."""
    x, y = x - x.mean(), y - y.mean()
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _share(sums: FloatArray) -> FloatArray:
    found: FloatArray = sums[..., 0] / sums[..., 1]
    return found


def _root(sums: FloatArray) -> FloatArray:
    found: FloatArray = np.sqrt(_share(sums))
    return found


def _exponential(sums: FloatArray) -> FloatArray:
    found: FloatArray = np.exp(_share(sums))
    return found


def _f1(sums: FloatArray) -> FloatArray:
    """2 TP / (2 TP + FP + FN); 0/0 is 0.0."""
    right, total = sums[..., 0], sums[..., 1] + sums[..., 2]
    return np.divide(2 * right, total, out=np.zeros_like(total), where=total > 0)


def _macro_f1(sums: FloatArray) -> FloatArray:
    by_type = sums.reshape(*sums.shape[:-1], -1, 3)
    found: FloatArray = _f1(by_type).mean(axis=-1)
    return found


def _pearson(sums: FloatArray) -> FloatArray:
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread_x, spread_y = n * xx - x * x, n * yy - y * y
    # what is left of equal values is rounding
    known = (spread_x > 1e-12 * n * xx) & (spread_y > 1e-12 * n * yy)
    product = np.where(known, spread_x * spread_y, 1.0)
    return np.where(known, np.clip((n * xy - x * y) / np.sqrt(product), -1.0, 1.0), np.nan)


SCORES: Mapping[str, Score] = {
    "accuracy": _share,
    "accuracy_at_1": _share,
    "positive_f1": _f1,
    "micro_f1": _f1,
    "entity_f1": _f1,
    "word_macro_f1": _macro_f1,
    "pearson": _pearson,
    "rmse": _root,
    "perplexity": _exponential,
}

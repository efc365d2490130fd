"""Scores of other packages, computed as ours are compared with them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score

Case = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def binary_f1(cases: list[Case]) -> npt.NDArray[np.float64]:
    """scikit-learn's F1 of each pair of 0/1 vectors: all in one call, a column each.

    Rows of zeros fill up the shorter ones; they are true negatives, which F1 does not count.
    """
    height = max(len(a) for a, _ in cases)
    table = np.zeros((2, height, len(cases)), dtype=np.int64)
    for column, pair in enumerate(cases):
        for side, vector in enumerate(pair):
            table[side, : len(vector), column] = vector
    scores: npt.NDArray[np.float64] = f1_score(table[1], table[0], average=None, zero_division=0)
    return scores

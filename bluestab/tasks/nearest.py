"""Exact search: which concepts of a whole dictionary have the names most like a mention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

AT_ONCE = 2**24
"""Similarities of mentions and names that are held at once: 64 MiB of float32."""

RANKS = 64
"""Concepts kept of each mention."""


def first_names(names: Sequence[Sequence[str]]) -> np.ndarray:
    """Where the names of each concept begin in the list of all, (C,)."""
    return np.cumsum([0, *map(len, names)][:-1])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (N, D) of length 1, float32; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: np.ndarray = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return found


def nearest_concepts(
    similarities: Callable[[slice], np.ndarray], n: int, starts: np.ndarray, n_names: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each of `n` mentions the numbers of its best concepts and their similarity, (R,) each, R =
    min(RANKS, C), the best first; of equal ones that which stands first in the dictionary.

    similarities  mentions -> theirs with all names, (b, n_names); called with at most AT_ONCE /
                  n_names mentions, or one
    starts        as of `first_names`: a concept is as near as the nearest of its names
    """
    step = max(1, AT_ONCE // n_names)
    for begin in range(0, n, step):
        of_concepts = np.maximum.reduceat(
            similarities(slice(begin, min(begin + step, n))), starts, axis=1
        )  # (b, C)
        for row in of_concepts:
            best = top(row, RANKS)
            yield best, row[best]


def top(values: np.ndarray, k: int) -> np.ndarray:
    """Places of the k largest of (C,), the largest first; of equal ones the first."""
    k = min(k, len(values))
    least = np.partition(values, len(values) - k)[len(values) - k]
    places = np.flatnonzero(values >= least)
    return places[np.argsort(-values[places], kind="stable")][:k]


def hits_at(
    k: int, predictions: Sequence[Sequence[str] | str], targets: Sequence[str], n_concepts: int
) -> float | None:
    """Share of mentions whose concept is among the first k that are named, in [0, 1].

    predictions  ids, the nearest first; a single one is an answer without doubt
    n_concepts   that there are to choose from

    None without mentions, and where fewer than k are named, though there are more to choose from:
    what stands below them is not known.
    """
    ranked = [[p] if isinstance(p, str) else list(p) for p in predictions]
    lists = [p for p in predictions if not isinstance(p, str)]
    if not ranked or any(0 < len(p) < min(k, n_concepts) for p in lists):
        return None
    return sum(t in p[:k] for p, t in zip(ranked, targets, strict=True)) / len(ranked)

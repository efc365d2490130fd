"""What a training says about itself on the way: gradient norms by layer, early signs of failure.

Pure functions over what a run has recorded so far; nothing here can change a training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bluestab.core.types import IGNORED

COLUMN = "grad_norm_"

FLAT = 0.97
"""A training loss above this share of the best constant prediction's has learnt nothing yet."""

VANISHED = 1e-3
"""A gradient norm below this share of the top's has vanished. Mosbach et al. 2021 (arXiv
2006.04884, Fig. 2): two orders of magnitude lie between successful and failed runs. Six-block runs
measured here: 0.02 to 0.7 where training was merely slow or went well, below 1e-5 where the rate
was a hundred times too high."""

PATIENCE = 2
"""Evaluations after warm-up that must all show both signs."""


def columns(n_layers: int) -> list[str]:
    """Names by depth 0..n_layers+1: embeddings, each block, pooler and head together as `top`."""
    blocks = [f"block_{i}" for i in range(1, n_layers + 1)]
    return [COLUMN + group for group in ("embeddings", *blocks, "top")]


def mean_norms(norms: np.ndarray, depths: Sequence[int], n_layers: int) -> dict[str, float | None]:
    """Gradient norm of each layer group, mean over steps; None where nothing had a gradient.

    norms   (steps, parameters): L2 norm per parameter, NaN where it had no gradient
    depths  depth of each parameter, in 0..n_layers+1
    """
    squares = np.asarray(norms, dtype=np.float64).reshape(-1, len(depths)) ** 2
    found: dict[str, float | None] = {}
    for depth, name in enumerate(columns(n_layers)):
        inside = squares[:, [i for i, d in enumerate(depths) if d == depth]]
        inside = inside[~np.isnan(inside).all(axis=1)] if inside.size else inside[:0]
        found[name] = float(np.sqrt(np.nansum(inside, axis=1)).mean()) if len(inside) else None
    return found


def constant_loss(labels: Sequence[Any], ignored: int = IGNORED) -> float | None:
    """Training loss of the best prediction that ignores the input; None if it is not known.

    labels  per item: a number (squared error), a class, or classes per word piece (cross-entropy)
    """
    pieces = [p for label in labels for p in (label if isinstance(label, Sequence) else [label])]
    nested = any(isinstance(label, Sequence) for label in labels)
    if all(isinstance(p, int) and not isinstance(p, bool) for p in pieces):
        counts = Counter(p for p in pieces if p != ignored)
        shares = [n / sum(counts.values()) for n in counts.values()]
        return -sum(share * math.log(share) for share in shares) if shares else None
    if nested or not pieces:
        return None
    return float(np.var(np.asarray(pieces, dtype=np.float64)))


def failure_sign(
    rows: Sequence[Mapping[str, Any]], *, warmup_steps: int, constant: float | None
) -> str | None:
    """In words, why this run is failing, or None while there is no good reason to say so.

    rows          one per evaluation so far: step, train_loss, grad_norm_* (means since the one
                  before)
    warmup_steps  windows that begin earlier do not count
    constant      loss of the best constant predictor, if known; else the first window's loss

    Both early signs of Mosbach et al. 2021 (section 4 and Figs 2, 4, 14) must hold in each of the
    last `PATIENCE` windows: the training loss has not left the level of a constant prediction, and
    the gradients of the lowest trained layer have vanished relative to the top's. Either alone is
    common in runs that recover.
    """
    since = [0, *(row["step"] for row in rows)]
    late = [row for row, start in zip(rows, since, strict=False) if start >= warmup_steps]
    level = constant if constant is not None else (rows[0]["train_loss"] if rows else math.nan)
    if len(late) < PATIENCE or not all(
        _is_flat(row, level) and _has_vanished(row) for row in late[-PATIENCE:]
    ):
        return None
    return "loss of a constant prediction, lower gradients vanished"


def _is_flat(row: Mapping[str, Any], level: float) -> bool:
    return bool(row["train_loss"] > FLAT * level)  # NaN, a window without steps, is not flat


def _has_vanished(row: Mapping[str, Any]) -> bool:
    """Of the trained layer groups, the lowest against the top."""
    norms = [value for name, value in row.items() if name.startswith(COLUMN) and value is not None]
    return len(norms) > 1 and norms[0] <= VANISHED * norms[-1]

"""Arms against one baseline, as scores by seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bluestab.stats.changes import Change
from bluestab.stats.changes import changes as of_pairs


def changes(
    own: Mapping[str, Mapping[Any, float]], baseline: Mapping[Any, float], **kwargs: Any
) -> dict[str, Change]:
    """`stats.changes` on the seeds that each arm shares with this baseline."""
    pairs = {
        arm: {s: (x, baseline[s]) for s, x in scores.items() if s in baseline}
        for arm, scores in own.items()
    }
    return of_pairs(pairs, **kwargs)

"""What is said of arms whose runs share seeds (`stats.design_of`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bluestab import stats
from bluestab.report.frames.folds import fold_of

if TYPE_CHECKING:
    import pandas as pd


def design_sentences(scored: pd.DataFrame) -> Iterator[str]:
    """One per arm whose runs are no independent repetitions: how many there are, and what follows.

    scored  runs with a score, at one step
    """
    for (task, model, arm), runs in scored.groupby(["task", "model", "arm"], sort=False):
        streams = list(runs["streams"])
        design = stats.design_of(streams)
        if design.independent or any(fold_of(one) is not None for one in streams):
            continue
        crossed = len(design.factors) > 1
        how = (
            "intervals and p are of the two-way layout (two-term variance)"
            if crossed
            else "intervals are over the blocks, and p flips the signs of whole blocks"
        )
        yield (
            f"{task} with {model}, {arm}: {len(streams)} runs share seeds ({design}), so there are "
            f"{design.n_independent} independent repetitions at least; {how}; the ratio of stds "
            "has no p"
        )

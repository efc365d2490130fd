"""What a comparison is over, and why a number of it is not there: no dash is left unexplained."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from bluestab import stats
from bluestab.report.frames.folds import fold_of, without_fold
from bluestab.report.tables import LEVEL, there

Row = MutableMapping[str, Any]

GAP_COLUMNS = ("pairs", "n_units", "no_p", "no_p_std", "no_ratio")
"""pairs: what a comparison is over, in words; n_units: independent repetitions in it; no_p,
no_p_std, no_ratio: why there is no p of the change or of the ratio of stds, no interval of that."""

OPEN_RATIO = 100.0
"""An interval that holds ratios of stds beyond this, or below its inverse, says nothing."""


def pairs_of(shared: Sequence[Any]) -> Row:
    """`pairs` and `n_units` of runs at shared seeds, given by their streams.

    `12`; `3 x 5 folds`, or `7 in 3 folds` if a seed is not in all of them; `25 (5 init x 5 order)`.
    """
    n = len(shared)
    folds = {fold_of(streams) for streams in shared}
    if n and None not in folds:
        seeds = {without_fold(streams) for streams in shared}
        whole = len(seeds) * len(folds) == n
        said = f"{len(seeds)} x {len(folds)} folds" if whole else f"{n} in {len(folds)} folds"
        return {"pairs": said, "n_units": len(folds)}
    design = stats.design_of(shared)
    return {"pairs": f"{n} ({design})" if str(design) else f"{n}", "n_units": design.n_independent}


def explain(row: Row, *, folded: bool, tied: bool, level: float = LEVEL) -> None:
    """Give a compared row its reasons, in place, and drop an interval of the ratio that says
    nothing.

    folded  the arms were cross-validated; tied: their runs share seeds
    """
    low, high = row["std_ratio_low"], row["std_ratio_high"]
    if there(low) and there(high) and (low < 1 / OPEN_RATIO or high > OPEN_RATIO):
        row["std_ratio_low"] = row["std_ratio_high"] = None
    fewest = stats.fewest_pairs(level)
    none_shared = "no seed is shared with the baseline" if not row["n_paired"] else None
    few = None
    if row["n_units"] < fewest:
        what = "independent repetitions" if tied else "shared seeds"
        few = f"fewer than {fewest} {what} cannot reach {level:g}"
    if not there(row["p"]):
        folds = "one fold, folds that do not differ, or sizes that are not known" * folded
        row["no_p"] = none_shared or folds or few or "differences have no spread"
    untested = (
        "over folds the ratio of stds is not tested"
        if folded
        else "where runs share seeds the ratio of stds is not tested"
        if tied
        else None
    )
    if not there(row["p_std"]):
        row["no_p_std"] = none_shared or untested or few or "too few seeds tell the stds apart"
    if not there(row["std_ratio_low"]):
        open_ratio = "so few seeds, or no spread, leave the ratio of stds open"
        row["no_ratio"] = none_shared or untested or open_ratio

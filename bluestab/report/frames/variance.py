"""Where the spread of scores comes from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluestab import stats
from bluestab.report.frames.folds import FOLD, fold_of
from bluestab.report.frames.runs import ATS, Row, scored
from bluestab.report.section import Json, Section

if TYPE_CHECKING:
    import pandas as pd


def components(runs: pd.DataFrame) -> Json:
    """Where the spread of scores comes from, per task and model, and per crossed cell.

    arm and seed   all arms on the seeds they share, one run per combination
    init and order   one cell whose head seeds were crossed with its order seeds
    """
    found = []
    for at in ATS:
        subjects: dict[tuple[str, str], dict[str, dict[Any, float]]] = defaultdict(dict)
        crossed: dict[str, list[Row]] = defaultdict(list)
        for run in scored(runs, at):
            cells = subjects[run["task"], run["model"]]
            cells.setdefault(run["cell"], {})[run["streams"]] = run["score"]
            crossed[run["cell"]].append(run)
        for (task, model), cells in subjects.items():
            said = {"at": at, "task": task, "model": model, "cell": None}
            folded = any(fold_of(streams) is not None for own in cells.values() for streams in own)
            found += _split(
                said, "fold and seed" if folded else "seed", "arm", _arms_by_seed(cells)
            )
        for cell, group in crossed.items():
            said = {"at": at, "task": group[0]["task"], "model": group[0]["model"], "cell": cell}
            found += _split(said, "head init", "data order", _init_by_order(group))
    return found


def _split(said: Row, rows: str, columns: str, scores: Sequence[Sequence[float]]) -> list[Row]:
    parts = stats.two_way(scores) if scores else None
    if parts is None or parts.share_init is None:
        return []
    return [
        {
            **said,
            "n_rows": len(scores),
            "n_columns": len(scores[0]),
            "shares": [
                [columns, parts.share_order],
                [rows, parts.share_init],
                ["rest", parts.share_residual],
            ],
        }
    ]


def _arms_by_seed(cells: Mapping[str, Mapping[Any, float]]) -> list[list[float]]:
    """(shared seeds, arms); empty if fewer than two of either."""
    shared = [s for s in next(iter(cells.values())) if all(s in own for own in cells.values())]
    if len(cells) < 2 or len(shared) < 2:
        return []
    return [[own[seed] for own in cells.values()] for seed in shared]


def _init_by_order(group: Sequence[Row]) -> list[list[float]]:
    """(init seeds, order seeds); empty unless every combination was run exactly once."""
    scores: dict[tuple[Any, Any], float] = {}
    for run in group:
        streams = dict(run["streams"])
        if FOLD in streams:
            return []
        scores[streams["init"], streams["order"]] = run["score"]
    inits, orders = ({place[i] for place in scores} for i in (0, 1))
    if (
        not len(group) == len(scores) == len(inits) * len(orders)
        or min(len(inits), len(orders)) < 2
    ):
        return []
    return [[scores[i, o] for o in sorted(orders)] for i in sorted(inits)]


VARIANCE = Section(
    "variance",
    "Where the spread comes from",
    "Components of variance (two-way, one run per combination). What a seed does to all arms alike "
    "is apart from what it does otherwise in every arm; pairing on seeds takes out the first.",
    data=lambda results: {"variance": components(results.runs)},
)

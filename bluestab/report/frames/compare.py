"""Two stores side by side: the same cells, or arms of one name whose configs differ.

A cell of A meets the same cell of B. What is left is paired by the name that the arm has in its own
store, if that is unique on both sides, and what differs between the two configs is said. Scores are
compared on shared seeds; two cells are never averaged together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.core.printable import counted
from bluestab.core.types import At
from bluestab.report.frames.arms import difference
from bluestab.report.frames.contrasts import CONTRAST_COLUMNS, ArmRuns, adjust, contrasts
from bluestab.report.frames.gaps import GAP_COLUMNS
from bluestab.report.frames.pairing import mismatch
from bluestab.report.frames.runs import Row, gather, named
from bluestab.store.store import Store

COLUMNS = (
    "task", "model", "arm", "at", "n_a", "n_b", "mean_a", "mean_b", "std_a", "std_b",
    "n_paired", *GAP_COLUMNS, "delta", "delta_low", "delta_high", "test_name", "p", "p_adjusted",
    "std_ratio", "std_ratio_low", "std_ratio_high", "p_std_name", "p_std", "p_std_adjusted",
    "n_same_run", "n_same_score", "differs", "not_paired",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """table: one row per pair, B against A, see `COLUMNS`; alone: sentences about the rest.

    n_same_run    runs both stores hold (same key): the same config on the same kind of data
    n_same_score  of these, those with equal scores to the last bit
    differs       what the configs differ in, empty for the same cell
    not_paired    why the two are not compared: other test items or another metric
    """

    table: pd.DataFrame
    alone: list[str]


def compare(a: Store, b: Store, at: At = "last") -> Comparison:
    """All finished runs of two stores."""
    sides: list[dict[str, Row]] = []
    configs: dict[str, Mapping[str, Any]] = {}
    for store in (a, b):
        rows, found, _ = gather(store, None)
        runs = named(rows, found.named())
        part = runs if runs.empty else runs[(runs["at"] == at) & (runs["status"] != "crashed")]
        sides.append(dict(_cells(part)))
        configs |= found.hashed
    rows, met = [], set()
    for left, right in _pairs(*sides):
        met |= {("A", left["cell"]), ("B", right["cell"])}
        rows.append(_row(left, right, difference(configs[left["cell"]], configs[right["cell"]])))
    rows.sort(key=lambda row: (row["task"], row["model"], row["arm"] != "none", row["arm"]))
    adjust(rows, "p", "p_std")
    alone = [
        f"only in {side}: {cell['task']} with {cell['model']}, {cell['arm']} "
        f"({counted(cell['n'], 'run')})"
        for side, cells in zip("AB", sides, strict=True)
        for cell in cells.values()
        if (side, cell["cell"]) not in met
    ]
    return Comparison(pd.DataFrame(rows, columns=list(COLUMNS)), alone)


def _cells(runs: pd.DataFrame) -> Iterator[tuple[str, Row]]:
    if runs.empty:
        return
    for cell, group in runs.groupby("cell", sort=False):
        first = group.iloc[0]
        yield (
            str(cell),
            {
                **{k: first[k] for k in ("cell", "task", "model", "arm", "at", "test_part")},
                "n": len(group),
                "scores": dict(zip(group["streams"], group["score"], strict=True)),
                "by_key": dict(zip(group["key"], group["score"], strict=True)),
            },
        )


def _pairs(a: Mapping[str, Row], b: Mapping[str, Row]) -> Iterator[tuple[Row, Row]]:
    for cell in a:
        if cell in b:
            yield a[cell], b[cell]
    left = _by_name(row for cell, row in a.items() if cell not in b)
    right = _by_name(row for cell, row in b.items() if cell not in a)
    for name in left:
        if len(left[name]) == len(right.get(name, ())) == 1:
            yield left[name][0], right[name][0]


def _by_name(rows: Iterator[Row]) -> Mapping[tuple[str, str, str], list[Row]]:
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["task"], row["model"], row["arm"]].append(row)
    return found


def _row(a: Row, b: Row, differs: str) -> Row:
    shared = [key for key in a["by_key"] if key in b["by_key"]]
    equal = Counter(a["by_key"][key] == b["by_key"][key] for key in shared)
    values = {side: list(row["scores"].values()) for side, row in (("a", a), ("b", b))}
    unlike = mismatch(b["test_part"], a["test_part"])
    found: Row = dict.fromkeys(CONTRAST_COLUMNS)
    if not unlike:
        found = contrasts({"B": (ArmRuns(b["scores"]), ArmRuns(a["scores"]))})["B"]
    return {
        **{k: a[k] for k in ("task", "model", "arm", "at")},
        **{f"n_{side}": len(found) for side, found in values.items()},
        **{f"mean_{side}": stats.mean(found) for side, found in values.items()},
        **{f"std_{side}": stats.std(found) for side, found in values.items()},
        **found,
        "not_paired": unlike or None,
        "n_same_run": len(shared),
        "n_same_score": equal[True],
        "differs": differs,
    }


def mention(row: Mapping[str, Any]) -> str:
    """What a person must know of a pair beside its numbers; empty if nothing."""
    if row["differs"]:
        return f"{row['task']} with {row['model']}, {row['arm']}: {row['differs']}"
    if row["n_same_run"] > row["n_same_score"]:
        return (
            f"{row['task']} with {row['model']}, {row['arm']}: "
            f"{row['n_same_run'] - row['n_same_score']} of {row['n_same_run']} runs that both hold "
            "have other scores: another machine, another version, or something is not as it should"
        )
    return ""

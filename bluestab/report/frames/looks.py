"""Seeds that were added after results had been seen: what the report makes of them, and says.

Known from the launches in the manifests of sweeps (`sweeps/launches.py`); a report writes nothing
into a store, and may be read as often as one likes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluestab.core.provenance import is_of_one_run
from bluestab.report.tables import LEVEL, there
from bluestab.stats.anytime import NAME, anytime_change, fewest_looked
from bluestab.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from bluestab.report.section import Results

Row = dict[str, Any]

TESTED = (
    "test_name", "p", "p_adjusted", "delta_low", "delta_high", "delta_all_low", "delta_all_high",
    "p_equivalent", "p_failed", "p_failed_adjusted", "p_std_name", "p_std", "p_std_adjusted",
)  # fmt: skip
"""Columns that hold for one look."""


def looked_cells(
    store: Store, manifest: Mapping[str, Any] | None, runs: pd.DataFrame
) -> frozenset[str]:
    """Cells that were given more seeds when they had results; of all sweeps if `manifest` is None,
    and of runs that no sweep asked for, which came one command at a time.

    runs  that the report is of
    """
    manifests = [*store.whole_manifests()] if manifest is None else [manifest]
    found = {
        cell
        for one in manifests
        for launch in one.get("launches", ())
        for cell in launch["added_to"]
    }
    if manifest is None and len(runs):
        asked = {run["key"] for one in manifests for run in one["runs"]}
        single = runs[~runs["key"].isin(asked) & runs["command"].map(is_of_one_run)]
        n_runs = runs.groupby("cell")["key"].nunique()
        found |= {run.get("cell") for one in manifests if "confirms" in one for run in one["runs"]}
        found |= {cell for cell in single["cell"] if n_runs[cell] > 1}
    return frozenset(found)


def look_again(
    row: Row, own: Sequence[float], reference: Sequence[float], n_arms: int, *, independent: bool
) -> None:
    """Put a test that holds at any look (`stats.anytime`) in the place of one for a single look, in
    place; where there is none, as over folds and crossed seeds, there is no p and no interval.

    own, reference  scores at the shared seeds; independent: these are independent repetitions
    """
    row |= dict.fromkeys(TESTED)
    row["looked"] = True
    row["no_p_std"] = "seeds were added after results could be seen"
    if not independent:
        row["no_p"] = f"{row['no_p_std']}, and no test of such runs allows for that"
        return
    alone, family = (anytime_change(own, reference, LEVEL, m) for m in (1, n_arms))
    if alone.p is None:
        fewest = fewest_looked(LEVEL)
        row["no_p"] = f"{row['no_p_std']}, and fewer than {fewest} cannot reach {LEVEL:g} then"
        return
    row["no_p"] = None
    row |= {
        "test_name": NAME, "p": alone.p, "p_adjusted": min(1.0, n_arms * alone.p),
        "delta_low": alone.low, "delta_high": alone.high,
        "delta_all_low": family.low, "delta_all_high": family.high,
    }  # fmt: skip


def looking_sentences(summary: pd.DataFrame, left: int, planned: int, at: str) -> Iterator[str]:
    """What stands before everything else: which p are not of one look.

    left  runs of the sweep that have no result yet, of `planned`
    """
    if summary.empty:
        return
    rows = summary[(summary["at"] == at) & summary["looked"].notna()].to_dict("records")
    for (task, model), part in _subjects(rows).items():
        arms = ", ".join(row["arm"] for row in part)
        tested = [row for row in part if there(row["p"])]
        how = (
            "p and intervals are of a test that holds at any look (signs; Ville's inequality)"
            if len(tested) == len(part)
            else "no p is printed (-)"
            if not tested
            else "p and intervals are of a test that holds at any look, or are left out (-)"
        )
        yield (
            f"{task} with {model}: seeds were added after results could be seen ({arms}); {how}; "
            f"a report made before had its own {100 * LEVEL:g} %, and both together err in "
            f"{200 * LEVEL:g} % at most (Boole's inequality); all seeds of a question in one "
            "command (sweep.seeds) would make the plain test hold"
        )
    compared = summary[(summary["at"] == at) & summary["p"].notna()]
    if left and len(compared):
        yield (
            f"{left} of {planned} declared runs are missing: p and intervals hold for one look at "
            "the end, not for each on the way"
        )


def _subjects(rows: Sequence[Row]) -> Mapping[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["task"], row["model"]), []).append(row)
    return found


def looking_of(results: Results) -> list[str]:
    """The sentences of a report."""
    planned = len({*results.planned})
    return list(looking_sentences(results.summary, results.missing, planned, results.at))

"""Merged networks beside what they are made of: their members, the plain mean, and training on the
tasks one after the other or all at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.core.errors import StoreError
from bluestab.models.init_from import START
from bluestab.report.frames.runs import Row, scored
from bluestab.report.frames.sequences import joint_scores, trained_jointly
from bluestab.report.section import Block, Grid, Results, Section
from bluestab.report.tables import latex_grid, there
from bluestab.store.store import Store
from bluestab.tasks.metric import DIRECTION, metric_of_row

SOUP = "soup"
MEMBERS, AVERAGE = "members, each alone", "plain average"
INTERMEDIATE, JOINT = "intermediate training", "joint training"
COLUMNS = (
    "task", "model", "metric", DIRECTION, "with", "network", "n", "mean", "low", "high",
    "n_paired", "delta", "delta_low", "delta_high",
)  # fmt: skip
HEADINGS = ("network", "n", "mean", "95 % interval", "pairs", "change from its members")

Members = tuple[tuple[str, ...], tuple[str, ...]]
"""Keys of the runs of this task, and of those of others, both sorted."""


@dataclass
class MergesOfTask:
    """All merges of one task with the same other tasks.

    alone     member -> its test score
    merges    what a network is called -> its members -> test score
    others    members of the other tasks
    """

    like: Row
    alone: dict[str, float] = field(default_factory=dict)
    merges: dict[str, dict[Members, float]] = field(default_factory=lambda: defaultdict(dict))
    others: set[str] = field(default_factory=set)


def merges_frame(results: Results, store: Store) -> pd.DataFrame:
    """One row per task, model, set of merged tasks and network.

    with         the tasks that were merged
    network      the members, each alone; a kind of merge with its knobs; the plain average of the
                 same members, whether or not it was asked for; intermediate training: runs on this
                 task that went on from a member of another; joint training: runs on all the tasks
                 at once, as sequences have them for reference
    n, mean, low, high    networks, their mean test score and its interval
    n_paired, delta, ...  against the mean of the members of this task in the same network, or, of
                 intermediate and joint training, against the member of the same seed
    """
    runs = scored(results.runs, results.at)
    found: dict[tuple[str, str, str], MergesOfTask] = {}
    for row in runs:
        if SOUP not in str(row["technique"]).split("+"):
            continue
        try:
            result = store.read(row["key"]).result
        except StoreError:
            continue
        _note(found, row, result["effects"][SOUP], dict(result["config"]["technique"])[SOUP])
    table = [
        row for (_, _, tasks), merged in found.items() for row in _rows_of(merged, tasks, runs)
    ]
    return pd.DataFrame(table, columns=list(COLUMNS))


def _note(
    found: dict[tuple[str, str, str], MergesOfTask],
    row: Row,
    effect: Mapping[str, Any],
    knobs: Mapping[str, Any],
) -> None:
    """Add one merge to those of its task."""
    tasks = effect.get("tasks") or {row["task"]: effect["members"]}
    names = " + ".join(sorted(tasks))
    merged = found.setdefault((row["task"], row["model"], names), MergesOfTask(row))
    others = {key for task, keys in tasks.items() if task != row["task"] for key in keys}
    members = tuple(sorted(effect["members"])), tuple(sorted(others))
    merged.alone |= dict(zip(effect["members"], effect["member_test"], strict=True))
    merged.others |= others
    said = [f"{k}={v:g}" for k, v in knobs.items() if isinstance(v, int | float)]
    kind = str(knobs["kind"])
    name = AVERAGE if kind == "uniform" else " ".join((kind, *said))
    merged.merges[name][members] = row["score"]
    if "average_test" in effect:
        merged.merges[AVERAGE].setdefault(members, effect["average_test"])


def _rows_of(merged: MergesOfTask, tasks: str, runs: Sequence[Row]) -> list[Row]:
    like = merged.like
    rows = {  # members of a merge have heads of their own
        row["key"]: row for row in runs if row["model"] == like["model"] and not row["shared_head"]
    }
    own = [rows[key] for key in merged.alone if key in rows]
    by_seed = {row["seed"]: row["score"] for row in own}
    techniques = {row["technique"] for row in own}
    later = [
        (row["score"], by_seed.get(row["seed"]))
        for row in rows.values()
        if row["task"] == like["task"]
        and row["technique"] in techniques
        # not where its weights are those of the model, as in joint training
        and not merged.others.isdisjoint(_passed(row, rows))
    ]
    joint = [
        (scores[like["task"]], by_seed.get(row["seed"]))
        for row, stages in trained_jointly(rows)
        if {*(scores := joint_scores(row, stages))} == {*tasks.split(" + ")}
    ]
    names = sorted(merged.merges, key=lambda name: (name != AVERAGE, name))
    networks: dict[str, list[tuple[float, float | None]]] = {
        MEMBERS: [(score, None) for score in merged.alone.values()]
    }
    for name in names:
        networks[name] = [
            (score, stats.mean([merged.alone[key] for key in members]))
            for (members, _), score in merged.merges[name].items()
        ]
    networks |= {name: pairs for name, pairs in ((INTERMEDIATE, later), (JOINT, joint)) if pairs}
    first = {name: like[name] for name in ("task", "model", "metric", DIRECTION)}
    return [{**first, "with": tasks, "network": n, **_numbers(p)} for n, p in networks.items()]


def _passed(row: Row, rows: Mapping[str, Row]) -> Iterator[str]:
    """Keys of the runs whose weights this one went on from, the last first."""
    while True:
        link, said = row.get("predecessor"), row.get("init_from")
        if isinstance(link, Mapping):
            if link["at"] == START:
                return
            key = str(link["key"])
        elif isinstance(said, str):
            key = said.rpartition(":")[0]
        else:
            return
        yield key
        if key not in rows:
            return
        row = rows[key]


def _numbers(pairs: Sequence[tuple[float, float | None]]) -> Row:
    scores = [score for score, _ in pairs]
    deltas = [score - other for score, other in pairs if other is not None]
    ends, apart = stats.default_interval(scores), stats.default_interval(deltas)
    return {
        "n": len(scores),
        "mean": stats.mean(scores),
        "low": ends and ends.low,
        "high": ends and ends.high,
        "n_paired": len(deltas),
        "delta": stats.mean(deltas) if deltas else None,
        "delta_low": apart and apart.low,
        "delta_high": apart and apart.high,
    }


def _between(row: Mapping[str, Any], low: str, high: str, sign: str = "") -> str:
    return f"[{row[low]:{sign}.4f}, {row[high]:{sign}.4f}]" if there(row[low]) else ""


def _cells(row: Mapping[str, Any]) -> list[str]:
    delta = ""
    if there(row["delta"]):
        ends = _between(row, "delta_low", "delta_high", "+")
        delta = f"{row['delta']:+.4f} {ends}".rstrip()
    pairs = str(row["n_paired"]) if row["n_paired"] else ""
    mean, ends = f"{row['mean']:.4f}", _between(row, "low", "high")
    return [str(row["network"]), str(row["n"]), mean, ends, pairs, delta]


def _tables(results: Results) -> dict[str, list[list[str]]]:
    """Title -> rows."""
    found: dict[str, list[list[str]]] = {}
    for row in results.frame("merges").to_dict("records"):
        title = f"{row['task']} with {row['model']}, {metric_of_row(row).words}"
        title += "" if row["with"] == row["task"] else f": merged from {row['with']}"
        found.setdefault(title, []).append(_cells(row))
    return found


NOTE = (
    "Merges that share members are not independent: their intervals are then too narrow. In joint "
    "training (sequence.references=[joint]) the heads of all tasks but one are frozen."
)


def _printed(results: Results) -> list[Block]:
    blocks: list[Block] = []
    for title, rows in _tables(results).items():
        blocks += [f"\nmerged networks, {title}", Grid(HEADINGS, rows)]
    return [*blocks, NOTE] if blocks else []


def _latex(results: Results) -> str | None:
    found = [
        latex_grid(f"Merged networks, {title}.", f"merges-{title}", HEADINGS, rows, n_words=1)
        for title, rows in _tables(results).items()
    ]
    return "\n".join(found) if found else None


MERGES = Section(
    "merges",
    "Merged networks beside their members",
    "Test scores of networks that `bluestab soup` merged, of the runs in them, of their mean, "
    f"of runs that went on from a member of another task, and of joint training. {NOTE}",
    frame=merges_frame,
    printed=_printed,
    latex=_latex,
)

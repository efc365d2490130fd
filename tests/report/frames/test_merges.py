"""Merged networks beside their members, by hand, and in every form of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.keys import cell_of, key_of
from bluestab.core.types import RunRecord
from bluestab.report.frames.merges import AVERAGE, INTERMEDIATE, JOINT, MEMBERS, MERGES
from bluestab.report.frames.results import read_results
from bluestab.report.page_data import page_data
from bluestab.report.write import write_report
from tests.report.frames.test_sequences import EWC, joint_of, linked
from tests.report.test_report import record, stored
from tests.support.stored_tables import table_cells, unpacked

ALONE = {"a": [0.80, 0.82, 0.84], "b": [0.60, 0.62, 0.66]}


def merged(own: RunRecord, other: RunRecord, score: float, average: float | None) -> RunRecord:
    """The record of a merge of two tasks, as `bluestab soup` leaves it for the first."""
    config = {
        **own.result["config"],
        "technique": [["soup", {"kind": "ties", "density": 0.2, "at": "last", "with": "b"}]],
        "members": [own.key, other.key],
    }
    if average is None:
        config["technique"] = [["soup", {"kind": "uniform", "at": "last", "with": "b"}]]
    names = [one.measured["names"]["task"] for one in (own, other)]
    effect: dict[str, Any] = {
        "members": [own.key],
        "left_out": [],
        "member_test": [own.result["score"]["last"]],
        "tasks": {names[0]: [own.key], names[1]: [other.key]},
    }
    if average is not None:
        effect["average_test"] = average
    result = {
        **own.result,
        "config": config,
        "key": key_of(config),
        "cell": cell_of(config),
        "effects": {"soup": effect},
        "score": {"last": score, "best": score},
    }
    said = {**own.measured["names"], "technique": ["soup"]}
    return replace(own, result=result, measured={**own.measured, "names": said})


def gone_on(one: RunRecord, source: RunRecord) -> RunRecord:
    """The same as a run that started from the weights of another."""
    config = {**one.result["config"], "init_from": f"sha256:{source.key}"}
    result = {**one.result, "config": config, "key": key_of(config), "cell": cell_of(config)}
    start = {"run": source.key, "at": "last", "task": source.measured["names"]["task"]}
    names = {**one.measured["names"], "init_from": start}
    return replace(one, result=result, measured={**one.measured, "names": names})


def records() -> list[RunRecord]:
    alone = {
        task: [record(score, seed=seed, task=task) for seed, score in enumerate(scores)]
        for task, scores in ALONE.items()
    }
    ties = [
        merged(own, other, own.result["score"]["last"] - 0.1 - 0.01 * seed, average=0.5)
        for seed, (own, other) in enumerate(zip(alone["a"], alone["b"], strict=True))
    ]
    plain = merged(alone["a"][0], alone["b"][0], 0.5, average=None)
    later = [gone_on(record(0.9, seed=s, task="a"), alone["b"][s]) for s in range(2)]
    unrelated = gone_on(record(0.1, seed=2, task="a"), alone["a"][2])
    # the third seed as the second stage of a sequence; with ewc it is another thing
    stage, held = (
        linked(record(0.93, technique, seed=2, task="a"), alone["b"][2], [(alone["b"][2], 0.4)])
        for technique in ((), EWC)
    )
    joint = [joint_of(alone["b"][s], "ba", (0.7, 0.88)) for s in range(3)]
    return [*alone["a"], *alone["b"], *ties, plain, *later, unrelated, stage, held, *joint]


@pytest.fixture
def rows(tmp_path: Path) -> Mapping[str, Mapping[str, Any]]:
    store = stored(tmp_path / "runs", records())
    frame = read_results(store, store.manifest(None)).frame("merges")
    assert set(frame["task"]) == {"a"}
    assert set(frame["with"]) == {"a + b"}
    return {row["network"]: row for row in frame.to_dict("records")}


def test_numbers_by_hand(rows: Mapping[str, Mapping[str, Any]]) -> None:
    assert list(rows) == [MEMBERS, AVERAGE, "ties density=0.2", INTERMEDIATE, JOINT]
    alone, average, ties, later, joint = rows.values()
    assert alone["n"] == 3
    assert alone["mean"] == pytest.approx(0.82)
    assert average["n"] == 3, "the one that was asked for counts once"
    assert average["mean"] == pytest.approx(0.5)
    assert ties["delta"] == pytest.approx(-0.11)
    # t(2) at 97.5 % is 4.30265, the standard error of -0.10, -0.11, -0.12 is 0.01 / sqrt(3)
    assert ties["delta_low"] == pytest.approx(-0.11 - 4.30265 * 0.01 / 3**0.5, abs=1e-6)
    assert later["n"] == 3, "a run that went on from the same task is none"
    assert later["mean"] == pytest.approx((0.9 + 0.9 + 0.93) / 3)
    assert later["delta"] == pytest.approx((0.1 + 0.08 + 0.09) / 3)
    assert later["n_paired"] == 3
    assert joint["n"] == joint["n_paired"] == 3
    assert joint["delta"] == pytest.approx(0.88 - 0.82)


def test_without_merges_there_is_no_section(tmp_path: Path) -> None:
    store = stored(tmp_path / "runs", records()[:6])
    results = read_results(store, store.manifest(None))
    assert results.frame("merges").empty
    assert list(MERGES.printed(results)) == []
    assert MERGES.latex(results) is None


def test_terminal_page_and_files(tmp_path: Path) -> None:
    store = stored(tmp_path / "runs", records())
    results = read_results(store, store.manifest(None))
    title, grid, note = MERGES.printed(results)
    assert title == "\nmerged networks, a with small, Pearson: merged from a + b"
    assert [row[0] for row in grid.rows][:2] == [MEMBERS, AVERAGE]
    assert "joint training" in note
    write_report(results, tmp_path / "out", store=store, manifest=store.manifest(None))
    assert (tmp_path / "out" / "merges.csv").read_text().count("\n") == 6
    assert "Merged networks" in (tmp_path / "out" / "tables" / "merges.tex").read_text()
    data = page_data(results, store, store.manifest(None))
    assert len(data["merges"]["rows"]) == 5


def test_the_docs_show_these_merges(tmp_path: Path) -> None:
    """Every number of the page's tables, from the records of the runs and merges behind it."""
    root = Path(__file__).parents[3]
    store = unpacked(root / "tests/assets/merges/merging_small.tar.gz", tmp_path)
    frame = read_results(store, None).frame("merges")
    page = (root / "docs/results/several-tasks.md").read_text(encoding="utf-8")
    for task, rows in frame.groupby("task"):
        lines = table_cells(page, f"merging_small {task}")
        assert lines == [_line(row) for row in rows.to_dict("records")], task


def _line(row: Mapping[str, Any]) -> list[str]:
    change = ""
    if row["n_paired"]:
        change = f"{row['delta']:+.3f} [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"
    return [row["network"], str(row["n"]), f"{row['mean']:.3f}", change]

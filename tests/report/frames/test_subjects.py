"""Own tasks in a report: one name for a file that was renamed, two for two ways to draw parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bluestab.report.frames.results import read_results
from bluestab.report.frames.subjects import grouping_of, name_tasks
from bluestab.report.words.caveats import flags
from bluestab.store.store import Store
from bluestab.testing.simulated_runs import execute
from bluestab.training.check import Run


def config(data: str = "aa", **task: Any) -> dict[str, Any]:
    return {"task": {"kind": "OwnClassification", **task}, "data": {"train": data}}


def row(cell: str, task: str, finished: str = "1") -> dict[str, Any]:
    return {"cell": cell, "task": task, "finished": finished}


def test_a_renamed_file_is_the_same_task() -> None:
    rows = [row("a", "mine", "1"), row("b", "renamed", "3"), row("a", "copy", "2")]
    name_tasks(rows, {"a": config(), "b": config()})
    assert [r["task"] for r in rows] == ["renamed"] * 3


def test_other_items_and_yamls_keep_their_names() -> None:
    rows = [row("a", "mine"), row("b", "yours"), row("c", "gad"), row("d", "gad2")]
    name_tasks(
        rows,
        {"a": config(), "b": config("bb"), "c": config(name="gad"), "d": config(name="gad2")},
    )
    assert [r["task"] for r in rows] == ["mine", "yours", "gad", "gad2"]


def test_two_ways_to_draw_parts_are_two_tasks() -> None:
    rows = [row("a", "mine"), row("b", "mine")]
    name_tasks(rows, {"a": config(), "b": config(grouping="shared")})
    assert [r["task"] for r in rows] == ["mine (grouping=text)", "mine (grouping=shared)"]


def test_parts_of_files_have_no_grouping() -> None:
    whole = {"train": "a", "validation": "b", "test": "c"}
    assert grouping_of({"task": {}, "data": whole}) is None
    assert grouping_of({"task": {"folds": 4}, "data": whole}) == "text"
    assert grouping_of({"task": {"grouping": "shared"}, "data": {"train": "a"}}) == "shared"


def test_a_report_never_joins_two_groupings(make_run: Callable[..., Run], tmp_path: Path) -> None:
    lines = [f"some words number {i},{'yes' if i % 2 else 'no'}\n" for i in range(40)]
    for name in ("mine.csv", "renamed.csv"):
        (tmp_path / name).write_text("text,label\n" + "".join(lines))
    store = Store(tmp_path / "runs")
    store.make_writable()

    def executed(*overrides: str, file: str = "mine.csv") -> None:
        for seed in range(2):
            run = make_run(
                "task=classification", "model=tiny", f"task.train={tmp_path / file}",
                f"seed={seed}", *overrides,
            )  # fmt: skip
            execute(run, store, lambda *_: None)

    executed()
    executed("technique=llrd", file="renamed.csv")
    runs = read_results(store, None).runs
    assert len(set(runs["task"])) == 1, "one task, whatever its file is called"
    executed("task.grouping=text")
    found = read_results(store, None)
    assert len(set(found.runs["task"])) == 2
    assert found.summary.groupby("task")["n"].max().max() == 2, "no cell has runs of both"
    assert any("parts were drawn by two rules" in said for said in flags(found.runs))

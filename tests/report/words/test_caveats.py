"""What differs between the runs of one table is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.types import RunRecord
from bluestab.report.frames.summary import summary_frame
from bluestab.report.words.caveats import flags
from tests.report.test_report import record, runs_frame, stored


def run(seed: int, **changed: Any) -> RunRecord:
    """A run; `changed` goes where records hold it."""
    made = record(0.5, seed=seed, recipe_version=changed.pop("recipe_version", 1))
    made.measured["versions"] = {"bluestab": "0.1.0", "torch": "2.13.0"}
    for name in ("censored", "micro_batch", "status"):
        if name in changed:
            made.result[name] = changed.pop(name)
    made.measured["versions"] |= {k: v for k, v in changed.items() if k in ("bluestab", "torch")}
    made.measured.update({k: v for k, v in changed.items() if k in ("commit", "dirty")})
    return made


def said(*records: RunRecord) -> list[str]:
    return flags(runs_frame(records))


def test_nothing_is_said_of_runs_that_are_alike() -> None:
    assert said(run(0), run(1), run(2)) == []
    assert said(run(0, micro_batch=4), run(1, micro_batch=4)) == []
    assert said(run(0, commit=None, dirty=None), run(1, commit=None, dirty=None)) == []
    assert said() == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"recipe_version": 2}, "recipe versions differ: 1 (2 runs), 2 (1 run); training"),
        ({"torch": "2.14.0"}, "torch versions differ: 2.13.0 (2 runs), 2.14.0 (1 run); the last"),
        ({"bluestab": "0.2.0"}, "bluestab versions differ: 0.1.0 (2 runs), 0.2.0 (1 run); read"),
        ({"commit": "0123456789ab"}, "commits differ: abc (2 runs), 01234567 (1 run); their code"),
        ({"commit": None}, "commits differ: abc (2 runs), unknown (1 run); their code may"),
        ({"micro_batch": 8}, "micro-batches differ: the whole batch (2 runs), 8 (1 run); dropout"),
        ({"dirty": True}, "1 of 3 runs come from a checkout with uncommitted changes: no commit"),
        ({"censored": {"step": 5, "sign": "x"}}, "1 of 3 runs were stopped early (censored) and"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_differs_is_said(changed: dict[str, Any], sentence: str) -> None:
    (found,) = said(run(0), run(1), run(2, **changed))
    assert found.startswith(sentence), found


def test_a_technique_that_did_nothing_is_named() -> None:
    """Layer-wise decay where all blocks are frozen."""
    records = [record(0.5, [("freeze", {}), ("llrd", {})], seed) for seed in range(3)]
    for one in records:
        one.result["effects"] = {"freeze": {"frozen_tensors": 101}, "llrd": {}}
    (found,) = said(*records)
    assert found == "biosses with small, freeze+llrd: technique llrd did nothing in 3 runs"


def test_arms_of_two_engines_are_named() -> None:
    packed = record(0.5, [("llrd", {})], 0)
    packed.result["config"].setdefault("trainer", {})["engine"] = "packed"
    (sentence,) = [s for s in said(run(0), run(1), packed) if "engines" in s]
    assert (
        "arms of several engines, which are not compared with each other (lightning: " in sentence
    )
    assert "packed: llrd" in sentence


def test_of_crashed_runs_nothing_is_said() -> None:
    crash = record(None, seed=2, status="crashed", recipe_version=9)
    crash.measured["dirty"] = True
    records = [run(0), run(1)]
    assert said(*records, crash) == []


def test_runs_that_were_stopped_early_are_counted() -> None:
    stopped = run(2, censored={"step": 5, "sign": "x"})
    table = summary_frame(runs_frame([run(0), run(1), stopped]))
    assert set(table["n_censored"]) == {1}
    assert set(table["n"]) == {3}, "they are scored as they stand"


def test_it_is_said_under_the_table(cli: Callable[..., Any]) -> None:
    stored(Path("runs"), [run(0), run(1, dirty=True, micro_batch=4)])
    out = cli("report").out
    assert "mind: micro-batches differ: " in out
    assert "mind: 1 of 2 runs come from a checkout" in out
    runs = Path("report/question/runs.csv").read_text().splitlines()
    assert {"censored", "micro_batch", "recipe_version", "torch"} <= set(runs[0].split(","))

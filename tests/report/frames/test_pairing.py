"""Arms are paired only where they were scored by one metric on the same test items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bluestab.core.keys import cell_of, key_of
from bluestab.core.types import RunRecord
from bluestab.report.frames.pairing import (
    Pairing,
    items_digest,
    mismatch,
    pairing_sentences,
    validated_differently,
)
from bluestab.report.frames.pairing import test_part as part_of
from bluestab.report.frames.results import read_results
from bluestab.report.tables import change_cells
from bluestab.store.store import Store
from bluestab.tasks.scoring import pearson
from tests.report.frames.test_instability import put
from tests.report.test_report import LLRD, record, row, runs_frame, summary

TRUTH = np.linspace(0.0, 4.0, 20)


def on_part(size: int | None, *arm: Any, score: float = 0.5, **told: Any) -> RunRecord:
    """A run scored on the first `size` test items, or on all of them."""
    made = record(score, *arm, best=score, **told)
    config = made.result["config"]
    config["task"]["test_size"] = size
    config["data"] = {name: name[0] * 64 for name in ("train", "validation", "test")}
    result = {**made.result, "key": key_of(config), "cell": cell_of(config)}
    return RunRecord(made.schema, result, made.measured)


def with_items(root: Path, size: int | None, *arm: Any, shift: float = 0.0, **told: Any) -> None:
    truth = TRUTH[:size]
    noise = np.random.default_rng([told["seed"], len(arm)]).normal(size=len(truth))
    values = truth + noise
    one = on_part(size, *arm, score=float(pearson(values, truth) or 0.0), **told)
    put(
        root, one, [(float(p), float(t + shift), [0.0]) for p, t in zip(values, truth, strict=True)]
    )


def arms(root: Path, baseline: str = "none") -> Mapping[str, Mapping[str, Any]]:
    table = read_results(Store(root), None, baseline).summary
    return {arm: row(table, arm) for arm in set(table["arm"])}


def config(task: Mapping[str, Any], data: Mapping[str, str]) -> Mapping[str, Any]:
    return {"metric": "pearson", "config": {"task": dict(task), "data": dict(data)}}


FILES = {"train": "a", "validation": "b", "test": "c"}


@pytest.mark.parametrize(
    ("task", "data", "same"),
    [
        ({}, FILES | {"train": "x", "validation": "y"}, True),
        ({"train_size": 10, "validation_size": 5}, FILES, True),
        ({"split_seed": 3, "grouping": "text"}, FILES, True),
        ({}, FILES | {"test": "x"}, False),
        ({"test_size": 10}, FILES, False),
        ({"label": "other"}, FILES, False),
        ({"positive": ["yes"]}, FILES, False),
        ({"folds": 5, "fold": 0}, FILES, False),
    ],
)
def test_what_decides_the_test_items(
    task: Mapping[str, Any], data: Mapping[str, str], same: bool
) -> None:
    found = mismatch(part_of(config({}, FILES)), part_of(config(task, data)))
    assert (found == "") is same


def test_drawn_parts_and_folds() -> None:
    drawn = config({}, {"train": "a"})
    for task in ({"split_seed": 1}, {"grouping": "shared"}, {"validation_size": 3}):
        assert mismatch(part_of(drawn), part_of(config(task, {"train": "a"})))
    assert not mismatch(part_of(drawn), part_of(config({"train_size": 3}, {"train": "a"})))
    folds = [config({"folds": 5, "fold": fold}, FILES) for fold in (0, 1)]
    assert not mismatch(*map(part_of, folds)), "folds are paired like seeds"
    assert mismatch(part_of(folds[0]), part_of(config({"folds": 3, "fold": 0}, FILES)))
    other = {**config({}, FILES), "metric": "rmse"}
    assert "rmse" in mismatch(part_of(config({}, FILES)), part_of(other))
    assert mismatch(None, part_of(drawn)) == "", "of nothing known nothing is said"


def test_items_are_known_by_id_and_target_in_any_order() -> None:
    def table(pairs: Sequence[tuple[str, Any]]) -> pa.Table:
        return pa.table({"id": [p[0] for p in pairs], "target": [p[1] for p in pairs]})

    items = [("a", 1.0), ("b", 2.0)]
    assert items_digest(table(items)) == items_digest(table(items[::-1]))
    assert items_digest(table(items)) != items_digest(table([("a", 2.0), ("b", 1.0)]))
    assert items_digest(table(items)) != items_digest(table([("a", 1.0), ("c", 2.0)]))
    pairing = Pairing({}, {"x": "1", "y": "2", "z": "1"})
    assert pairing.mismatch("x", "y")
    assert not pairing.mismatch("x", "z")
    assert not pairing.mismatch("x", "unknown")


def test_a_baseline_of_other_items_is_none() -> None:
    records = [
        *(on_part(None, seed=seed) for seed in range(8)),
        *(on_part(10, LLRD, seed=seed, score=0.9) for seed in range(8)),
    ]
    found = row(summary(records), "llrd, test_size=10")
    assert found["delta"] is found["baseline"] is found["p"] is None
    assert found["not_paired"] == "test_size: 10 against null"
    assert change_cells(found) == ["-"] * len(change_cells(found))


def test_the_baseline_of_the_same_items_is_taken() -> None:
    records = [
        on_part(size, *arm, seed=seed, score=score)
        for seed in range(8)
        for size, arm, score in (
            (None, (), 0.5), (None, (LLRD,), 0.6), (10, (), 0.7), (10, (LLRD,), 0.9),
        )
    ]  # fmt: skip
    table = summary(records)
    arms_of = {one["arm"]: one for one in table[table["at"] == "last"].to_dict("records")}
    changes = {arm: (one["baseline"], one["delta"]) for arm, one in arms_of.items()}
    with_llrd = {arm: found for arm, found in changes.items() if arm.startswith("llrd")}
    for arm, (baseline, delta) in with_llrd.items():
        assert baseline == arm.replace("llrd", "none")
        assert delta == pytest.approx(0.2 if "10" in arm else 0.1)


@pytest.mark.parametrize("baseline", ["none", "none, test_size=10", "none, test_size=15"])
def test_stored_predictions_of_three_sizes(
    baseline: str, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    """Whatever is the baseline: no traceback, a dash, and the reason on screen and in the file."""
    for seed in range(6):
        for size in (10, 15, None):
            with_items(tmp_path / "runs", size, seed=seed)
            with_items(tmp_path / "runs", size, LLRD, seed=seed)
    done = cli("report", str(tmp_path / "runs"), "--all", "--baseline", baseline, "--out", "out")
    assert done.code == 0
    found = arms(tmp_path / "runs", baseline)
    for arm, one in found.items():
        if one["not_paired"] is not None:
            assert one["delta"] is one["delta_items_low"] is None
            assert f"{arm}: not compared" in done.out
            assert f"{arm}: not compared" in Path("out/summary.md").read_text()
        elif arm.startswith("llrd"):
            assert one["baseline"] == arm.replace("llrd", "none")
            assert one["delta_items_low"] is not None
    apart_from = sum(one["not_paired"] is not None for one in found.values())
    assert apart_from == (0 if baseline == "none" else 4)
    assert "**" not in Path("out/summary.md").read_text() or apart_from == 0


def test_configs_alike_and_items_unlike(tmp_path: Path) -> None:
    """A file that was read in another way: the ids are the same, the targets are not."""
    for seed in range(6):
        with_items(tmp_path, None, seed=seed)
        with_items(tmp_path, None, LLRD, shift=1.0, seed=seed)
    found = arms(tmp_path)["llrd"]
    assert found["delta"] is None
    assert "ids or targets" in found["not_paired"]


def test_what_is_said() -> None:
    records = [on_part(size, *arm, seed=0) for size, arm in ((None, ()), (10, (LLRD,)))]
    runs = runs_frame(records)
    first, second = pairing_sentences(summary(records), runs, "last")
    assert "llrd, test_size=10: not compared (-)" in first
    assert "none is recommended" in second
    assert validated_differently(runs)
    assert list(pairing_sentences(summary(records[:1]), runs[:1], "last")) == []

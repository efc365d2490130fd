"""Runs stored with the yaml's failure bound although it is not theirs: judged by their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bluestab.core.types import RunRecord
from bluestab.report.frames.results import read_results
from bluestab.report.words.caveats import flags
from bluestab.store.store import Store
from tests.report.test_report import record

N = 10
GOLD = ["yes"] * 6 + ["no"] * 3 + ["maybe"]


def pubmedqa(score: float, seed: int, applied: float = 0.552, **task: Any) -> RunRecord:
    """A run as versions stored it that knew the yaml's bound alone."""
    made = record(score, best=score, seed=seed, task="pubmedqa", failed_below=applied)
    config = made.result["config"]
    config["task"] |= {
        "kind": "QuestionAnswering", "metric": "accuracy", "test_size": N, "failed_below": 0.552,
        "label_names": ["yes", "no", "maybe"], **task,
    }  # fmt: skip
    score_of = {"accuracy": score, "pearson": score}
    metrics = {at: {"test": score_of, "validation": score_of} for at in ("last", "best")}
    degenerate = dict.fromkeys(("last", "best"), score <= applied)
    result = {**made.result, "metric": config["task"]["metric"], "metrics": metrics}
    result |= {"degenerate": degenerate, "failed_below": applied}
    result |= {"score": dict.fromkeys(("last", "best"), score)}
    return RunRecord(made.schema, result, made.measured)


def put(store: Store, one: RunRecord, predictions: bool = True) -> None:
    with store.building(one.key) as work:
        if predictions:
            rows = [
                {"at": at, "id": str(i), "prediction": "yes", "target": gold, "logits": [0.0]}
                for at in ("last", "best")
                for i, gold in enumerate(GOLD)
            ]
            pq.write_table(pa.Table.from_pylist(rows), work / "predictions.parquet")
        store.finish(work, one)


def failed(root: Path) -> Mapping[int, bool]:
    runs = read_results(Store(root), None).runs
    part = runs[runs["at"] == "last"]
    return dict(zip(part["seed"], part["failed"], strict=True))


def test_all_answers_yes_has_failed(tmp_path: Path) -> None:
    """6 of these 10 are yes: 0.6 is above the bound of all 500 items, and no better than that."""
    store = Store(tmp_path)
    before = {}
    for seed, score in enumerate((0.6, 0.7, 0.5)):
        one = pubmedqa(score, seed)
        put(store, one)
        before[one.key] = (store.folder(one.key) / "record.json").read_bytes()
    assert failed(tmp_path) == {0: True, 1: False, 2: True}
    runs = read_results(store, None).runs
    (said,) = [s for s in flags(runs) if "judged again" in s]
    assert "3 runs are judged again: their failure bound (0.552)" in said
    assert "for these it is 0.6 (accuracy)" in said
    after = {key: (store.folder(key) / "record.json").read_bytes() for key in before}
    assert after == before, "records stay as they are"
    assert json.loads(next(iter(after.values())))["result"]["degenerate"]["last"] is False


@pytest.mark.parametrize(
    ("bound", "task", "verdict"),
    [
        (0.552, {"test_size": None}, False),  # nothing differs from the yaml
        (0.65, {}, True),  # judged with its own bound when it ran
        (0.3, {"failed_below": 0.3}, False),  # somebody's bound
    ],
)
def test_bounds_that_stand(
    tmp_path: Path, bound: float, task: dict[str, Any], verdict: bool
) -> None:
    put(Store(tmp_path), pubmedqa(0.6, 0, bound, **task))
    assert failed(tmp_path) == {0: verdict}
    assert not [s for s in flags(read_results(Store(tmp_path), None).runs) if "judged" in s]


def test_without_predictions_it_is_open_and_said(tmp_path: Path) -> None:
    put(Store(tmp_path), pubmedqa(0.6, 0), predictions=False)
    assert failed(tmp_path) == {0: False}
    (said,) = [s for s in flags(read_results(Store(tmp_path), None).runs) if "bound" in s]
    assert "their own cannot be read: failed or not is open" in said


def test_another_metric(tmp_path: Path) -> None:
    one = pubmedqa(0.3, 0, metric="macro_f1", test_size=None)
    for scores in one.result["metrics"].values():
        scores["test"]["macro_f1"] = scores["validation"]["macro_f1"] = 0.3
    put(Store(tmp_path), one)
    assert failed(tmp_path) == {0: False}, "macro F1 of always yes is 0.25"

"""The failure bound of a metric and of test items, and where it takes the place of the yaml's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from bluestab.core.config import compose, resolved
from bluestab.core.seeding import Seeds
from bluestab.core.types import Example
from bluestab.tasks.base import Task
from bluestab.tasks.bounds import bound_of, misfits
from bluestab.tasks.data import load_task
from bluestab.tasks.metric import KNOWN
from tests.support.own_files import Load, Node


def test_by_hand() -> None:
    assert bound_of("accuracy", ["a"] * 7 + ["b"] * 3) == 0.7
    assert bound_of("positive_f1", ["a"] * 7 + ["b"] * 3, positive=["b"]) == pytest.approx(6 / 13)
    assert bound_of("macro_f1", ["a", "a", "b"], label_names=["a", "b", "c"]) == pytest.approx(
        0.8 / 3
    )
    assert bound_of("entity_f1", [["B-X", "O"]]) == 0.0
    assert bound_of("word_accuracy", [["I-X", "O", "O"], ["O"]]) == 0.75
    assert bound_of("exact_match", [["x"], [], [], ["y"]], label_names=["x", "y"]) == 0.5
    assert bound_of("micro_f1", [["x"], ["x", "y"], []]) == pytest.approx(2 * 2 / (3 + 3))
    assert bound_of("rmse", [0.0, 2.0]) == 1.0
    assert bound_of("of my own", ["a"]) is None
    assert bound_of("accuracy", []) is None


@pytest.mark.parametrize("n", [3, 10, 20, 500])
def test_correlations_have_the_point_that_chance_passes_in_one_of_twenty(n: int) -> None:
    found = bound_of("pearson", [float(i) for i in range(n)])
    assert found is not None
    t = found * math.sqrt((n - 2) / (1 - found**2))
    assert scipy_stats.t.sf(t, n - 2) == pytest.approx(0.05)
    assert bound_of("spearman", [0.5] * n) == found
    assert bound_of("pearson", [1.0, 2.0]) == 1.0, "two items always correlate perfectly"


def table(header: str, line: str) -> str:
    """60 lines; `c` stands for one of a, b, b, `l` for y or x;y, `n` for a number."""
    lines = (
        line.format(i=i, c="abb"[i % 3], l="x;y" if i % 3 else "y", n=i % 7) for i in range(60)
    )
    return "\n".join([header, *lines]) + "\n"


FILES: Mapping[str, tuple[str, str]] = {
    "classification": ("own.csv", table("text,label", "t {i},{c}")),
    "multilabel": ("many.csv", table("text,labels", "t {i},{l}")),
    "pair_regression": ("pairs.csv", table("sentence1,sentence2,score", "a {i},b {i},{n}")),
}


@pytest.mark.parametrize("kind", FILES)
def test_bounds_are_those_of_the_task(load: Load, kind: str) -> None:
    """`Task.baseline` over loaded items and `bound_of` over targets are one number."""
    name, text = FILES[kind]
    data = load(kind, {name: text})
    task, items = data.task, data.chosen("test")
    for metric in task.metrics:
        if metric in ("pearson", "spearman", "positive_f1"):
            continue
        other = load(kind, {name: text}, metric=metric)
        found = bound_of(
            metric, [e.target for e in items], label_names=getattr(task, "label_names", None)
        )
        assert other.baseline is not None
        assert found == pytest.approx(other.baseline[1]), metric


def test_yaml_stays_where_nothing_differs(small: Path) -> None:
    data = load_task(resolved(compose(["task=biosses", "model=tiny"]))["task"] | NO_SHA)
    assert data.task.failed_below == 0.378
    assert not [note for note in data.notes if "ignoring the input" in note]


NO_SHA = {"sha256": dict.fromkeys(("train", "validation", "test"))}


@pytest.mark.parametrize(
    "changed",
    [{"metric": "accuracy"}, {"test_size": 5}, {"folds": 3, "fold": 1}, {"test_size": 0.5}],
)
def test_bound_of_another_metric_or_test_part_is_computed(
    small: Path, changed: dict[str, Any]
) -> None:
    node = resolved(compose(["task=gad", "model=tiny"]))["task"] | NO_SHA
    data = load_task({**node, **changed})
    items = data.select(Seeds(init=3, order=3, dropout=3, split=3))["test"]
    assert data.baseline is not None
    assert data.task.failed_below == data.baseline[1] != 0.6896
    assert data.task.is_degenerate(constant_score(data.task, data.labels, items))
    (note,) = [note for note in data.notes if "ignoring the input" in note]
    assert f"these {len(items)} test items" in note
    assert f"task.{next(iter(changed))}=" in note
    own = load_task({**node, **changed, "failed_below": 0.2})
    assert own.task.failed_below == 0.2, "somebody's own bound stays"


def constant_score(task: Task, labels: Any, items: list[Example]) -> float:
    found = task.baseline(labels, items)
    assert found is not None
    return found[1]


def test_misfits_of_a_hashed_config() -> None:
    """From which neutral knobs are absent."""
    task = {"metric": "pearson", "test_size": None, "failed_below": 0.378}
    assert misfits("biosses", task) == []
    assert misfits("biosses", {**task, "metric": "spearman", "folds": 5}) == ["metric", "folds"]
    assert misfits("biosses", {**task, "test_size": 10, "failed_below": 0.5}) == []
    assert misfits("no such task", {**task, "metric": "spearman"}) == []
    assert misfits("classification", {"failed_below": None, "metric": "accuracy"}) == []
    assert set(KNOWN) > {"pearson", "spearman"}


def test_bound_of_part_of_own_test_items(load: Load, nodes: Mapping[str, Node]) -> None:
    """Left open by the yaml: what one answer gets on the items of the run, not on all."""
    text = "text,label\n" + "".join(f"t {i},{'abb'[i % 3]}\n" for i in range(60))
    held = "text,label\n" + "".join(f"h {i},{'ab'[i % 2]}\n" for i in range(30))
    data = load("classification", {"own.csv": text, "held.csv": held}, test="held.csv", test_size=9)
    targets = [e.target for e in data.chosen("test")]
    assert len(targets) == 9
    assert data.task.failed_below == bound_of(data.task.metric, targets)

"""One reading of labels, whether a file, a yaml or the command line holds them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose, resolved
from bluestab.core.errors import BluestabError
from bluestab.tasks.data import TaskData
from bluestab.tasks.own_labels import labels_in, meant
from tests.support.own_files import Load


def jsonl(labels: list[Any]) -> str:
    return "".join(
        json.dumps({"text": f"words {i}", "label": label}) + "\n" for i, label in enumerate(labels)
    )


def csv(labels: list[str]) -> str:
    return "text,label\n" + "".join(f"words {i},{label}\n" for i, label in enumerate(labels))


def counts(data: TaskData) -> Counter[Any]:
    return Counter(e.target for part in data.splits.values() for e in part)


@pytest.mark.parametrize(
    ("value", "found", "label"),
    [
        (True, ["false", "true"], "true"),
        (True, ["False", "True"], "True"),
        (False, ["FALSE", "TRUE"], "FALSE"),
        (True, ["no", "yes"], "yes"),
        (False, ["No", "Yes"], "No"),
        (True, ["true", "yes"], "true"),
        (True, ["a"], "true"),
        (1, ["0", "1"], "1"),
        (1, ["000", "001"], "001"),
        (1, ["0.0", "1.0"], "1.0"),
        (1.0, ["0", "1"], "1"),
        (100000.0, ["1E5", "2E5"], "1E5"),
        (100000.0, ["100000"], "100000"),
        (float("nan"), ["NaN", "x"], "NaN"),
        (None, ["None", "x"], "None"),
        ("true", ["True"], "true"),
        ("001", ["1"], "001"),
        (1, ["1", "01"], "1"),
        (True, ["1"], "true"),
    ],
)
def test_what_a_yaml_means_by_a_value(value: object, found: list[str], label: str) -> None:
    assert meant([value], found) == [label]


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        (["a", "b"], ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("['a']", ["a"]),
        ("[]", []),
        ("[not a list", None),
        ("[x]", None),
        ({"A": 1, "B": 0}, ["A"]),
        ({"A": 1.0, "B": 1.0}, ["A", "B"]),
        ({"A": 0.4}, None),
        ("a", None),
        (True, None),
    ],
)
def test_lists_of_labels_in_a_cell(cell: Any, labels: list[str] | None) -> None:
    assert labels_in(cell) == labels


BOOLEANS = [
    (jsonl([True, False] * 20), "true", "[true]"),
    (csv(["True", "False"] * 20), "True", "[True]"),
    (csv(["TRUE", "FALSE"] * 20), "TRUE", "[true]"),
    (csv(["yes", "no"] * 20), "yes", "[yes]"),
    (csv(["001", "002"] * 20), "001", "[001]"),
    (jsonl([1, 0] * 20), "1", "[1]"),
    (csv(["1E5", "2E5"] * 20), "1E5", "[1E5]"),
    (jsonl([1e5, 2e5] * 20), "100000", "[1E5]"),
]


@pytest.mark.parametrize(("content", "label", "typed"), BOOLEANS)
def test_positive_classes_as_they_are_typed(
    load: Load, content: str, label: str, typed: str
) -> None:
    typed_here = ["task=classification", "model=tiny", f"task.positive={typed}"]
    node = resolved(compose([*typed_here, "task.metric=positive_f1"]))["task"]
    name = "f.csv" if content.startswith("text,") else "f.jsonl"
    data = load("classification", {name: content}, positive=node["positive"], metric="positive_f1")
    assert label in data.labels
    assert data.task.positive == [label]  # type: ignore[attr-defined]
    assert counts(data)[label] == 20


def test_a_yaml_that_makes_booleans_of_yes_and_no(load: Load, tmp_path: Path) -> None:
    content = csv(["yes", "no"] * 20)
    data = load("classification", {"f.csv": content}, label_names=[True, False], positive=[True])
    assert tuple(data.labels) == ("yes", "no")
    assert data.task.positive == ["yes"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("several", [["pos", "neg"], '["pos", "neg"]', "['pos', 'neg']"])
def test_two_labels_are_no_class(load: Load, several: Any) -> None:
    content = jsonl([["pos"], ["neg"]] * 20 + [several])
    said = r"line 41: label \(task.label\) holds 2 labels, .*task=multilabel"
    with pytest.raises(BluestabError, match=said):
        load("classification", {"f.jsonl": content})
    found = load("multilabel", {"f.jsonl": content})
    assert counts(found) == {("pos",): 20, ("neg",): 20, ("neg", "pos"): 1}


@pytest.mark.parametrize("sign", ["#", "|", ";"])
def test_two_joined_labels_are_no_class(load: Load, sign: str) -> None:
    content = csv(["pos", "neg"] * 20 + [f"pos{sign}neg"])
    with pytest.raises(BluestabError, match="is made of 'pos' and 'neg'"):
        load("classification", {"f.csv": content})
    names = ["neg", "pos", f"pos{sign}neg"]
    assert len(counts(load("classification", {"f.csv": content}, label_names=names))) == 3


def test_lists_of_one_label_are_its_name(load: Load) -> None:
    assert counts(load("classification", {"f.jsonl": jsonl([["a"], ["b"]] * 20)})) == {
        "a": 20,
        "b": 20,
    }


@pytest.mark.parametrize("nothing", ["nan", "NaN", "NAN"])
def test_nan_stands_for_nothing_unless_it_is_listed(load: Load, nothing: str) -> None:
    content = csv(["a", nothing] * 20)
    with pytest.raises(BluestabError, match=r"line 3: label \(task.label\) is empty"):
        load("classification", {"f.csv": content})
    data = load("classification", {"f.csv": content}, label_names=["a", nothing])
    assert counts(data)[nothing] == 20


@pytest.mark.parametrize("names", ["None", "NA", "null"])
def test_names_for_nothing_are_classes_with_a_note(load: Load, names: str) -> None:
    files = {"f.csv": csv(["a", names] * 20)}
    data = load("classification", files)
    assert counts(data)[names] == 20
    said = f"20 items of class '{names}': if that says that the class is missing"
    assert any(said in note for note in data.notes), data.notes
    listed = load("classification", files, label_names=["a", names])
    assert not any("is missing" in note for note in listed.notes)


def test_a_map_is_no_label(load: Load) -> None:
    with pytest.raises(BluestabError, match=r"line 1: label \(task.label\) is .* no label"):
        load("classification", {"f.jsonl": jsonl([{"a": "b"}] * 20)})

"""JSON and JSON lines of a person's own that are broken, and how their items are named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bluestab.core.errors import DataError
from tests.support.own_files import JSON, JSONL, Broken, Load, refuses

BROKEN: dict[str, Broken] = {
    "JSON cut off": (
        "classification",
        {JSON: '[{"text": "a", "label": "x"}, {"text": "b"'},
        {},
        r"f\.json, line 1: is no JSON",
    ),
    "JSON of numbers": (
        "classification",
        {JSON: "[1, 2]"},
        {},
        r"f\.json, line 1: expected an object, found '1'",
    ),
    "JSON with a tail": (
        "classification",
        {JSON: '[{"text": "a", "label": "x"}] x'},
        {},
        r"goes on after its end with 'x'",
    ),
    "JSON field twice": (
        "classification",
        {JSON: '[{"text": "a", "text": "b", "label": "x"}]'},
        {},
        r"an object has two fields 'text'",
    ),
    "JSON deep": (
        "classification",
        {JSON: "[" * 100_000},
        {},
        r"f\.json, line 1: is nested too deeply|is no JSON|expected an object",
    ),
    "JSON empty list": ("classification", {JSON: "[]"}, {}, r"holds no items"),
    "JSONL cut off": (
        "classification",
        {JSONL: '{"text": "a", "label": "x"}\n{"text": "b", "la\n'},
        {},
        r"f\.jsonl, line 2: is no JSON object",
    ),
    "JSONL list": (
        "classification",
        {JSONL: '["a", "x"]\n'},
        {},
        r"line 1: is no JSON object: expected an object",
    ),
    "JSONL missing field": (
        "classification",
        {JSONL: '{"text": "a", "label": "x"}\n{"text": "b"}\n'},
        {},
        r"line 2: label \(task\.label\) is empty",
    ),
    "JSONL text of another kind": (
        "classification",
        {JSONL: '{"text": {"a": 1}, "label": "x"}\n'},
        {},
        r"line 1: text \(task\.text\) is a dict",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


def test_items_of_one_line_have_names(load: Load) -> None:
    items = [{"text": f"t {i}", "label": "ab"[i % 2]} for i in range(20)]
    data = load("classification", {JSON: json.dumps(items)})
    names = {e.id for examples in data.splits.values() for e in examples}
    assert names == {f"item {i}" for i in range(1, 21)}
    with pytest.raises(
        DataError, match=r"f\.json, line 1: item 21: label \(task\.label\) is empty"
    ):
        load("classification", {JSON: json.dumps([*items, {"text": "x"}])})


ROWS = [{"text": f"some words, number {i}", "label": "ab"[i % 2]} for i in range(20)]
TABLES: dict[str, tuple[Any, str]] = {
    "pandas, as it writes by itself": (
        {name: {str(7 * i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]},
        "by columns",
    ),
    "pandas, split": (
        {
            "columns": [*ROWS[0]],
            "index": [*range(20)],
            "data": [[*row.values()] for row in ROWS],
        },
        "by columns",
    ),
    "pandas, table": ({"schema": {"fields": []}, "data": ROWS}, "not read: 'schema'"),
    "lists": ({name: [row[name] for row in ROWS] for name in ROWS[0]}, "by columns"),
    "with words about it": (
        {"info": {"text": "ours", "label": "v1"}, "annotations": ROWS},
        "items are those of 'annotations'; not read: 'info'",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_the_same_however_it_is_written(load: Load, name: str) -> None:
    content, said = TABLES[name]
    expected = load("classification", {JSON: json.dumps(ROWS)})
    data = load("classification", {JSON: json.dumps(content)})
    assert data.splits == expected.splits
    assert any(said in note for note in data.notes), data.notes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"train": ROWS, "test": ROWS}, "'train' is no object.*each list as a file of its own"),
        ({"text": ["a", "b"], "label": ["x"]}, "'text' is no object"),
        ({"columns": 3, "data": [[1]]}, "'columns' is no object|expected an object"),
        ({"columns": ["text"], "data": [["a"], ["b", "c"]]}, "expected an object, found"),
        ({"text": [], "label": []}, "holds no items"),
        ({"text": {}, "label": {}}, "holds no items"),
    ],
)
def test_what_is_no_table_is_refused(load: Load, content: Any, said: str) -> None:
    refuses(load, ("classification", {JSON: json.dumps(content)}, {}, said))


def spacy(n: int = 20) -> list[Any]:
    return [
        [f"case {i:02} of gout", {"entities": [[11, 15, "D"]] if i % 2 else []}] for i in range(n)
    ]


@pytest.mark.parametrize("form", ["json", "jsonl", "wrapped"])
def test_training_data_of_spacy(load: Load, form: str) -> None:
    lines = "\n".join(map(json.dumps, spacy()))
    text = {
        "json": json.dumps(spacy(), indent=1),
        "jsonl": lines,
        "wrapped": json.dumps({"classes": ["D"], "annotations": spacy()}),
    }[form]
    data = load("tagging", {JSONL if form == "jsonl" else JSON: text})
    items = [e for split in data.splits.values() for e in split]
    assert len(items) == 20
    assert sum("B-D" in e.target for e in items) == 10
    assert all(e.text[3] == "gout" for e in items)


def test_categories_of_spacy(load: Load) -> None:
    found = [[f"text {i}", {"cats": {"a": i % 2, "b": 1 - i % 2}}] for i in range(20)]
    for kind in ("classification", "multilabel"):
        data = load(kind, {JSON: json.dumps(found)})
        assert data.labels == ("a", "b")
        assert sum(map(len, data.splits.values())) == 20
    both = [[f"text {i}", {"cats": {"a": 1, "b": 1}}] for i in range(20)]
    refuses(load, ("classification", {JSON: json.dumps(both)}, {}, "has 2 labels|two labels|multi"))

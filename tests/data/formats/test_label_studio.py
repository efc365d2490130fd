"""Exports of Label Studio: entities, choices and numbers, and what is broken."""

from __future__ import annotations

import json

import pytest

from tests.support.own_files import JSON, Broken, Load, label_studio, refuses

BROKEN: dict[str, Broken] = {
    "Label Studio, none annotated": (
        "tagging",
        {JSON: '[{"data": {"text": "a"}, "annotations": []}]'},
        {},
        r"a Label Studio export without any annotation",
    ),
    "Label Studio, two labels": (
        "tagging",
        {
            JSON: '[{"data": {"text": "a"}, "annotations": [{"result": [{"type": "labels", '
            '"from_name": "l", "value": {"start": 0, "end": 1, "labels": ["A", "B"]}}]}]}]'
        },
        {},
        r"line 1: a span has .*, expected one label",
    ),
    "Label Studio, no object": (
        "tagging",
        {JSON: '[{"data": {"text": "a"}, "annotations": [{"result": [3]}]}]'},
        {},
        r"line 1: '3' is no object of a Label Studio export",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


def test_choices_and_numbers_of_label_studio(load: Load) -> None:
    one = [
        label_studio({"text": f"t {i}"}, ("choices", {"choices": ["ab"[i % 2]]})) for i in range(20)
    ]
    unseen = {"data": {"text": "u"}, "annotations": []}
    given_up = label_studio({"text": "v"}, ("choices", {"choices": ["b"]}))
    given_up["annotations"][0]["was_cancelled"] = True
    data = load("classification", {JSON: json.dumps([*one, unseen, given_up])})
    assert sum(len(part) for part in data.splits.values()) == 20
    assert tuple(data.labels) == ("a", "b")
    assert any("2 tasks without an annotation" in note for note in data.notes)

    several = [
        label_studio({"text": f"t {i}"}, ("choices", {"choices": ["a", "b"][: 1 + i % 2]}))
        for i in range(20)
    ]
    found = load("multilabel", {JSON: json.dumps(several)})
    targets = [e.target for part in found.splits.values() for e in part]
    assert sorted(map(len, targets)) == [1] * 10 + [2] * 10

    rated = [
        label_studio({"text": f"t {i}", "text_pair": "u"}, ("rating", {"rating": i % 5}))
        for i in range(20)
    ]
    numbers = load("pair_regression", {JSON: json.dumps(rated)})
    assert {e.target for part in numbers.splits.values() for e in part} == {0, 1, 2, 3, 4}

"""Which column of a person's own table is which, and columns that are not there."""

from __future__ import annotations

import pytest

from tests.support.own_files import CSV, Broken, Load, refuses, rows

BROKEN: dict[str, Broken] = {
    "wrong column": (
        "classification",
        {CSV: rows()},
        {"label": "lable"},
        r"f\.csv: has no column 'lable' \(task\.label\); did you mean 'label'",
    ),
    "column number": (
        "classification",
        {CSV: rows()},
        {"label": 2},
        r"has no column 2 \(task\.label\)",
    ),
    "same column twice": (
        "classification",
        {CSV: rows()},
        {"text": "label", "label": "label"},
        r"column 'label' would be read twice",
    ),
    "header only": ("classification", {CSV: "text,label\n"}, {}, r"f\.csv: holds no items"),
    "no label column": (
        "classification",
        {CSV: rows(header="text,foo")},
        {},
        r"which column is the label\? say task\.label=NAME, one of: text, foo",
    ),
    "header or not": (
        "classification",
        {CSV: "a b,c d\ne f,g h\ni j,k l\n"},
        {},
        r"line 1: it cannot be told whether this line names",
    ),
    "columns without names": (
        "classification",
        {CSV: rows(header=None)},
        {},
        r"no line names its 2 columns: say which holds what",
    ),
    "two columns of a name": (
        "classification",
        {CSV: "text,label,label\n" + "a,yes,no\n" * 9},
        {},
        r"line 1: has several columns 'label'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])

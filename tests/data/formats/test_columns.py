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


HEADERS = {
    "a word that is also a name": "Title,pos\nfirst of all,neg\nand then,pos\n",
    "in capitals": "ABSTRACT,1.5\nfirst of all,2\nand then,3\n",
    "a label that is a name": "what is it,Answer\nfirst of all,Question\nwhat is it,Question\n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_first_row_that_could_be_either_is_asked_about(load: Load, name: str) -> None:
    kind = "pair_regression" if "1.5" in HEADERS[name] else "classification"
    broken = (kind, {CSV: HEADERS[name] * 9}, {}, "line 1: it cannot be told whether this line")
    refuses(load, broken)


def test_two_names_are_names_beside_a_number(load: Load) -> None:
    table = "text,label,2019\n" + "".join(f"case {i},{'ab'[i % 2]},2019\n" for i in range(20))
    data = load("classification", {CSV: table})
    assert sum(map(len, data.splits.values())) == 20

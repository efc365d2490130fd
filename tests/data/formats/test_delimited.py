"""Tables of a person's own: rows, separators and quotation marks that do not fit."""

from __future__ import annotations

import pytest

from tests.support.own_files import CSV, TSV, Broken, Load, notes, refuses, rows

BROKEN: dict[str, Broken] = {
    "comma without quotes": (
        "classification",
        {CSV: rows() + "a, b,yes\n"},
        {},
        r"f\.csv, line 42: has 3 columns where line 1 has 2",
    ),
    "cut off": (
        "classification",
        {CSV: rows() + "only a text"},
        {},
        r"line 42: has 1 columns where line 1 has 2",
    ),
    "mixed separators": (
        "classification",
        {CSV: rows() + "a text;yes\n"},
        {},
        r"line 42: has 1 columns where line 1 has 2",
    ),
    "open quote": (
        "classification",
        {CSV: rows() + '"never closed,yes\nx,no\n'},
        {},
        r"line 42: a quotation mark opens here and never closes",
    ),
    "stray quote": (
        "classification",
        {CSV: rows() + '"a "b" c",yes\n'},
        {},
        r"line 42: after a closing quotation mark",
    ),
    "one column": ("classification", {CSV: "text\na\nb\n"}, {}, r"has one column only"),
    "a tab too many": (
        "classification",
        {TSV: rows(sep="\t") + "a\tb\tyes\n"},
        {},
        r"f\.tsv, line 42: has 3 columns where line 1 has 2",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


REPAIRED: dict[str, Broken] = {
    "semicolons": ("classification", {CSV: rows(sep=";")}, {}, "the separator is a semicolon"),
    "empty rows": (
        "classification",
        {CSV: rows() + ",\n,\n"},
        {},
        "2 rows without any content left out",
    ),
    "lines in a text": (
        "classification",
        {CSV: rows() + '"a\nb",yes\n'},
        {},
        "1 row goes over several lines (first: line 42)",
    ),
    "quoted TSV": (
        "classification",
        {TSV: rows(sep="\t") + '"a ""b"" c"\tyes\n'},
        {},
        "without them (task.quoting)",
    ),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_or_left_out_is_said(load: Load, name: str) -> None:
    notes(load, REPAIRED[name])


@pytest.mark.parametrize("sign", [";", ",", "\\t", "|", "~"])
@pytest.mark.parametrize("mark", ["sep={}", '"sep={}"', "SEP={}"])
def test_the_line_that_tells_excel_the_separator(load: Load, sign: str, mark: str) -> None:
    sep = "\t" if sign == "\\t" else sign
    text = mark.format(sign) + "\r\n" + rows(sep=sep).replace("\n", "\r\n")
    data = load("classification", {CSV: "\ufeff" + text})
    assert sum(map(len, data.splits.values())) == 40
    assert any("line 1 tells Excel that the separator" in note for note in data.notes)
    wrong = text.replace("words number 7", f"words{sep}number 7")
    refuses(load, ("classification", {CSV: wrong}, {}, r"f\.csv, line 10: has 3 columns"))

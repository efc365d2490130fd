"""Any file of a person's own: what is no text, not there or of another format is named."""

from __future__ import annotations

import pytest

from tests.support.own_files import CSV, Broken, Load, notes, pubtator, refuses, rows

BROKEN: dict[str, Broken] = {
    "empty": ("classification", {CSV: ""}, {}, r"f\.csv: is empty"),
    "blanks only": ("classification", {CSV: " \n \n"}, {}, r"f\.csv: is empty"),
    "no such file": (
        "classification",
        {CSV: rows()},
        {"train": "g.csv"},
        r"g\.csv: not found in .*did you mean 'f\.csv'",
    ),
    "no such folder": (
        "classification",
        {CSV: rows()},
        {"train": "no/g.csv"},
        r"there is no folder no",
    ),
    "folder for a file": (
        "classification",
        {"d/x.csv": rows()},
        {"train": "d"},
        r"d: is a folder, but neither a BRAT",
    ),
    "a folder with a folder for each part": (
        "classification",
        {
            "d/train/x.csv": rows(),
            "d/train/README.md": "",
            "d/devel/x.csv": rows(),
            "d/test/x.csv": rows(),
        },
        {"train": "d"},
        r"d: is a folder of parts, not one of them; say task\.train=\S*d/train/x\.csv "
        r"task\.validation=\S*d/devel/x\.csv task\.test=\S*d/test/x\.csv$",
    ),
    "a folder with a file for each part": (
        "classification",
        {"d/test.csv": rows(), "d/Train.csv": rows(), "d/val.csv": rows()},
        {"train": "d"},
        r"d: is a folder of parts.* task\.train=\S*d/Train\.csv task\.validation=\S*d/val\.csv "
        r"task\.test=\S*d/test\.csv$",
    ),
    "a folder with BRAT folders for two parts": (
        "tagging",
        {"d/train/1.txt": "a", "d/train/1.ann": "", "d/test/1.txt": "a", "d/test/1.ann": ""},
        {"train": "d"},
        r"d: is a folder of parts.* task\.train=\S*d/train task\.test=\S*d/test$",
    ),
    "a folder with folders of many files": (
        "classification",
        {"d/train/1.txt": "a", "d/train/2.txt": "b", "d/test/1.txt": "c"},
        {"train": "d"},
        r"d: is a folder, but neither a BRAT.*; it holds test, train",
    ),
    "folder, format given": (
        "classification",
        {"d/x.csv": rows()},
        {"train": "d", "format": "csv"},
        r"d: is a folder, where a file",
    ),
    "NUL": ("classification", {CSV: rows() + "a\0b,yes\n"}, {}, r"f\.csv, line 42: holds a NUL"),
    "Latin-1": (
        "classification",
        {CSV: rows().encode() + b"caf\xe9,yes\n"},
        {},
        r"f\.csv, line 42: byte 0xe9 is not UTF-8",
    ),
    "UTF-16": ("classification", {CSV: rows().encode("utf-16")}, {}, r"f\.csv: is UTF-16"),
    "Excel": ("classification", {"f.xlsx": b"PK\x03\x04rest"}, {}, r"f\.xlsx: is an Excel sheet"),
    "Excel as CSV": (
        "classification",
        {CSV: b"PK\x03\x04rest"},
        {},
        r"f\.csv: is a ZIP archive or an Excel",
    ),
    "10 MB line": (
        "classification",
        {CSV: rows() + "x " * 5_000_000 + ",yes\n"},
        {},
        r"f\.csv, line 42: a text of 10,000,000 characters",
    ),
    "damaged gzip": (
        "classification",
        {"f.csv.gz": rows()},
        {"train": "g.csv.gz"},
        r"g\.csv\.gz: not found",
    ),
    "unknown format": (
        "classification",
        {CSV: rows()},
        {"format": "xml"},
        r"task\.format is 'xml'",
    ),
    "format of another task": (
        "classification",
        {"f.pubtator": pubtator()},
        {},
        r"is pubtator, which does not fit",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


REPAIRED: dict[str, Broken] = {
    "BOM": (
        "classification",
        {CSV: "\ufeff" + rows()},
        {},
        "f.csv: a byte order mark was left out",
    ),
    "CR LF": (
        "classification",
        {CSV: rows().replace("\n", "\r\n")},
        {},
        "f.csv: line ends CR LF were taken as LF",
    ),
    "CR": ("classification", {CSV: rows().replace("\n", "\r")}, {}, "lines end with CR alone"),
    "gzip": ("classification", {"f.csv.gz": rows()}, {}, "f.csv.gz: csv, 40 rows"),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_or_left_out_is_said(load: Load, name: str) -> None:
    notes(load, REPAIRED[name])

"""Texts, labels and scores of a person's own files that no task can use."""

from __future__ import annotations

from pathlib import Path

import pytest

from bluestab.core.errors import DataError
from tests.support.own_files import CSV, JSONL, TSV, Broken, Load, notes, refuses, rows

BROKEN: dict[str, Broken] = {
    "empty text": (
        "classification",
        {CSV: rows() + ",yes\n"},
        {},
        r"f\.csv, line 42: text \(task\.text\) is empty",
    ),
    "empty label": (
        "classification",
        {CSV: rows() + "a text,\n"},
        {},
        r"f\.csv, line 42: label \(task\.label\) is empty",
    ),
    "empty cells in several rows": (
        "classification",
        {CSV: rows() + "a text,\nanother,yes\n" + 'a text," "\n' * 7},
        {},
        r"line 42: label \(task\.label\) is empty, as in lines 44, 45, 46, 47, 48 and 2 more; "
        r"fill in what is missing, or take such rows out",
    ),
    "empty score": (
        "pair_regression",
        {CSV: "sentence1,sentence2,score\na,b,1.5\nc,d,\ne,f,2\ng,h,\n"},
        {},
        r"line 3: score \(task\.label\) is empty, as in line 5; fill in",
    ),
    "label nan": (
        "classification",
        {CSV: rows() + "a text,nan\n"},
        {},
        r"line 42: label \(task\.label\) is empty",
    ),
    "repeated id": (
        "classification",
        {CSV: "id,text,label\n1,a,yes\n1,b,no\n"},
        {"id": "id"},
        r"line 3: task\.id '1' was already used in line 2",
    ),
    "empty group": (
        "classification",
        {CSV: "pmid,text,label\n1,a,yes\n,b,no\n"},
        {},
        r"line 3: pmid \(task\.group\) is empty",
    ),
    "one class": (
        "classification",
        {CSV: rows().replace("yes", "no")},
        {},
        r"holds one class only, 'no'",
    ),
    "labels alike": (
        "classification",
        {CSV: rows() + "a text,Yes\n"},
        {},
        r"labels 'Yes' and 'yes' are alike",
    ),
    "labels alike as numbers": (
        "classification",
        {CSV: "text,label\n" + "a,1\nb,0\n" * 9 + "c,1.0\n"},
        {},
        r"labels '1' and '1\.0' are alike",
    ),
    "label only in test": (
        "classification",
        {CSV: rows(), "t.csv": rows() + "a text,maybe\n"},
        {"test": "t.csv"},
        r"t\.csv: label 'maybe' \(item line 42\) is not among",
    ),
    "label never in train": (
        "classification",
        {CSV: rows()},
        {"label_names": ["yes", "no", "maybe"]},
        r"label 'maybe' of task\.label_names never occurs",
    ),
    "texts as labels": (
        "classification",
        {CSV: "text,label\n" + "".join(f"a,text {i}\n" for i in range(60))},
        {},
        r"has 60 classes for 60 items",
    ),
    "a pair for one text": (
        "classification",
        {CSV: "sentence1,sentence2,label\na,b,yes\nc,d,no\n"},
        {},
        r"to read both say task=pair_classification",
    ),
    "few items": (
        "classification",
        {CSV: "text,label\na,yes\nb,no\n"},
        {},
        r"part would be empty: 2 items form 2 groups",
    ),
    "one group": (
        "classification",
        {
            CSV: "pmid,text,label\n"
            + "".join(f"1,t {i},{'yes' if i % 2 else 'no'}\n" for i in range(20))
        },
        {},
        r"20 items form 1 groups",
    ),
    "all for test": (
        "classification",
        {CSV: rows()},
        {"test_size": 40},
        r"task\.test_size=40.* of 40 items leave none",
    ),
    "no number": (
        "pair_regression",
        {CSV: "sentence1,sentence2,score\na,b,high\n"},
        {},
        r"line 2: score \(task\.label\) is 'high', no number",
    ),
    "decimal comma": (
        "pair_regression",
        {TSV: "sentence1\tsentence2\tscore\na\tb\t3,5\n"},
        {},
        r"'3,5', no number; a decimal point is a point",
    ),
    "not finite": (
        "pair_regression",
        {CSV: "sentence1,sentence2,score\na,b,inf\n"},
        {},
        r"'inf', no finite number",
    ),
    "one score": (
        "pair_regression",
        {CSV: "sentence1,sentence2,score\na,b,3\nc,d,3\n"},
        {},
        r"holds one score only, 3\.0",
    ),
    "no passage": (
        "question_answering",
        {JSONL: '{"question": "q", "context": [], "answer": "yes"}\n'},
        {},
        r"line 1: context \(task\.text_pair\) is empty",
    ),
    "two separators": (
        "multilabel",
        {CSV: "text,labels\na,x;y\nb,x|z\n"},
        {},
        r"'\|' and ';' both occur in labels",
    ),
    "label twice": (
        "multilabel",
        {CSV: "text,labels\na,x;x\nb,x;y\n"},
        {},
        r"line 2: labels \(task\.label\) names a label twice",
    ),
    "gap between labels": (
        "multilabel",
        {CSV: "text,labels\na,x;;y\nb,x;y\n"},
        {},
        r"line 2: .* nothing between two ';'",
    ),
    "no labels at all": ("multilabel", {CSV: "text,labels\na,\nb,\n"}, {}, r"no item has a label"),
    "flags of three values": (
        "multilabel",
        {CSV: "text,x,y\na,0,1\nb,2,1\n"},
        {"label": ["x", "y"]},
        r"line 3: x \(task\.label\) is '2', neither 0 nor 1",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


REPAIRED: dict[str, Broken] = {
    "ids that repeat": (
        "classification",
        {CSV: "id,text,label\n" + "".join(f"1,a {i},{i % 2}\n" for i in range(20))},
        {},
        "'id' has empty or repeated cells",
    ),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_or_left_out_is_said(load: Load, name: str) -> None:
    notes(load, REPAIRED[name])


def test_columns_of_labels_are_read(load: Load) -> None:
    table = "text,a,b,c\n" + "".join(f"word {i},{i % 2},{i % 3 % 2},0\n" for i in range(40))
    (said,) = (
        note
        for note in load("multilabel", {CSV: table}, label=["a", "b"]).notes
        if "label is" in note
    )
    assert said.endswith("label is 'a, b'; not read: 'c'")


@pytest.mark.parametrize(
    "names",
    ["text1,text2,score", "question1,question2,similarity_score", "s1,s2,relatedness_score"],
)
def test_usual_names_of_pairs(load: Load, names: str) -> None:
    table = f"{names}\n" + "".join(f"a {i},b {i},{i % 5}.5\n" for i in range(40))
    named = {} if not names.startswith("s1") else {"text": "s1", "text_pair": "s2"}
    data = load("pair_regression", {CSV: table}, **named)
    assert sum(map(len, data.splits.values())) == 40


def test_a_folder_that_is_no_data_is_not_read_to_its_end(load: Load, tmp_path: Path) -> None:
    """Somebody's home may be named by a slip."""
    (tmp_path / "home/deep").mkdir(parents=True)
    (tmp_path / "home/deep/damaged.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"home: is a folder, but neither a BRAT folder"):
        load("classification", {"home/notes.odt": "x"}, train="home")

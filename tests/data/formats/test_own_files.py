"""A person's own files: what each format becomes, and what a broken one is told.

Every broken file gives one error that names the file, the line where there is one, and the reason;
or a repair that is said. Never a traceback, never a silent wrong count.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose, resolved
from bluestab.core.errors import BluestabError, ConfigError, DataError
from bluestab.tasks.data import TaskData, load_task
from tests.conftest import real_data

Node = dict[str, Any]
Load = Callable[..., TaskData]

KINDS = (
    "tagging",
    "classification",
    "multilabel",
    "pair_classification",
    "pair_regression",
    "question_answering",
)


@pytest.fixture(scope="module")
def nodes() -> Mapping[str, Node]:
    return {kind: resolved(compose([f"task={kind}", "model=tiny"]))["task"] for kind in KINDS}


@pytest.fixture
def load(nodes: Mapping[str, Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Files are written here, then a task of this kind is loaded from the first of them."""
    monkeypatch.chdir(tmp_path)

    def loaded(kind: str, files: Mapping[str, str | bytes], **changed: Any) -> TaskData:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = content.encode() if isinstance(content, str) else content
            path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return load_task({**nodes[kind], "train": next(iter(files)), **changed})

    return loaded


def rows(n: int = 40, sep: str = ",", header: str | None = "text,label") -> str:
    """A table of n texts of two classes."""
    lines = [header.replace(",", sep)] if header else []
    lines += [f"some words number {i}{sep}{'yes' if i % 2 else 'no'}" for i in range(n)]
    return "\n".join(lines) + "\n"


def conll(n: int = 20, tags: tuple[str, ...] = ("B-D", "I-D", "O")) -> str:
    return "".join(f"colon{i}\t{tags[0]}\ncancer\t{tags[1]}\nis\t{tags[2]}\n\n" for i in range(n))


def spans(n: int = 20) -> str:
    """JSONL of texts with one span each."""
    return "".join(
        json.dumps(
            {"text": f"case {i} of colon cancer seen", "spans": [[10 + (i > 9), 22 + (i > 9), "D"]]}
        )
        + "\n"
        for i in range(n)
    )


def pubtator(n: int = 12) -> str:
    return "".join(
        f"{100 + i}|t|Colon cancer.\n{100 + i}|a|A case of gout {i}.\n"
        f"{100 + i}\t0\t12\tColon cancer\tDisease\tD1\n{100 + i}\t24\t28\tgout\tDisease\tD2\n\n"
        for i in range(n)
    )


def brat(n: int = 12) -> dict[str, str]:
    files: dict[str, str] = {}
    for i in range(n):
        files[f"b/{i:02}.txt"] = f"Colon cancer and gout {i} .\n"
        files[f"b/{i:02}.ann"] = "T1\tDisease 0 12\tColon cancer\nT2\tDisease 17 21\tgout\n"
    return files


def at(files: Mapping[str, str | bytes], **changed: Any) -> tuple[Mapping[str, str | bytes], Node]:
    return files, changed


CSV, TSV, JSONL, JSON, WORDS = "f.csv", "f.tsv", "f.jsonl", "f.json", "f.conll"

# --- forty and more broken files ----------------------------------------------------------------

Broken = tuple[str, Mapping[str, str | bytes], Node, str]
BROKEN: dict[str, Broken] = {
    # any file
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
    # tables
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
    "label nan": (
        "classification",
        {CSV: rows() + "a text,nan\n"},
        {},
        r"line 42: label \(task\.label\) is empty",
    ),
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
    # JSON
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
        r"f\.json: is nested too deeply|is no JSON|expected an object",
    ),
    "JSON empty list": ("classification", {JSON: "[]"}, {}, r"holds no items"),
    "JSONL cut off": (
        "classification",
        {JSONL: '{"text": "a", "label": "x"}\n{"text": "b", "la\n'},
        {},
        r"f\.jsonl, line 2: is no JSON object",
    ),
    "JSONL list": ("classification", {JSONL: '["a", "x"]\n'}, {}, r"line 1: expected an object"),
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
    # words and tags
    "tag without a word": (
        "tagging",
        {WORDS: conll() + "\tB-D\n"},
        {},
        r"f\.conll, line 81: has no word",
    ),
    "word without a tag": ("tagging", {WORDS: conll() + "cancer\t\n"}, {}, r"line 81: has no tag"),
    "word alone": (
        "tagging",
        {WORDS: conll() + "cancer\n"},
        {},
        r"line 81: columns are separated by tabs in line 1",
    ),
    "blank for a tab": (
        "tagging",
        {WORDS: conll() + "cancer B-D\n"},
        {},
        r"line 81: columns are separated by tabs in line 1",
    ),
    "a column too many": (
        "tagging",
        {WORDS: conll() + "cancer\tNN\tB-D\n"},
        {},
        r"line 81: has 3 columns where line 1 has 2",
    ),
    "group of CoNLL": (
        "tagging",
        {WORDS: conll()},
        {"group": "pmid"},
        r"f\.conll: is conll, which has no columns for task\.group",
    ),
    "text of PubTator": (
        "tagging",
        {"f.pubtator": pubtator()},
        {"text": "title"},
        r"is pubtator, which has no columns for task\.text",
    ),
    "no such tag column": (
        "tagging",
        {WORDS: conll()},
        {"label": 3},
        r"line 1: has 2 columns, but task\.label is 3",
    ),
    "tag column by name": (
        "tagging",
        {WORDS: conll()},
        {"label": "ner"},
        r"task\.label is 'ner', but the columns of CoNLL are numbers",
    ),
    "I- after O": (
        "tagging",
        {WORDS: conll() + "is\tO\ncancer\tI-D\n"},
        {},
        r"line 82: tag 'I-D' follows 'O': in IOB2",
    ),
    "I- of another type": (
        "tagging",
        {WORDS: conll() + "x\tB-D\ncancer\tI-E\n"},
        {},
        r"line 82: tag 'I-E' follows 'B-D'",
    ),
    "bare among prefixed": (
        "tagging",
        {WORDS: conll() + "cancer\tD\n"},
        {},
        r"line 81: tag 'D' has no B- or I-",
    ),
    "zero for O": (
        "tagging",
        {WORDS: conll() + "cancer\t0\n"},
        {},
        r"line 81: tag '0' has no B- or I-",
    ),
    "no word outside": ("tagging", {WORDS: "a\tX\nb\tY\n\nc\tX\n"}, {}, r"no word has the tag O"),
    "IOBES open": (
        "tagging",
        {WORDS: conll(tags=("B-D", "E-D", "O")) + "x\tB-D\ny\tO\n"},
        {},
        r"line 82: tag 'O' follows .*ends with E-",
    ),
    "IOBES open at the end": (
        "tagging",
        {WORDS: conll(tags=("B-D", "E-D", "O")) + "x\tB-D\n"},
        {},
        r"line 81: the sentence ends inside",
    ),
    "IOBES without a start": (
        "tagging",
        {WORDS: conll(tags=("B-D", "E-D", "O")) + "x\tE-D\n"},
        {},
        r"line 81: tag 'E-D' follows 'O'",
    ),
    "scheme that is not": (
        "tagging",
        {WORDS: conll(tags=("B-D", "E-D", "O"))},
        {"scheme": "iob2"},
        r"line 2: tag 'E-D' belongs to no IOB2",
    ),
    "unknown scheme": ("tagging", {WORDS: conll()}, {"scheme": "iob3"}, r"task\.scheme is 'iob3'"),
    "types alike": ("tagging", {WORDS: conll() + "x\tB-d\n\n"}, {}, r"types 'D' and 'd' are alike"),
    "no entity": ("tagging", {WORDS: "a\tO\nb\tO\n\n" * 9}, {}, r"holds no entity"),
    "type only in test": (
        "tagging",
        {WORDS: conll(), "t.conll": conll() + "x\tB-E\n"},
        {"test": "t.conll"},
        r"t\.conll: tag 'B-E' \(sentence at line 81\) is not among",
    ),
    "word numbers": (
        "tagging",
        {WORDS: "1\tcolon\tB-D\n2\tis\tO\n\n" * 9},
        {},
        r"line 1: the first column numbers the words; say task\.text=1",
    ),
    "comments only": ("tagging", {WORDS: "-DOCSTART- O\n\n"}, {}, r"holds no words"),
    "lengths differ": (
        "tagging",
        {JSONL: '{"tokens": ["a", "b"], "tags": ["O"]}\n'},
        {},
        r"line 1: 2 words \(tokens\), but 1 tags",
    ),
    "numbers for tags": (
        "tagging",
        {JSONL: '{"tokens": ["a", "b"], "tags": [0, 1]}\n'},
        {},
        r"line 1: tags \(task\.label\) holds numbers, whose names",
    ),
    "a word per row": (
        "tagging",
        {"f.csv": "word,tag,s\n" + "a,O,1\nb,B-D,1\n" * 9},
        {},
        r"every row holds one word \(word\): which rows are one sentence\? say task\.sentence",
    ),
    "a sentence in two places": (
        "tagging",
        {"f.csv": "word,tag,sent_id\na,O,1\nb,B-D,2\nc,O,1\n"},
        {},
        r"line 4: sentence '1' was already there in line 2, with others between",
    ),
    "names of words": (
        "tagging",
        {"f.csv": "word,tag,sent_id,n\na,O,1,x\nb,B-D,1,y\n"},
        {"id": "n"},
        r"task\.id is 'n', but a row is a word here and sent_id \(task\.sentence\) names",
    ),
    "a word without a sentence": (
        "tagging",
        {"f.csv": "word,tag,sent_id\na,O,\nb,B-D,2\n"},
        {},
        r"line 2: sent_id \(task\.sentence\) is empty in the first row",
    ),
    "a word without a tag": (
        "tagging",
        {"f.csv": "word,tag,sent_id\na,O,1\nb,,1\n"},
        {},
        r"line 3: tag \(task\.label\) is empty",
    ),
    "sentences of lists": (
        "tagging",
        {JSONL: '{"tokens": ["a", "b"], "tags": ["O", "O"], "n": 1}\n'},
        {"sentence": "n"},
        r"task\.sentence is for files with a word per row",
    ),
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
    # spans
    "offsets from 1": (
        "tagging",
        {JSONL: spans().replace("[[10, 22", "[[11, 23").replace("[[11, 23", "[[12, 24")},
        {},
        r"20 of 20 mentions begin or end inside a word: do offsets count characters",
    ),
    "span outside": (
        "tagging",
        {JSONL: '{"text": "abc", "spans": [[0, 4, "D"]]}\n'},
        {},
        r"line 1: span 0-4 lies outside of its text, which has 3",
    ),
    "span of nothing": (
        "tagging",
        {JSONL: '{"text": "abc", "spans": [[1, 1, "D"]]}\n'},
        {},
        r"line 1: span 1-1 lies outside .* or holds nothing",
    ),
    "span reversed": (
        "tagging",
        {JSONL: '{"text": "abc", "spans": [[2, 1, "D"]]}\n'},
        {},
        r"line 1: span 2-1",
    ),
    "span of another text": (
        "tagging",
        {
            JSONL: '{"text": "abc def", "spans": '
            '[{"start": 0, "end": 3, "label": "D", "text": "def"}]}\n'
        },
        {},
        r"'def' is not at 0-3, 'abc' is",
    ),
    "span without a type": (
        "tagging",
        {JSONL: '{"text": "abc", "spans": [{"start": 0, "end": 3}]}\n'},
        {},
        r"is no span: it has no start, end and type",
    ),
    "offsets as text": (
        "tagging",
        {JSONL: '{"text": "abc", "spans": [["0", "3", "D"]]}\n'},
        {},
        r"is no span",
    ),
    "PubTator offset": (
        "tagging",
        {"f.txt": pubtator().replace("\t0\t12\tColon", "\t1\t13\tColon", 1)},
        {},
        r"f\.txt, line 3: 'Colon cancer' is not at 1-13",
    ),
    "PubTator outside": (
        "tagging",
        {"f.txt": pubtator().replace("\t24\t28\tgout", "\t24\t99\tgout", 1)},
        {},
        r"line 4: 24-99 lies outside of '100'",
    ),
    "PubTator of another": (
        "tagging",
        {"f.txt": pubtator().replace("100\t0", "999\t0", 1)},
        {},
        r"line 3: '999.*' belongs to no title",
    ),
    "PubTator without abstract": (
        "tagging",
        {"f.txt": pubtator().replace("100|a|", "999|a|", 1)},
        {},
        r"line 2: the abstract of '999' does not follow",
    ),
    "PubTator columns": (
        "tagging",
        {"f.txt": pubtator().replace("\tDisease\tD1", "", 1)},
        {},
        r"line 3: expected id, start, end|belongs to no",
    ),
    "PubTator twice, not alike": (
        "tagging",
        {"f.txt": pubtator() + "100|t|Other.\n100|a|Text.\n"},
        {},
        r"line 61: '100' was already there in line 1",
    ),
    "BRAT without marks": (
        "tagging",
        {k: v for k, v in brat().items() if k != "b/03.ann"},
        {"train": "b"},
        r"03\.txt: has no 03\.ann beside it",
    ),
    "BRAT without text": (
        "tagging",
        {k: v for k, v in brat().items() if k != "b/03.txt"},
        {"train": "b"},
        r"03\.ann: has no 03\.txt beside it",
    ),
    "BRAT offset": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 1 13\tColon cancer\n"},
        {"train": "b"},
        r"03\.ann, line 1: 'Colon cancer' is not at 1 13",
    ),
    "BRAT outside": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 0 99\tColon cancer\n"},
        {"train": "b"},
        r"03\.ann, line 1: 0-99 lies outside of 03\.txt",
    ),
    "BRAT id twice": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 0 12\tColon cancer\n" * 2},
        {"train": "b"},
        r"03\.ann, line 2: T1 was already used in line 1",
    ),
    "BRAT line": (
        "tagging",
        {**brat(), "b/03.ann": "T1 Disease 0 12 Colon cancer\n"},
        {"train": "b"},
        r"03\.ann, line 1: expected T1, type and offsets",
    ),
    "BRAT NUL": (
        "tagging",
        {**brat(), "b/03.txt": "Colon\0cancer"},
        {"train": "b"},
        r"03\.txt, line 1: holds a NUL",
    ),
    # Parquet and saved datasets
    "Parquet that is none": (
        "classification",
        {"f.parquet": b"PAR1 not"},
        {},
        r"f\.parquet: is no Parquet file",
    ),
    "dataset without tables": (
        "classification",
        {"d/state.json": "{}", "d/dataset_info.json": "{}"},
        {"train": "d"},
        r"state\.json: is not what a saved dataset has",
    ),
    "dataset that points away": (
        "classification",
        {
            "d/state.json": '{"_data_files": [{"filename": "../x.arrow"}]}',
            "d/dataset_info.json": "{}",
        },
        {"train": "d"},
        r"names a file outside of its folder",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    kind, files, changed, said = BROKEN[name]
    with pytest.raises(BluestabError, match=said) as caught:
        load(kind, files, **changed)
    text = str(caught.value)
    assert isinstance(caught.value, ConfigError | DataError)
    assert len(text) < 700, "texts of the data stay out of errors"


def test_there_are_forty_and_more() -> None:
    assert len(BROKEN) >= 40


# --- what is repaired is said ---------------------------------------------------------------------

REPAIRED: dict[str, tuple[str, Mapping[str, str | bytes], Node, str]] = {
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
    "semicolons": ("classification", {CSV: rows(sep=";")}, {}, "the separator is a semicolon"),
    "empty rows": (
        "classification",
        {CSV: rows() + ",\n,\n"},
        {},
        "2 rows without any content were left out",
    ),
    "lines in a text": (
        "classification",
        {CSV: rows() + '"a\nb",yes\n'},
        {},
        "1 rows go over several lines (first: line 42)",
    ),
    "quoted TSV": (
        "classification",
        {TSV: rows(sep="\t") + '"a ""b"" c"\tyes\n'},
        {},
        "without them (task.quoting)",
    ),
    "ids that repeat": (
        "classification",
        {CSV: "id,text,label\n" + "".join(f"1,a {i},{i % 2}\n" for i in range(20))},
        {},
        "'id' has empty or repeated cells",
    ),
    "gzip": ("classification", {"f.csv.gz": rows()}, {}, "f.csv.gz: csv, 40 rows"),
    "IOB1": (
        "tagging",
        {WORDS: conll(tags=("I-D", "I-D", "O"))},
        {},
        "read as IOB1: 20 entities start with I-",
    ),
    "IOBES": ("tagging", {WORDS: conll(tags=("B-D", "E-D", "O"))}, {}, "tags are IOBES"),
    "bare": ("tagging", {WORDS: conll(tags=("D", "D", "O"))}, {}, "tags are bare types"),
    "comments": (
        "tagging",
        {WORDS: "# sent_id = 1\n" + conll()},
        {},
        "1 comment lines (first: line 1)",
    ),
    "four columns": (
        "tagging",
        {WORDS: conll().replace("\t", "\tNN\tX\t")},
        {},
        "of 4 columns, 0 holds the words and 3 the tags",
    ),
    "abstract twice": (
        "tagging",
        {"f.txt": pubtator() + pubtator(1)},
        {},
        "1 abstracts that are there twice were counted once",
    ),
    "relations": (
        "tagging",
        {"f.txt": pubtator() + "111\tCID\tD1\tD2\n"},
        {},
        "1 relations were passed over",
    ),
    "blanks in a mention": (
        "tagging",
        {"f.txt": pubtator().replace("\tColon cancer\t", "\tColon  cancer\t", 1)},
        {},
        "1 mentions differs in blanks",
    ),
    "BRAT relations": (
        "tagging",
        {
            **brat(),
            "b/03.ann": "T1\tDisease 0 12\tColon cancer\nR1\tX Arg1:T1 Arg2:T1\n#1\tNote T1\tx\n",
        },
        {"train": "b"},
        "1 relations were passed over",
    ),
    "discontinuous": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 0 5;17 21\tColon gout\n"},
        {"train": "b"},
        "1 of 23 mentions in several parts (discontinuous) were left out",
    ),
    "nested": (
        "tagging",
        {JSONL: spans() + '{"text": "colon cancer", "spans": [[0, 12, "D"], [0, 5, "D"]]}\n'},
        {},
        "1 of 22 mentions that overlap a longer one",
    ),
    "overlapping": (
        "tagging",
        {JSONL: spans() + '{"text": "colon cancer gout", "spans": [[0, 12, "D"], [6, 17, "D"]]}\n'},
        {},
        "1 of 22 mentions that overlap a longer one",
    ),
    "span twice": (
        "tagging",
        {JSONL: spans() + '{"text": "colon cancer", "spans": [[0, 12, "D"], [0, 12, "D"]]}\n'},
        {},
        "1 of 22 mentions that are there twice",
    ),
    "inside a word": (
        "tagging",
        {JSONL: spans() + '{"text": "anticancer", "spans": [[4, 10, "D"]]}\n'},
        {},
        "1 of 21 mentions that begin or end inside a word",
    ),
    "blank span": (
        "tagging",
        {JSONL: spans() + '{"text": "a  b", "spans": [[1, 3, "D"]]}\n'},
        {},
        "1 of 21 mentions that hold no word",
    ),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_or_left_out_is_said(load: Load, name: str) -> None:
    kind, files, changed, said = REPAIRED[name]
    if name == "BRAT relations" or name == "discontinuous":
        files = dict(sorted(files.items()))
    notes = load(kind, files, **changed).notes
    assert any(said in note for note in notes), notes


# --- the same corpus in every format -------------------------------------------------------------

EXPECTED = [(f"case {i} of colon cancer seen", 10 + (i > 9), 22 + (i > 9)) for i in range(20)]


def entities(data: TaskData) -> Counter[tuple[str, ...]]:
    """Words of every entity, of all parts."""
    found: Counter[tuple[str, ...]] = Counter()
    for examples in data.splits.values():
        for e in examples:
            tags, words = list(e.target), list(e.text)  # type: ignore[arg-type]
            for i, tag in enumerate(tags):
                if tag.startswith("B"):
                    end = next(
                        (j for j in range(i + 1, len(tags)) if not tags[j].startswith("I")),
                        len(tags),
                    )
                    found[(tag[2:], *words[i:end])] += 1
    return found


def test_a_corpus_is_the_same_in_every_format(load: Load, tmp_path: Path) -> None:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [text for text, _, _ in EXPECTED]
    tagged = [["O"] * 3 + ["B-D", "I-D", "O"] for _ in texts]
    lists = [{"tokens": t.split(), "tags": tags} for t, tags in zip(texts, tagged, strict=True)]
    columns: dict[str, str | bytes] = {
        WORDS: "".join(
            "".join(f"{w}\t{t}\n" for w, t in zip(x["tokens"], x["tags"], strict=True)) + "\n"
            for x in lists
        ),
        "g.conll": "".join(
            "".join(f"{w} NN {t[2:] or 'O'}\n" for w, t in zip(x["tokens"], x["tags"], strict=True))
            + "\n"
            for x in lists
        ),
        JSONL: spans(),
        JSON: json.dumps(lists),
        "doccano.jsonl": spans().replace("spans", "label"),
        "spacy.jsonl": "".join(
            json.dumps({"text": t, "entities": [{"start": a, "end": b, "label": "D"}]}) + "\n"
            for t, a, b in EXPECTED
        ),
        TSV: "tokens\ttags\n"
        + "".join(f"{t}\t{' '.join(g)}\n" for t, g in zip(texts, tagged, strict=True)),
        "words.csv": "Sentence #,Word,POS,Tag\n"
        + "".join(
            f"{'' if i else f'Sentence: {n}'},{w},NN,{t}\n"
            for n, x in enumerate(lists)
            for i, (w, t) in enumerate(zip(x["tokens"], x["tags"], strict=True))
        ),
        "words.tsv": "token\tner\tsentence_id\n"
        + "".join(
            f"{w}\t{t}\t{n}\n"
            for n, x in enumerate(lists)
            for w, t in zip(x["tokens"], x["tags"], strict=True)
        ),
        "label_studio.json": json.dumps(
            [
                label_studio(
                    {"text": t},
                    ("labels", {"start": a, "end": b, "text": t[a:b], "labels": ["D"]}),
                    id=i,
                )
                for i, (t, a, b) in enumerate(EXPECTED)
            ]
        ),
        "label_studio_min.json": json.dumps(
            [
                {"text": t, "id": i, "label": [{"start": a, "end": b, "labels": ["D"]}]}
                for i, (t, a, b) in enumerate(EXPECTED)
            ]
        ),
    }
    for name in columns:
        found = entities(load("tagging", {name: columns[name]}))
        assert found == {("D", "colon", "cancer"): 20}, name
    pq.write_table(pa.Table.from_pylist(lists), tmp_path / "f.parquet")
    names = ["O", "B-D", "I-D"]
    numbered = [
        {"tokens": x["tokens"], "ner_tags": [names.index(t) for t in x["tags"]]} for x in lists
    ]
    features = datasets.Features(
        tokens=datasets.Sequence(datasets.Value("string")),
        ner_tags=datasets.Sequence(datasets.ClassLabel(names=names)),
    )
    whole = datasets.Dataset.from_list(numbered, features=features)
    whole.save_to_disk(tmp_path / "saved")
    whole.to_parquet(tmp_path / "named.parquet")
    parts = datasets.DatasetDict(
        train=whole.select(range(12)).flatten_indices(),
        validation=whole.select(range(12, 16)).flatten_indices(),
        test=whole.select(range(16, 20)).flatten_indices(),
    )
    parts.save_to_disk(tmp_path / "parts")
    for name in ("f.parquet", "saved", "named.parquet", "parts"):
        data = load("tagging", {"unused": "x"}, train=name)
        assert entities(data) == {("D", "colon", "cancer"): 20}, name
    sizes = [
        len(load("tagging", {"unused": "x"}, train="parts").splits[s])
        for s in ("train", "validation", "test")
    ]
    assert sizes == [12, 4, 4], "the parts of a saved dataset are taken as they are"


def label_studio(data: Any, *results: tuple[str, Any], **more: Any) -> dict[str, Any]:
    """A task of Label Studio's export, annotated once by a control `label`."""
    found = [{"type": kind, "from_name": "label", "value": value} for kind, value in results]
    return {"data": data, "annotations": [{"result": found, "was_cancelled": False}], **more}


def test_rows_of_words_keep_sentences_and_documents(load: Load) -> None:
    rows = [f"w{n}x{i},{'B-D' if i % 2 else 'O'},{n},{n // 2}" for n in range(20) for i in range(3)]
    text = "\n".join(["word,tag,sent_id,pmid", *rows])
    data = load("tagging", {"f.csv": text})
    items = [item for part in data.splits.values() for item in part]
    assert {item.id for item in items} == set(map(str, range(20)))
    assert {item.group for item in items} == set(map(str, range(10)))
    assert all(len(item.text) == 3 for item in items)
    named = load("tagging", {"g.csv": text.replace("sent_id", "s")}, sentence="s")
    assert [e.text for e in named.splits["train"]] == [e.text for e in data.splits["train"]]


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


def test_items_of_one_line_have_names(load: Load) -> None:
    items = [{"text": f"t {i}", "label": "ab"[i % 2]} for i in range(20)]
    data = load("classification", {JSON: json.dumps(items)})
    names = {e.id for examples in data.splits.values() for e in examples}
    assert names == {f"item {i}" for i in range(1, 21)}
    with pytest.raises(
        DataError, match=r"f\.json, line 1: item 21: label \(task\.label\) is empty"
    ):
        load("classification", {JSON: json.dumps([*items, {"text": "x"}])})


def test_offsets_are_kept_to_the_end(load: Load) -> None:
    data = load("tagging", {"f.txt": pubtator()})
    for examples in data.splits.values():
        for e in examples:
            i = int(e.id) - 100
            text = f"Colon cancer. A case of gout {i}."
            assert e.offsets is not None
            assert [text[a:b] for a, b in e.offsets] == list(e.text)
            assert e.group == e.id, "a PubMed id is never split apart"


# --- counts of real corpora, counted independently -----------------------------------------------


def test_counts_of_real_corpora(load: Load) -> None:
    """Lines that say an entity starts here, counted with a regular expression and nothing else."""
    import re

    root = real_data()
    ner = {s: root / "scierc" / "ner" / f"{s}.txt" for s in ("train", "dev", "test")}
    data = load(
        "tagging",
        {"unused": "x"},
        train=str(ner["train"]),
        validation=str(ner["dev"]),
        test=str(ner["test"]),
    )
    assert [
        sum(t.startswith("B") for e in data.splits[s] for t in e.target)
        for s in ("train", "validation", "test")
    ] == [5572, 808, 1683]
    for file, n in (
        ("bc5cdr/pubtator/CDR_TestSet.PubTator.txt", 5385 + 4424),
        ("ncbi_disease/pubtator/NCBItestset_corpus.txt", 960),
    ):
        path = root / file
        lines = re.findall(r"(?m)^\d+\t(\d+)\t(\d+)\t", path.read_text(encoding="utf-8"))
        assert len(lines) == n
        data = load("tagging", {"unused": "x"}, train=str(path))
        kept = sum(
            t.startswith("B") for part in data.splits.values() for e in part for t in e.target
        )
        dropped = sum(
            int(note.split()[0])
            for note in data.notes
            if " mentions " in note and "widened" not in note
        )
        assert kept + dropped == n, data.notes
    gad = root / "gad" / "train.tsv"
    counts = Counter(line.rsplit("\t", 1)[1] for line in gad.read_text().splitlines()[1:])
    data = load("classification", {"unused": "x"}, train=str(gad))
    assert Counter(e.target for part in data.splits.values() for e in part) == counts
    table = root / "medical_abstracts" / "medical_tc_test.csv"
    data = load(
        "classification",
        {"unused": "x"},
        train=str(table),
        text="medical_abstract",
        label="condition_label",
    )
    counts = Counter(str(e.target) for part in data.splits.values() for e in part)
    assert counts == {"1": 633, "2": 299, "3": 385, "4": 610, "5": 961}

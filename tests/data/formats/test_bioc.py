"""BioC in JSON: whose offsets count, how documents may be wrapped, and what is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bluestab.data.formats.bioc import read_bioc
from bluestab.data.formats.pubtator import read_pubtator_documents
from tests.conftest import real_data
from tests.support.own_files import Broken, Load, bioc_documents, refuses

BIOC = "f.json"


def written(documents: list[Any]) -> str:
    return json.dumps({"source": "ours", "documents": documents}, indent=1)


def first_passage(**changed: Any) -> str:
    documents = bioc_documents()
    documents[0]["passages"][0] |= changed
    return written(documents)


def first_mention(**changed: Any) -> str:
    documents = bioc_documents()
    documents[0]["passages"][0]["annotations"][0] |= changed
    return written(documents)


BROKEN: dict[str, Broken] = {
    "a column": ("tagging", {BIOC: written(bioc_documents())}, {"text": "text"}, "is bioc, which"),
    "elsewhere": (
        "tagging",
        {BIOC: first_mention(text="gout")},
        {},
        r"f\.json, line 4: document '0': 'gout' is not at 0-12 of the passage, 'Colon cancer' is",
    ),
    "outside": (
        "tagging",
        {BIOC: first_mention(locations=[{"offset": 0, "length": 999}])},
        {},
        "document '0': 0-999 of the passage lies outside",
    ),
    "in the passage before": (
        "tagging",
        {BIOC: first_passage(offset=5)},
        {},
        "-5-7 of the passage lies outside",
    ),
    "no number": (
        "tagging",
        {BIOC: first_mention(locations=[{"offset": "here", "length": 3}])},
        {},
        "is no offset and length",
    ),
    "no place to begin": ("tagging", {BIOC: first_passage(offset=None)}, {}, "has no offset"),
    "no text": ("tagging", {BIOC: first_passage(text="")}, {}, "with mentions has no text"),
    "no annotations": (
        "tagging",
        {BIOC: first_passage(annotations=None)},
        {},
        "a text has no list of annotations",
    ),
    "no infons": (
        "tagging",
        {BIOC: first_passage(annotations=[{"text": "x", "locations": []}])},
        {},
        "an annotation lacks infons or locations",
    ),
    "no id": (
        "tagging",
        {BIOC: written([{**bioc_documents()[0], "id": None}])},
        {},
        "line 4: a document has no id",
    ),
    "twice": (
        "tagging",
        {BIOC: written([*bioc_documents(), bioc_documents()[0]])},
        {},
        "document '0' is there twice",
    ),
    "cut off": ("tagging", {BIOC: written(bioc_documents())[:-90]}, {}, "is no JSON"),
    "none": ("tagging", {BIOC: written([{"id": "1", "passages": []}])}, {}, "holds no passage"),
    "classes": ("classification", {BIOC: written(bioc_documents())}, {}, "bioc"),
    "XML": ("tagging", {"f.xml": "<collection/>"}, {}, "of BioC the JSON form is read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_reason(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


@pytest.mark.parametrize("form", ["collection", "service", "lines", "one", "sentences"])
def test_documents_however_they_are_wrapped(load: Load, form: str, tmp_path: Path) -> None:
    documents = bioc_documents(1 if form == "one" else 20)
    if form == "sentences":
        for document in documents:
            for passage in document["passages"]:
                own = {name: passage.pop(name) for name in ("text", "annotations")}
                passage["sentences"] = [{"offset": passage["offset"], **own}]
    text = {
        "collection": written(documents),
        "service": json.dumps({"PubTator3": documents}),
        "lines": "\n".join(map(json.dumps, documents)),
        "one": json.dumps(documents[0]),
        "sentences": written(documents),
    }[form]
    (tmp_path / BIOC).write_text(text)
    read = read_bioc(tmp_path / BIOC)
    assert len(read.documents) == 2 * len(documents)
    for i, passage in enumerate(read.documents):
        (span,) = passage.spans
        assert passage.document == str(i // 2)
        assert passage.text[span.start : span.end] == ("gout" if i % 2 else "Colon cancer")
        assert (span.type, span.concept) == ("Disease", "MESH:D1")
    if form == "collection":
        data = load("tagging", {BIOC: text})
        items = [e for split in data.splits.values() for e in split]
        assert sum(tag == "B-Disease" for e in items for tag in e.target) == 40
        assert len({e.group for e in items}) == 20


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    documents = bioc_documents(2)
    documents[0]["relations"] = [{"id": "R1"}, {"id": "R2"}]
    passage = documents[0]["passages"][0]
    (mention,) = passage["annotations"]
    passage["annotations"] += [{**mention, "id": "again"}, {**mention, "infons": {}}]
    passage["annotations"].append({**mention, "locations": []})
    (tmp_path / BIOC).write_text(written(documents))
    read = read_bioc(tmp_path / BIOC)
    assert [len(p.spans) for p in read.documents] == [1, 1, 1, 1], "one that is there twice is one"
    assert read.notes == (
        "2 annotations without a type or place were passed over",
        "2 relations were passed over",
    )


def test_a_mention_in_parts(tmp_path: Path) -> None:
    documents = bioc_documents(1)
    mention = documents[0]["passages"][1]["annotations"][0]
    begin = documents[0]["passages"][1]["offset"]
    mention |= {
        "text": "Patients gout",
        "locations": [{"offset": begin, "length": 8}, mention["locations"][0]],
    }
    (tmp_path / BIOC).write_text(written(documents))
    assert read_bioc(tmp_path / BIOC).documents[1].spans[0].stretches == ((0, 8), (14, 18))


def test_a_real_corpus_says_the_same_in_both_formats(tmp_path: Path) -> None:
    """PubTator of BC5CDR, written as BioC of a title and an abstract."""
    path = real_data() / "bc5cdr/pubtator/CDR_TestSet.PubTator.txt"
    documents, expected = [], []
    for one in read_pubtator_documents(path).documents:
        spans = [(s.start, s.end, s.type, s.concept) for s in one.spans]
        cut = next(i for i in range(len(one.text)) if one.text[i] == "." and one.text[i + 1] == " ")
        if any(start <= cut + 1 < end for start, end, *_ in spans):
            continue
        expected += [(one.text[a:b], kind, concept) for a, b, kind, concept in set(spans)]
        passages = []
        for begin, end in ((0, cut + 1), (cut + 2, len(one.text))):
            inside = [
                {
                    "infons": {"type": kind, "identifier": concept},
                    "text": one.text[a:b],
                    "locations": [{"offset": a, "length": b - a}],
                }
                for a, b, kind, concept in spans
                if begin <= a and b <= end
            ]
            passages.append({"offset": begin, "text": one.text[begin:end], "annotations": inside})
        documents.append({"id": one.id, "passages": passages})
    assert len(documents) > 400
    (tmp_path / BIOC).write_text(written(documents))
    found = [
        (p.text[s.start : s.end], s.type, s.concept)
        for p in read_bioc(tmp_path / BIOC).documents
        for s in p.spans
    ]
    assert sorted(found) == sorted(expected)

"""A person's own files in every format, whole and broken, and what loading them says."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose, resolved
from bluestab.core.errors import BluestabError, ConfigError, DataError
from bluestab.tasks.data import TaskData, load_task

Node = dict[str, Any]
Load = Callable[..., TaskData]
Broken = tuple[str, Mapping[str, str | bytes], Node, str]
"""Kind of task, files (name -> content), knobs changed, and a pattern of what must be said."""

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


def bioc_documents(n: int = 12) -> list[Any]:
    """Documents of a title and an abstract, a mention in each."""
    documents = []
    for i in range(n):
        parts = (
            (f"Colon cancer {i}.", "Colon cancer", 0),
            (f"Patients have gout {i}.", "gout", 14),
        )
        passages, begin = [], 0
        for text, mention, at in parts:
            annotation = {
                "id": "1",
                "infons": {"type": "Disease", "identifier": "MESH:D1"},
                "text": mention,
                "locations": [{"offset": begin + at, "length": len(mention)}],
            }
            passages.append({"offset": begin, "text": text, "annotations": [annotation]})
            begin += len(text) + 1
        documents.append({"id": str(i), "passages": passages})
    return documents


def brat(n: int = 12) -> dict[str, str]:
    files: dict[str, str] = {}
    for i in range(n):
        files[f"b/{i:02}.txt"] = f"Colon cancer and gout {i} .\n"
        files[f"b/{i:02}.ann"] = "T1\tDisease 0 12\tColon cancer\nT2\tDisease 17 21\tgout\n"
    return files


CSV, TSV, JSONL, JSON, WORDS = "f.csv", "f.tsv", "f.jsonl", "f.json", "f.conll"


def label_studio(data: Any, *results: tuple[str, Any], **more: Any) -> dict[str, Any]:
    """A task of Label Studio's export, annotated once by a control `label`."""
    found = [{"type": kind, "from_name": "label", "value": value} for kind, value in results]
    return {"data": data, "annotations": [{"result": found, "was_cancelled": False}], **more}


def refuses(load: Load, broken: Broken) -> None:
    """Raises AssertionError unless loading the file gives an error that says what is wrong."""
    kind, files, changed, said = broken
    with pytest.raises(BluestabError, match=said) as caught:
        load(kind, files, **changed)
    text = str(caught.value)
    assert isinstance(caught.value, ConfigError | DataError)
    assert len(text) < 700, "texts of the data stay out of errors"


def notes(load: Load, repaired: Broken) -> None:
    """Raises AssertionError unless a note says what was repaired or left out."""
    kind, files, changed, said = repaired
    notes = load(kind, files, **changed).notes
    assert any(said in note for note in notes), notes

"""Raw text: what a document is, files of every kind and folders of them, and what is no text."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bluestab.core.errors import DataError
from bluestab.data.formats.base import MOST_CHARACTERS
from bluestab.data.formats.raw_text import documents_of_text, files_in, format_of_raw
from tests.tasks.test_masked_language import task_of


def texts(path: Path, **changes: str) -> list[tuple[str, str]]:
    return task_of(**changes).documents_in(path)[0]


def test_blank_lines_divide_documents_else_lines_do(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one\ntwo\n\n\nthree\n", encoding="utf-8")
    assert documents_of_text(file, "auto")[0] == [("line 1", "one\ntwo"), ("line 5", "three")]
    assert len(documents_of_text(file, "line")[0]) == 3
    assert documents_of_text(file, "file")[0] == [("line 1", "one\ntwo\nthree")]
    file.write_text("\none\ntwo\n\n", encoding="utf-8")  # none inside
    found, notes = documents_of_text(file, "auto")
    assert found == [("line 2", "one"), ("line 3", "two")]
    assert notes == ["2 documents, one per line (task.documents)"]


def test_tables_and_packed_files_and_folders(tmp_path: Path) -> None:
    rows = [{"pmid": 1, "text": "first"}, {"pmid": 2, "text": " "}, {"pmid": 3, "text": "second"}]
    lines = "\n".join(map(json.dumps, rows))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as packed:
        packed.write(lines)
    (tmp_path / "c.csv").write_text("id,abstract\n1,third\n2,fourth\n", encoding="utf-8")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "d.txt").write_text("fifth", encoding="utf-8")
    (tmp_path / "README.md").write_text("no data", encoding="utf-8")
    files = files_in(tmp_path)
    assert [f.name for f in files] == ["b.jsonl.gz", "c.csv", "d.txt"]
    assert [format_of_raw(f) for f in files] == ["jsonl", "csv", "text"]
    task = task_of(train=str(tmp_path))
    corpus = task.read_all({"train": tmp_path})
    assert [e.text for e in corpus.splits["train"]] == [
        "first", "second", "third", "fourth", "fifth",
    ]  # fmt: skip
    assert len({e.id for e in corpus.splits["train"]}) == 5
    assert corpus.notes == (f"{tmp_path.name}: 5 documents in 3 files",)
    assert task.documents_in(files[0])[1][-1] == "1 row without a text passed over"


def test_what_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    for content, said in (
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"ok\ncaf\xe9", "line 2: byte 0xe9 is not UTF-8"),
        (b"\xff\xfea\x00", "is UTF-16"),
        (b"a\x00b", "NUL character"),
        (b"PK\x03\x04rest", "is a ZIP archive"),
        (b"x" * (MOST_CHARACTERS + 1), "a text of 1,000,001 characters"),
        (b"word\n" * (MOST_CHARACTERS // 4) + b"\nlast", "a text of"),
    ):
        file.write_bytes(content)
        with pytest.raises(DataError) as error:
            texts(file)
        assert said in str(error.value)
        assert "\n" not in str(error.value)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="is a folder without any file of text"):
        files_in(tmp_path / "none")
    with pytest.raises(DataError, match="an archive: unpack it; for pretraining"):
        format_of_raw(tmp_path / "x.tar")
    (tmp_path / "e.jsonl").write_text('{"text": ""}\n{"text": null}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"column 'text' \(task.text\) holds no text in any row"):
        texts(tmp_path / "e.jsonl")

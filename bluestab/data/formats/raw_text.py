"""Raw text for pretraining: files, or a folder of them, as documents, nothing labelled.

A text file holds documents with blank lines between them, as BERT's own pretraining data, or one
per line. Tables (JSONL, CSV, Parquet, ...) hold one per row, in a column. Any of them may be packed
(.gz); a folder is read file by file, so that no more than one is in memory beside the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.core.printable import counted
from bluestab.data.formats.base import MOST_CHARACTERS, Rows, as_text, lines_in, too_long
from bluestab.data.formats.columnar import is_dataset
from bluestab.data.formats.recognise import ENDINGS, NO_DATA, OTHERS, suffix_of

TEXT = "text"
TABLES = ("csv", "tsv", "json", "jsonl", "parquet", "dataset")
DOCUMENTS = ("auto", "line", "paragraph", "file")
"""What a document of a text file is: auto: a paragraph if the file has blank lines inside, else a
line."""

ENDINGS_OF_TABLES = {**{e: f for e, f in ENDINGS.items() if f in TABLES}, ".tsv": "tsv"}
Raw = tuple[str, str]
"""(name of a document, its text)."""


def files_in(path: Path) -> list[Path]:
    """The files that make up a corpus, in the order of their names: the file itself, or those of a
    folder and of the folders in it. Raises DataError if there are none."""
    if not path.is_dir() or is_dataset(path):
        return [path]
    found = sorted(p for p in path.rglob("*") if p.is_file() and not NO_DATA.match(p.name))
    if not found:
        raise DataError(path, "is a folder without any file of text")
    return found


def format_of_raw(path: Path) -> str:
    """The format of a file by its name; what no table is called is text.

    Raises DataError for archives and the like.
    """
    if path.is_dir():
        return "dataset"
    suffix = suffix_of(path)
    if suffix in OTHERS:
        raise DataError(path, f"is {OTHERS[suffix]}; for pretraining: text, {', '.join(TABLES)}")
    return ENDINGS_OF_TABLES.get(suffix, TEXT)


def documents_of_text(path: Path, kind: str) -> tuple[list[Raw], list[str]]:
    """Documents of a text file (`kind`: one of DOCUMENTS), named by the line on which they begin,
    and notes. Raises DataError for what is no text in UTF-8, or for a longer one than is read."""
    lines, notes = lines_in(path)
    if kind == "auto":
        filled = [number for number, line in enumerate(lines) if line.strip()]
        divided = any(not line.strip() for line in lines[filled[0] : filled[-1]])
        kind = "paragraph" if divided else "line"
    if kind == "line":
        found = [(f"line {n}", line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    else:
        found = list(_joined(path, lines, kind == "paragraph"))
    return found, [*notes, f"{len(found)} documents, one per {kind} (task.documents)"]


def _joined(path: Path, lines: list[str], divided: bool) -> Iterator[Raw]:
    """Lines in one text each, ended by a blank line if `divided`, else by the end of the file."""
    begun, held = 0, list[str]()
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            begun = begun if held else number
            held.append(line.strip())
        if held and (number > len(lines) or (divided and not line.strip())):
            text = "\n".join(held)
            if len(text) > MOST_CHARACTERS:
                raise too_long(path, len(text), begun)
            yield f"line {begun}", text
            held = []


def documents_of_rows(rows: Rows, column_of: Callable[[Rows], str]) -> tuple[list[Raw], list[str]]:
    """Documents of a table, one per row, and notes; rows without a text are passed over.

    column_of  the column with the texts
    """
    column = column_of(rows)
    values = [as_text(value) for value in rows.column(column, "task.text")]
    found = [
        (f"{rows.unit} {place}", text)
        for place, text in zip(rows.lines, values, strict=True)
        if text is not None and text.strip()
    ]
    if not found:
        raise DataError(rows.path, f"column {column!r} (task.text) holds no text in any row")
    said = [*rows.notes, f"{counted(len(found), 'document')}, one per row; text is {column!r}"]
    if passed := len(values) - len(found):
        said.append(f"{counted(passed, 'row')} without a text passed over")
    return found, said

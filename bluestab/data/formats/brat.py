"""BRAT: a folder of texts `NAME.txt`, each with its mentions in `NAME.ann`."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.formats.base import MOST_CHARACTERS, Document, Documents, Span, short, too_long
from bluestab.data.readers import read_bytes, text_of

OFFSETS = re.compile(r"\d+ \d+(;\d+ \d+)*")
OTHERS = {"R": "relations", "E": "events", "A": "attributes", "M": "attributes",
          "N": "normalisations", "#": "notes of annotators", "*": "equivalences"}  # fmt: skip


def read_brat(path: Path) -> Documents:
    """All documents of a folder, in the order of their names; a text is one item.

    Offsets count characters. Raises DataError for a text without annotations or the other way
    round, and for a mention whose text is not where it says.
    """
    if not path.is_dir():
        raise DataError(path, "is no folder; BRAT is a folder of .txt and .ann files")
    texts, marks = ({f.stem: f for f in sorted(path.glob(f"*{end}"))} for end in (".txt", ".ann"))
    if not texts and not marks:
        raise DataError(path, "holds no .txt and no .ann files")
    for one, other, end in ((texts, marks, ".ann"), (marks, texts, ".txt")):
        if lacking := sorted(one.keys() - other.keys()):
            raise DataError(
                one[lacking[0]],
                f"has no {lacking[0]}{end} beside it"
                + ("; an empty file says that nothing is marked" if end == ".ann" else ""),
            )
    passed: Counter[str] = Counter()
    documents = [_document(name, texts[name], marks[name], passed) for name in sorted(texts)]
    said = [f"{n} {what} were passed over" for what, n in sorted(passed.items())]
    return Documents(path, documents, tuple(said))


def _document(name: str, text_file: Path, mark_file: Path, passed: Counter[str]) -> Document:
    text = _content(text_file)
    if not text.strip():
        raise DataError(text_file, "is empty")
    if len(text) > MOST_CHARACTERS:
        raise too_long(text_file, len(text), None)
    spans: list[Span] = []
    ids: dict[str, int] = {}
    for number, line in enumerate(_content(mark_file).split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        if line[0] in OTHERS:
            passed[OTHERS[line[0]]] += 1
            continue
        fields = line.split("\t")
        if not re.fullmatch(r"T\S+", fields[0]) or len(fields) < 3:
            raise DataError(
                mark_file,
                f"expected T1, type and offsets, text, separated by tabs, found {short(line)}",
                number,
            )
        if fields[0] in ids:
            raise DataError(
                mark_file, f"{fields[0]} was already used in line {ids[fields[0]]}", number
            )
        ids[fields[0]] = number
        kind, _, offsets = fields[1].partition(" ")
        if not OFFSETS.fullmatch(offsets):
            raise DataError(mark_file, f"{short(fields[1])} is no type with offsets", number)
        parts = [tuple(map(int, part.split())) for part in offsets.split(";")]
        for start, end in parts:
            if not 0 <= start < end <= len(text):
                raise DataError(
                    mark_file,
                    f"{start}-{end} lies outside of {text_file.name}, which has {len(text)} "
                    "characters, or holds nothing",
                    number,
                )
        there = " ".join(text[start:end] for start, end in parts)
        if _plain(there) != _plain(fields[2]):
            raise DataError(
                mark_file,
                f"{short(fields[2])} is not at {offsets}, {short(there)} is: the text was changed "
                "after it was annotated, or offsets do not count characters",
                number,
            )
        spans.append(Span(parts[0][0], parts[-1][1], kind, number, len(parts)))
    return Document(name, text, tuple(spans), mark_file, 1, name)


def _content(path: Path) -> str:
    """A text file with its line ends as they are: offsets count them."""
    text = text_of(path, read_bytes(path))
    at = text.find("\0")
    if at >= 0:
        raise DataError(path, "holds a NUL character", text.count("\n", 0, at) + 1)
    return text


def _plain(text: str) -> str:
    """BRAT writes a line end inside a mention as a blank."""
    return " ".join(text.split())

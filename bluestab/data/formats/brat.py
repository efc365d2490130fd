"""BRAT: a folder of texts `NAME.txt`, each with its mentions in `NAME.ann`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.formats.base import MOST_CHARACTERS, Document, Documents, Span, short, too_long
from bluestab.data.formats.offsets import check_inside, covered, in_characters
from bluestab.data.readers import read_bytes, text_of

OFFSETS = re.compile(r"\d{1,12} \d{1,12}(;\d{1,12} \d{1,12})*")
DOUBTED = ("AnnotationUnconfirmed", "AnnotationIncomplete", "AnnotationError")
"""Comments by which brat marks what a program suggested, or what is not right yet."""

REJECTED = ("reject", "rejected", "ignore", "ignored", "unconfirmed")
"""Values of attributes by which annotators mark a mention that does not count."""

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
    read = _Read()
    documents = [_document(name, texts[name], marks[name], read) for name in sorted(texts)]
    documents, moved = in_characters(documents, _check)
    documents = [
        replace(d, spans=tuple(_joined(d.text, span) for span in d.spans)) for d in documents
    ]
    if read.n_doubted and not any(d.spans for d in documents):
        raise DataError(
            path,
            f"all {read.n_doubted} mentions are marked as unconfirmed, incomplete, wrong or "
            "rejected: nobody accepted any",
        )
    return Documents(path, documents, (*read.notes(), *moved))


@dataclass
class _Read:
    """What was met beside mentions.

    passed      what is not read, how often; attributes: their names
    n_triggers  mentions that are triggers of events
    n_doubted   mentions that are marked as not accepted
    """

    passed: Counter[str] = field(default_factory=Counter)
    attributes: Counter[str] = field(default_factory=Counter)
    n_triggers: int = 0
    n_doubted: int = 0

    def notes(self) -> list[str]:
        said = []
        for what, n in sorted(self.passed.items()):
            names = ", ".join(f"{name} {k}" for name, k in sorted(self.attributes.items()))
            of = f" ({names})" if what == OTHERS["A"] else ""
            said.append(f"{n} {what}{of} were passed over")
        if self.n_triggers:
            said.append(f"among the entities are triggers of events: {self.n_triggers}")
        if self.n_doubted:
            said.append(
                f"{self.n_doubted} mentions that are marked as unconfirmed, incomplete, wrong or "
                "rejected were left out"
            )
        return said


def _document(name: str, text_file: Path, mark_file: Path, read: _Read) -> Document:
    text = _content(text_file)
    if not text.strip():
        raise DataError(text_file, "is empty")
    if len(text) > MOST_CHARACTERS:
        raise too_long(text_file, len(text), None)
    spans: list[Span] = []
    ids: dict[str, int] = {}
    triggers: set[str] = set()
    doubted: set[str] = set()
    for number, line in enumerate(_content(mark_file).split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        if line[0] in OTHERS:
            read.passed[OTHERS[line[0]]] += 1
            _other(line, read, triggers, doubted)
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
        stretches = tuple((int(a), int(b)) for a, b in map(str.split, offsets.split(";")))
        start, end = min(a for a, _ in stretches), max(b for _, b in stretches)
        spans.append(Span(start, end, kind, number, fields[2], stretches))
    wrong = {ids[name] for name in doubted & ids.keys()}
    kept = [span for span in spans if span.line not in wrong]
    read.n_doubted += len(spans) - len(kept)
    read.n_triggers += len(triggers & ids.keys())
    return Document(name, text, tuple(kept), mark_file, 1, name)


def _other(line: str, read: _Read, triggers: set[str], doubted: set[str]) -> None:
    """What a line that is no mention says of mentions."""
    fields = line.split("\t")
    words = fields[1].split() if len(fields) > 1 else []
    if line[0] == "E" and words:
        triggers.add(words[0].rpartition(":")[2])
    if line[0] in "AM" and words:
        read.attributes[words[0]] += 1
        if len(words) > 2 and words[2].lower() in REJECTED:
            doubted.add(words[1])
    if line[0] == "#" and len(words) > 1 and words[0] in DOUBTED:
        doubted.add(words[1])


def _check(document: Document, span: Span) -> None:
    """Raises DataError for a mention that is not where it says."""
    check_inside(document, span, document.path.with_suffix(".txt").name)
    there = covered(document.text, span)
    if there.split() != (span.covered or "").split():
        places = ";".join(f"{a} {b}" for a, b in span.stretches)
        raise DataError(
            document.path,
            f"{short(span.covered)} is not at {places}, {short(there)} is: the text was changed "
            "after it was annotated, or offsets do not count characters",
            span.line,
        )


def _joined(text: str, span: Span) -> Span:
    """A mention without the cuts that brat makes at line ends: nothing but blanks is between."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(span.stretches):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif found and not text[found[-1][1] : start].strip():
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return replace(span, stretches=tuple(found))


def _content(path: Path) -> str:
    """A text file with its line ends as they are: offsets count them."""
    text = text_of(path, read_bytes(path))
    at = text.find("\0")
    if at >= 0:
        raise DataError(path, "holds a NUL character", text.count("\n", 0, at) + 1)
    return text

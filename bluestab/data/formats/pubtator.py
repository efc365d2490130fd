"""PubTator: `PMID|t|title`, `PMID|a|abstract`, then a mention per line; an abstract is one item."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.formats.base import Document, Documents, Span, lines_in, short

HEADING = re.compile(r"([^|\t]+)\|([ta])\|(.*)")


@dataclass
class _Open:
    """An abstract that is being read; its text is title + blank + abstract."""

    id: str
    line: int
    title: str
    abstract: str | None = None
    spans: list[Span] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.title if self.abstract is None else f"{self.title} {self.abstract}"


def read_pubtator_documents(path: Path) -> Documents:
    """All abstracts of a file. Relations (a word in place of the first offset) are passed over.

    An abstract that is there twice, exactly alike, counts once. Raises DataError for a line that
    belongs to no abstract, and for a mention that is not where it says.
    """
    lines, notes = lines_in(path)
    documents: list[_Open] = []
    n_relations = n_blanks = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        current = documents[-1] if documents else None
        if heading := HEADING.fullmatch(line):
            identifier, kind, content = heading.groups()
            if kind == "t":
                documents.append(_Open(identifier, number, content))
                continue
            if current is None or current.id != identifier or current.abstract is not None:
                raise DataError(
                    path, f"the abstract of {short(identifier)} does not follow its title", number
                )
            if current.spans:
                raise DataError(path, "an abstract comes after its first mention", number)
            current.abstract = content
            continue
        fields = line.split("\t")
        if current is None or fields[0] != current.id:
            raise DataError(path, f"{short(line)} belongs to no title before it", number)
        if len(fields) in (3, 4) and len(fields) > 1 and not fields[1].strip().isdecimal():
            n_relations += 1
            continue
        if len(fields) < 5:
            raise DataError(
                path,
                f"expected id, start, end, text and type, separated by tabs, found {short(line)}",
                number,
            )
        if not (fields[1].isdecimal() and fields[2].isdecimal()):
            raise DataError(path, f"{short(fields[1])} or {short(fields[2])} is no offset", number)
        start, end = int(fields[1]), int(fields[2])
        if not start < end <= len(current.text):
            raise DataError(
                path,
                f"{start}-{end} lies outside of {short(current.id)}, which has "
                f"{len(current.text)} characters, or holds nothing",
                number,
            )
        there = current.text[start:end]
        if there != fields[3]:
            if not fields[3].strip() or " ".join(there.split()) != " ".join(fields[3].split()):
                raise DataError(
                    path, f"{short(fields[3])} is not at {start}-{end}, {short(there)} is", number
                )
            n_blanks += 1
        current.spans.append(Span(start, end, fields[4].strip(), number))
    if not documents:
        raise DataError(path, "holds no title (PMID|t|...)")
    said = list(notes)
    if n_relations:
        said.append(f"{n_relations} relations were passed over")
    if n_blanks:
        said.append(f"the text of {n_blanks} mentions differs in blanks; their offsets were taken")
    return Documents(path, _once(path, documents, said), tuple(said))


def _once(path: Path, documents: list[_Open], said: list[str]) -> list[Document]:
    kept: dict[str, _Open] = {}
    n_twice = 0
    for document in documents:
        if not document.text.strip():
            raise DataError(path, f"{short(document.id)} has no text", document.line)
        before = kept.setdefault(document.id, document)
        if before is document:
            continue
        same = before.text == document.text and _marks(before) == _marks(document)
        if not same:
            raise DataError(
                path,
                f"{short(document.id)} was already there in line {before.line}, with another text "
                "or other mentions",
                document.line,
            )
        n_twice += 1
    if n_twice:
        said.append(f"{n_twice} abstracts that are there twice were counted once")
    return [Document(d.id, d.text, tuple(d.spans), path, d.line, d.id) for d in kept.values()]


def _marks(document: _Open) -> list[tuple[int, int, str]]:
    return sorted((s.start, s.end, s.type) for s in document.spans)

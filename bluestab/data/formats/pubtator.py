"""PubTator: `PMID|t|title`, `PMID|a|abstract`, then a mention per line; an abstract is one item."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.formats.base import Document, Documents, Span, lines_in, offset, short
from bluestab.data.formats.offsets import check_inside, covered, in_characters, same_words

RELATION = re.compile(r"[A-Za-z][A-Za-z_ -]+")
"""What stands in place of the first offset where a line is a relation (`CID`, `Association`)."""

HEADING = re.compile(r"([^|\t]+)\|([ta])\|(.*)")


@dataclass
class _Open:
    """An abstract that is being read; its text is title, blank, abstract.

    bare  there is no blank between them
    """

    id: str
    line: int
    title: str | None
    abstract: str | None = None
    spans: list[Span] = field(default_factory=list)
    bare: bool = True

    @property
    def text(self) -> str:
        between = "" if self.bare or self.abstract is None else " "
        return f"{self.title or ''}{between}{self.abstract or ''}"

    def settle(self) -> None:
        """The blank between title and abstract is there, or not (without a title, or where the
        title ends with one): as the mentions fit."""
        usual = self.title is None or self.abstract is None
        if self.abstract is None or not (self.title or " ")[-1].isspace():
            self.bare = usual
            return
        fitting = {}
        for self.bare in (usual, not usual):
            here = [self.text[s.start : s.end] for s in self.spans]
            fitting[self.bare] = sum(
                same_words(text, s.covered or "") for text, s in zip(here, self.spans, strict=True)
            )
        self.bare = usual if fitting[usual] >= fitting[not usual] else not usual


def read_pubtator_documents(path: Path) -> Documents:
    """All abstracts of a file. Relations (a word in place of the first offset) are passed over.

    An abstract that is there twice, exactly alike, counts once. Raises DataError for a line that
    belongs to no abstract, and for a mention that is not where it says.
    """
    lines, notes = lines_in(path)
    documents: list[_Open] = []
    n_relations, parted = 0, False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            parted = True
            continue
        current = documents[-1] if documents else None
        if heading := HEADING.fullmatch(line):
            identifier, kind, content = heading.groups()
            if kind == "t":
                documents.append(_Open(identifier, number, content))
                parted = False
                continue
            if current is None or (
                current.id != identifier and (current.abstract is not None or parted)
            ):
                current = _Open(identifier, number, None)
                documents.append(current)
            if current.id != identifier or current.abstract is not None:
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
        if len(fields) in (3, 4, 5) and RELATION.fullmatch(fields[1].strip()):
            n_relations += 1
            continue
        if len(fields) < 5:
            raise DataError(
                path,
                f"expected id, start, end, text and type, separated by tabs, found {short(line)}",
                number,
            )
        start, end = offset(fields[1]), offset(fields[2])
        if start is None or end is None:
            raise DataError(path, f"{short(fields[1])} or {short(fields[2])} is no offset", number)
        concept = fields[5].strip() if len(fields) > 5 else ""
        current.spans.append(
            Span(start, end, fields[4].strip(), number, fields[3], concept=concept)
        )
    if not documents:
        raise DataError(path, "holds no title (PMID|t|...)")
    said = list(notes)
    if n_relations:
        said.append(f"{n_relations} relations were passed over")
    untitled = sum(document.title is None for document in documents)
    if untitled:
        said.append(f"{untitled} abstracts have no title")
    for document in documents:
        document.settle()
    read, moved = in_characters(_once(path, documents, said), _check)
    n_blanks = sum(covered(d.text, s) != s.covered for d in read for s in d.spans)
    if n_blanks:
        said.append(f"the text of {n_blanks} mentions differs in blanks; their offsets were taken")
    return Documents(path, read, (*said, *moved))


def _check(document: Document, span: Span) -> None:
    """Raises DataError for a mention that is not where it says."""
    check_inside(document, span, short(document.id))
    there = covered(document.text, span)
    if there != span.covered and not same_words(there, span.covered or ""):
        raise DataError(
            document.path,
            f"{short(span.covered)} is not at {span.start}-{span.end}, {short(there)} is",
            span.line,
        )


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

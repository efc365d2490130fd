"""BioC in JSON: documents of passages with annotations; a passage is one item.

BioC (Comeau et al. 2013, Database bat064) is XML or JSON. Offsets are those of the document; where
a passage begins there, it says. PubTator's service gives the same, its documents under a name of
its own or one per line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluestab.core.errors import DataError
from bluestab.data.formats.base import (
    MOST_CHARACTERS,
    Document,
    Documents,
    Span,
    offset,
    short,
    too_long,
    whole_text,
)
from bluestab.data.formats.objects import entries, parse_object
from bluestab.data.formats.offsets import check_inside, covered, in_characters, same_words
from bluestab.data.readers import head_of

CONCEPT = ("identifier", "MESH", "NCBI Gene", "concept_id")
"""Infons that name what a mention means, in the files of PubTator, NLM-Chem, BioRED and others."""

HEAD = 2**16


def is_bioc(path: Path) -> bool:
    """Whether a JSON file is BioC, by how it begins."""
    head = head_of(path, HEAD)
    return b'"passages"' in head and (b'"documents"' in head or b'"offset"' in head)


def read_bioc(path: Path) -> Documents:
    """All passages of a file that have a text, those of a document together.

    Annotations of relations are passed over, and those without a place or type. Raises DataError
    for what is no BioC, and for a mention that is not where it says.
    """
    text, notes = whole_text(path)
    read = _Collection(path)
    for value, line in _documents(path, text):
        read.document(value, line)
    if not read.passages:
        raise DataError(path, "holds no passage with a text")
    passages, moved = in_characters(read.passages, _check)
    return Documents(path, passages, (*notes, *read.notes(), *moved))


def _documents(path: Path, text: str) -> Iterator[tuple[Any, int]]:
    """Documents and their lines: those of a collection, or one per line."""
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(lines) > 1 and lines[0][1].rstrip().endswith("}"):
        yield from ((parse_object(path, line, number), number) for number, line in lines)
        return
    found = list(entries(path, text))
    if any(one.key == "passages" for one in found):
        yield {one.key: one.value for one in found}, 1
        return
    for one in found:
        if one.key is None:
            yield one.value, one.line
        elif one.text and any(isinstance(d, dict) and "passages" in d for d in one.value):
            yield from ((inner.value, inner.line) for inner in entries(path, one.text, one.line))


@dataclass
class _Collection:
    """What was read so far, and what was passed over: what -> how often."""

    path: Path
    passages: list[Document] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)

    def document(self, value: Any, line: int) -> None:
        passages = value.get("passages") if isinstance(value, dict) else None
        if not isinstance(passages, list):
            raise DataError(
                self.path, f"expected a document with passages, found {short(value)}", line
            )
        name = str(value.get("id") or "")
        if not name:
            raise DataError(self.path, "a document has no id", line)
        if name in self.names:
            raise DataError(self.path, f"document {short(name)} is there twice", line)
        self.names.add(name)
        self.passed["relations"] += _size(value.get("relations"))
        for passage in passages:
            self._passage(passage, name, line)

    def _passage(self, passage: Any, name: str, line: int) -> None:
        where = f"document {short(name)}"
        if not isinstance(passage, dict):
            raise DataError(self.path, f"{where}: a passage is {short(passage)}", line)
        begin = _number(passage.get("offset"))
        if begin is None:
            raise DataError(self.path, f"{where}: a passage has no offset", line)
        sentences = [s for s in passage.get("sentences") or () if isinstance(s, dict)]
        text = passage.get("text")
        if not isinstance(text, str) or not text:
            text = _joined(sentences, begin)
        if len(text) > MOST_CHARACTERS:
            raise too_long(self.path, len(text), line)
        self.passed["relations"] += sum(_size(p.get("relations")) for p in (passage, *sentences))
        spans = {}
        for part in (passage, *sentences):
            for one in self._annotations(part, where, line):
                span = self._span(one, begin, where, line)
                if span is not None:
                    spans[span.stretches or (span.start, span.end), span.type, span.concept] = span
        if text.strip():
            found = tuple(spans.values())
            self.passages.append(Document(f"{name}:{begin}", text, found, self.path, line, name))
        elif spans:
            raise DataError(self.path, f"{where}: a passage with mentions has no text", line)

    def _annotations(self, part: Mapping[str, Any], where: str, line: int) -> list[Any]:
        """Raises DataError where a text has no list of them: a slip would lose all of them."""
        found = part.get("annotations", None if "text" in part else [])
        if not isinstance(found, list):
            raise DataError(
                self.path,
                f"{where}: a text has no list of annotations; an empty one says that nothing is "
                "marked",
                line,
            )
        return found

    def _span(self, one: Any, begin: int, where: str, line: int) -> Span | None:
        if not isinstance(one, dict) or not {"infons", "locations"} <= one.keys():
            raise DataError(
                self.path, f"{where}: an annotation lacks infons or locations: {short(one)}", line
            )
        infons, places = one["infons"], one["locations"]
        if not isinstance(infons, dict) or not infons.get("type") or not places:
            self.passed["annotations without a type or place"] += 1
            return None
        stretches = []
        for place in places if isinstance(places, list) else [places]:
            start = _number(place.get("offset")) if isinstance(place, dict) else None
            length = _number(place.get("length")) if isinstance(place, dict) else None
            if start is None or length is None:
                raise DataError(self.path, f"{where}: {short(place)} is no offset and length", line)
            stretches.append((start - begin, start - begin + length))
        concept = next((str(infons[name]) for name in CONCEPT if infons.get(name)), "")
        mention = one.get("text")
        return Span(
            min(a for a, _ in stretches),
            max(b for _, b in stretches),
            str(infons["type"]).strip(),
            line,
            mention if isinstance(mention, str) else None,
            tuple(stretches) if len(stretches) > 1 else (),
            concept,
        )

    def notes(self) -> list[str]:
        return [f"{n} {what} were passed over" for what, n in sorted(self.passed.items()) if n]


def _joined(sentences: list[dict[str, Any]], begin: int) -> str:
    """The text of a passage from its sentences, each where it says."""
    text = ""
    for one in sentences:
        at, sentence = _number(one.get("offset")), one.get("text")
        if at is not None and isinstance(sentence, str):
            text = text[: at - begin].ljust(at - begin) + sentence
    return text


def _number(value: Any) -> int | None:
    """A whole number from 0, as such or as text."""
    if isinstance(value, str):
        return offset(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 10**12 else None


def _size(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _check(document: Document, span: Span) -> None:
    """Raises DataError for a mention that is not where it says."""
    name, where = f"document {short(document.document)}", f"{span.start}-{span.end} of the passage"
    check_inside(document, span, "it", f"{name}: {where}")
    there = covered(document.text, span)
    if span.covered is not None and not same_words(there, span.covered):
        raise DataError(
            document.path,
            f"{name}: {short(span.covered)} is not at {where}, {short(there)} is",
            span.line,
        )

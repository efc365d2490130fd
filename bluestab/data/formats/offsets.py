"""What the offsets of mentions count: characters, or what another program counts.

Java and JavaScript count UTF-16 code units (two for an emoji), C programs bytes of UTF-8. Which it
is shows where they differ: by the text that a mention is said to cover, else by the words at whose
ends mentions begin and end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bluestab.core.errors import DataError
from bluestab.data.formats.base import Document, Span, short

Places = dict[int, int]
"""Offset in a unit -> offset in characters; what lies inside a character is not in it."""


def _utf16(text: str) -> Places:
    return _places(text, lambda c: 1 + (ord(c) > 0xFFFF))


def _utf8(text: str) -> Places:
    return _places(text, lambda c: len(c.encode("utf-8", "surrogatepass")))


def _places(text: str, size: Callable[[str], int]) -> Places:
    found, at = {0: 0}, 0
    for i, char in enumerate(text, start=1):
        at += size(char)
        found[at] = i
    return found


UNITS: dict[str, tuple[Callable[[str], Places], Callable[[str], bool]]] = {
    "UTF-16 code units, as in JavaScript": (_utf16, lambda t: t.isascii() or max(t) <= "\uffff"),
    "bytes of UTF-8": (_utf8, str.isascii),
}
"""Unit -> its places in a text, and whether it is the same as characters there."""

MIXED = 0.2
"""Share of the mentions that tell the unit; so many of another unit are no slips of a hand."""


def in_characters(
    documents: Sequence[Document], check: Callable[[Document, Span], None]
) -> tuple[list[Document], list[str]]:
    """The documents with offsets in characters, and what is to be said if they were others.

    check  raises DataError for a mention that is not where it says

    Raises DataError also where some offsets count one thing and some another.
    """
    found, said = list(documents), []
    tried = [_Tried.of(unit, found) for unit in UNITS]
    fitting = [one for one in tried if one.only_here and not one.only_characters]
    best = [one for one in fitting if one.only_here == max(o.only_here for o in fitting)]
    if len(best) == 1:
        for i, document in best[0].converted.items():
            found[i] = document
        said = [f"offsets count {best[0].unit}, not characters: they were converted"]
    for one in tried if len(best) != 1 else ():
        if one.doubtful is not None and one.only_here > MIXED * one.only_characters:
            raise DataError(
                one.doubtful.path,
                f"some offsets count {one.unit} (in {short(one.doubtful.id)}), others characters "
                "or something else",
                one.doubtful.line,
            )
    for document in found:
        for span in document.spans:
            check(document, span)
    return found, said


@dataclass
class _Tried:
    """What the mentions are like if offsets count this unit.

    only_here, only_characters  mentions that fit so, but not if characters are counted, and the
    other way round; doubtful: a document with one of the former
    """

    unit: str
    only_here: int = 0
    only_characters: int = 0
    doubtful: Document | None = None
    converted: dict[int, Document] = field(default_factory=dict)

    @classmethod
    def of(cls, unit: str, documents: Sequence[Document]) -> _Tried:
        tried = cls(unit)
        places, same = UNITS[unit]
        for i, document in enumerate(documents):
            if document.spans and not same(document.text):
                tried.add(i, document, places(document.text))
        return tried

    def add(self, i: int, document: Document, at: Places) -> None:
        spans = [_moved(span, at) for span in document.spans]
        self.converted[i] = replace(document, spans=tuple(new for new, _ in spans))
        for old, (new, moved) in zip(document.spans, spans, strict=True):
            before, after = _fits(document.text, old), moved and _fits(document.text, new)
            self.only_characters += before and not after
            if after and not before:
                self.only_here += 1
                self.doubtful = self.doubtful or document


def _moved(span: Span, at: Places) -> tuple[Span, bool]:
    """A mention with its offsets in characters, and whether it has any (else it is as it was)."""
    ends = {n for stretch in span.stretches for n in stretch} | {span.start, span.end}
    if not ends <= at.keys():
        return span, False
    stretches = tuple((at[a], at[b]) for a, b in span.stretches)
    return replace(span, start=at[span.start], end=at[span.end], stretches=stretches), True


def _fits(text: str, span: Span) -> bool:
    """Is the mention where it says, or at least between words?"""
    stretches = span.stretches or ((span.start, span.end),)
    if not all(0 <= a < b <= len(text) for a, b in stretches):
        return False
    if span.covered is not None:
        return same_words(covered(text, span), span.covered)
    return all(_between_words(text, a, b) for a, b in stretches)


def check_inside(document: Document, span: Span, name: str, where: str | None = None) -> None:
    """Raises DataError for a mention that lies outside of its text, or covers nothing.

    name, where  what the error calls the text and the place
    """
    for start, end in span.stretches or ((span.start, span.end),):
        if not 0 <= start < end <= len(document.text):
            raise DataError(
                document.path,
                f"{where or f'{start}-{end}'} lies outside of {name}, which has "
                f"{len(document.text)} characters, or holds nothing",
                span.line,
            )


def covered(text: str, span: Span) -> str:
    """The text of a mention, its stretches in the order of the file."""
    return " ".join(text[a:b] for a, b in span.stretches or ((span.start, span.end),))


def same_words(one: str, other: str) -> bool:
    """Alike but for blanks and line ends, which tools write in several ways."""
    return bool(one.strip()) and one.split() == other.split()


def _between_words(text: str, start: int, end: int) -> bool:
    inside = text[start:end]
    if not inside.strip():
        return False
    start += len(inside) - len(inside.lstrip())
    end -= len(inside) - len(inside.rstrip())
    return not any(
        0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum() for at in (start, end)
    )

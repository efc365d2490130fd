"""Mentions by character -> words with IOB2 tags; the offsets of the words are kept.

Rules, each with a count of what it concerned:

* a word is a run of letters and digits, or any other single character that is not blank;
* a mention in several parts (discontinuous) is left out;
* of mentions that overlap or nest, the longest stays, of equally long ones the first;
* of mentions that only share a word (`rDEN2|Delta30` without a sign between), the first stays;
* a mention that is there twice counts once;
* a mention that begins or ends inside a word is widened to the whole word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bluestab.core.errors import DataError
from bluestab.data.formats.base import Document, Span, short

WORD = re.compile(r"[^\W_]+|[^\w\s]|_")

SAID = {
    "discontinuous": "in several parts (discontinuous) were left out",
    "overlapping": "that overlap a longer one, or one before, were left out",
    "shared": "that share a word with one before, but no character, were left out (a word is a run "
    "of letters and digits)",
    "repeated": "that are there twice were counted once",
    "widened": "that begin or end inside a word were widened to whole words",
    "blank": "that hold no word were left out",
}


@dataclass
class Losses:
    """How many mentions each rule concerned, of how many."""

    n: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        return [f"{self.counts[rule]} of {self.n} mentions {said}" for rule, said in SAID.items()
                if self.counts[rule]]  # fmt: skip


@dataclass(frozen=True)
class Tagged:
    """Words of a document, their offsets (start, end exclusive) in its text, and their tags."""

    words: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]


def check_spans(document: Document) -> None:
    """Raises DataError for a mention that lies outside of its text, or holds nothing."""
    n = len(document.text)
    for span in document.spans:
        where = f"{span.start}-{span.end}"
        if not 0 <= span.start < span.end:
            raise DataError(
                document.path, f"mention {where} of {short(document.id)} holds nothing", span.line
            )
        if span.end > n:
            raise DataError(
                document.path,
                f"mention {where} of {short(document.id)} lies outside of its text, which has {n} "
                "characters",
                span.line,
            )
        if not span.type.strip():
            raise DataError(
                document.path, f"mention {where} of {short(document.id)} has no type", span.line
            )


def tag_words(document: Document, losses: Losses) -> Tagged:
    """Words and tags of a document; what the rules concerned is added to `losses`."""
    check_spans(document)
    found = [(m.group(), m.start(), m.end()) for m in WORD.finditer(document.text)]
    tags = ["O"] * len(found)
    losses.n += len(document.spans)
    for span in _apart(document.spans, losses):
        inside = [i for i, (_, a, b) in enumerate(found) if a < span.end and span.start < b]
        if not inside:
            losses.counts["blank"] += 1
            continue
        first, last = inside[0], inside[-1]
        if any(tags[i] != "O" for i in inside):  # widened into the word of another one
            losses.counts["shared"] += 1
            continue
        text = document.text[span.start : span.end]
        bare = (
            span.start + len(text) - len(text.lstrip()),
            span.end - len(text) + len(text.rstrip()),
        )
        losses.counts["widened"] += bare != (found[first][1], found[last][2])
        for i in inside:
            tags[i] = f"{'B' if i == first else 'I'}-{span.type}"
    return Tagged(
        tuple(word for word, _, _ in found), tuple((a, b) for _, a, b in found), tuple(tags)
    )


def _apart(spans: Sequence[Span], losses: Losses) -> list[Span]:
    """Mentions that do not overlap, in the order of the text."""
    whole: dict[tuple[int, int, str], Span] = {}
    for span in spans:
        if len(span.stretches) > 1:
            losses.counts["discontinuous"] += 1
        elif (span.start, span.end, span.type) in whole:
            losses.counts["repeated"] += 1
        else:
            whole[span.start, span.end, span.type] = span
    kept: list[Span] = []
    taken: list[tuple[int, int]] = []
    for span in sorted(whole.values(), key=lambda s: (s.start - s.end, s.start)):
        if any(a < span.end and span.start < b for a, b in taken):
            losses.counts["overlapping"] += 1
        else:
            kept.append(span)
            taken.append((span.start, span.end))
    return sorted(kept, key=lambda s: s.start)

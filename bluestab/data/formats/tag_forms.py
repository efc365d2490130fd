"""Tags of words as tools write them -> `B-type`, the only form that `schemes` knows.

`B_Dis`, `B:Dis`, `b-Dis`, `Dis-B` and `BDis` say the same. Types that merely begin alike (`B_cell`,
`I_band`) stay what they are: the letters are taken for positions only where an entity goes on with
them, a word marked `I_Dis` right after one marked `B_Dis`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.formats.base import TaggedWords, short

OPENING, CONTINUING = "BSU", "IEML"

File = tuple[Path, Sequence[TaggedWords]]

BEFORE = re.compile(r"([BIESULM])([^\w\s]|_)(\S.*)")
AFTER = re.compile(r"(.*\S)([^\w\s]|_)([BIESULM])")
JOINED = re.compile(r"([BIESULM])()([A-Z].*)")
OUTSIDE = ("O", "o")


@dataclass(frozen=True)
class Form:
    """How positions are written: the letter before the type or after it, the sign between them,
    and whether the letters are small."""

    before: bool
    sign: str
    small: bool

    def parts(self, tag: str) -> tuple[str, str] | None:
        """(letter, type) of a tag in this form, or None; a letter alone has the type ''."""
        letter = tag[:1] if self.before else tag[-1:]
        if letter.islower() is not self.small:
            return None
        if len(tag) == 1:
            return (letter.upper(), "") if letter.upper() in "BIESULM" else None
        pattern = (BEFORE if self.sign else JOINED) if self.before else AFTER
        at = (letter.upper() + tag[1:]) if self.before else (tag[:-1] + letter.upper())
        match = pattern.fullmatch(at)
        if match is None or match[2] != self.sign:
            return None
        return (match[1], match[3]) if self.before else (match[3], match[1])

    @property
    def example(self) -> str:
        letter = "b" if self.small else "B"
        return f"{letter}{self.sign}type" if self.before else f"type{self.sign}{letter}"

    def hyphenated(self, tag: str) -> str:
        found = self.parts(tag)
        if found is None:
            return "O"
        letter = "I" if found[0] == "M" else found[0]  # the M of BMES
        return f"{letter}-{found[1]}" if found[1] else letter


HYPHEN = Form(before=True, sign="-", small=False)


def hyphenated(files: Sequence[File], *, sure: bool) -> tuple[list[File], str | None]:
    """The files with every tag as `B-type`, and what is to be said if that is another form than
    theirs.

    sure  the person says that tags have positions; else only entities that go on show it

    Raises DataError, with the line, where some tags are in a form and others are not.
    """
    tags = {tag for *_, tag in _walk(files)} - set(OUTSIDE)
    form = _form(files, tags, sure)
    if form is None:
        return list(files), None
    changed: list[File] = [
        (path, [replace(s, tags=tuple(map(form.hyphenated, s.tags))) for s in sentences])
        for path, sentences in files
    ]
    said = "BMES" if form == HYPHEN else form.example
    return changed, f"tags are written {said}: read as B-type, I-type"


def _form(files: Sequence[File], tags: set[str], sure: bool) -> Form | None:
    """The form that the tags have, or None for types as they stand, and for `B-type` itself."""
    if letters := {found[0] for tag in tags if (found := HYPHEN.parts(tag))}:
        whole = all(map(HYPHEN.parts, tags))
        return HYPHEN if whole and {"B", "M"} <= letters <= set("BMES") else None
    for form in sorted(_candidates(tags), key=lambda f: -sum(map(bool, map(f.parts, tags)))):
        others = {tag for tag in tags if form.parts(tag) is None}
        if (form.sign == "" and others) or not (sure or _goes_on(files, form)):
            continue
        if others:
            path, line, tag = next((p, n, t) for p, _, n, _, t in _walk(files) if t in others)
            raise DataError(
                path,
                f"tag {short(tag)} is not written {form.example}, as others are: correct it, or "
                "say task.scheme=bare if tags are types as they stand",
                line,
            )
        return form
    return None


def _candidates(tags: set[str]) -> list[Form]:
    """Forms that any of the tags has."""
    signs = {sign for tag in tags for sign in (tag[1:2], tag[-2:-1], "") if not sign.isalnum()}
    forms = [
        Form(before, sign, small)
        for before in (True, False)
        for small in (False, True)
        for sign in sorted(signs)
        if sign or (before and (not small or all(len(tag) == 1 for tag in tags)))
    ]
    return [form for form in forms if any(map(form.parts, tags))]


def _goes_on(files: Sequence[File], form: Form) -> bool:
    """Do letters that continue an entity follow its opening word, as positions do?

    Raises DataError where some do and others do not.
    """
    n_after, opened = 0, False
    stray: tuple[Path, int, str] | None = None
    letters: dict[str, set[str]] = defaultdict(set)
    for path, _, line, before, tag in _walk(files):
        found, previous = form.parts(tag), form.parts(before)
        if found is None:
            opened = False
            continue
        letters[found[1]].add(found[0])
        follows = opened and previous is not None and previous[1] == found[1]
        opened = found[0] in OPENING or follows
        if found[0] in CONTINUING and follows:
            n_after += 1
        elif found[0] in CONTINUING:
            stray = stray or (path, line, tag)
    unclear = n_after == 0 and form.sign != "" and {"B", "I"} in letters.values()
    if stray is not None and form.sign and (n_after or unclear):
        path, line, tag = stray
        raise DataError(
            path,
            f"tag {short(tag)} goes on with no entity of its type, though tags are written "
            f"{form.example}: correct it, or say task.scheme=bare if tags are types as they "
            "stand, task.scheme=iob1 if I may start an entity",
            line,
        )
    return n_after > 0 and stray is None


def _walk(files: Sequence[File]) -> Iterator[tuple[Path, TaggedWords, int, str, str]]:
    """File, sentence, line, tag before in the sentence (O at its start) and tag of every word."""
    for path, sentences in files:
        for sentence in sentences:
            before = "O"
            for tag, line in zip(sentence.tags, sentence.lines, strict=True):
                yield path, sentence, line, before, tag
                before = tag

"""Tags of any scheme -> IOB2, the only one that is trained and scored.

IOB2    B- at every start             IOBES  B- I- E-, S- for one word (BILOU: L- U-)
IOB1    B- only after an entity of    bare   the type alone: neighbours of one type are
        the same type                        one entity
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.formats.base import TaggedWords, short

SCHEMES = ("iob2", "iob1", "iobes", "bare")
PREFIXED = re.compile(r"([BIESLU])(?:-(.+))?")
OPENING, SINGLE, CLOSING = "B", ("S", "U"), ("E", "L")

File = tuple[Path, Sequence[TaggedWords]]


def scheme_of(files: Sequence[File]) -> str:
    """The scheme that all tags of all files follow. Raises DataError with the line of a tag that
    fits none, or of two that cannot stand in one scheme."""
    prefixed: dict[str, tuple[Path, int, str]] = {}
    plain: dict[str, tuple[Path, int]] = {}
    for path, _, tag, line in _tags(files):
        if tag == "O":
            continue
        match = PREFIXED.fullmatch(tag)
        if match:
            prefixed.setdefault(match[1], (path, line, tag))
        else:
            plain.setdefault(tag, (path, line))
    if plain and prefixed:
        tag, (path, line) = next(iter(plain.items()))
        other = next(iter(prefixed.values()))
        raise DataError(
            path,
            f"tag {short(tag)} has no B- or I- where {short(other[2])} ({other[0].name}, line "
            f"{other[1]}) has: correct it, or say task.scheme=bare if tags are types as they stand",
            line,
        )
    if plain:
        if not any(tag == "O" for _, _, tag, _ in _tags(files)):
            tag, (path, line) = next(iter(plain.items()))
            raise DataError(
                path,
                f"no word has the tag O, and {short(tag)} is none of an entity: words outside of "
                "entities are tagged O",
                line,
            )
        return "bare"
    if set(prefixed) - {"B", "I"}:
        return "iobes"
    return "iob2" if "B" in prefixed and not _is_iob1(files) else "iob1" if prefixed else "iob2"


def _is_iob1(files: Sequence[File]) -> bool:
    """B- only right after an entity of its type, and some entity that starts with I-."""
    stray = False
    for _, sentence in ((path, s) for path, sentences in files for s in sentences):
        previous = "O"
        for tag in sentence.tags:
            kind = tag[1:]
            if tag.startswith("B") and previous[1:] != kind:
                return False
            if tag.startswith("I") and previous not in (f"B{kind}", f"I{kind}"):
                stray = True
            previous = tag
    return stray


def to_iob2(path: Path, sentence: TaggedWords, scheme: str) -> tuple[str, ...]:
    """The tags of a sentence in IOB2. Raises DataError with the line of a tag that cannot be."""
    if scheme == "bare":
        return _from_types(sentence.tags)
    found = []
    previous = "O"
    ended = True  # the entity before is closed, or there is none
    for tag, line in zip(sentence.tags, sentence.lines, strict=True):
        match = PREFIXED.fullmatch(tag)
        if tag != "O" and match is None:
            raise DataError(path, f"tag {short(tag)} is not O, B-type or I-type", line)
        prefix, kind = ("O", None) if match is None else (match[1], match[2])
        end = f"-{kind}" if kind else ""
        goes_on = prefix in ("I", *CLOSING) and previous[1:] == end and previous != "O"
        if scheme in ("iob1", "iob2"):
            if prefix not in ("O", "B", "I"):
                raise DataError(path, f"tag {short(tag)} belongs to no {scheme.upper()}", line)
            if scheme == "iob2" and prefix == "I" and not goes_on:
                raise DataError(
                    path,
                    f"tag {short(tag)} follows {short(previous)}: in IOB2 an entity starts with "
                    "B-; correct it, or say task.scheme=iob1 if I- may start one",
                    line,
                )
            started = prefix == "B" or (prefix == "I" and not goes_on)
        else:
            if not ended and not (goes_on and prefix in ("I", *CLOSING)):
                raise DataError(
                    path,
                    f"tag {short(tag)} follows {short(previous)}: in IOBES an entity of several "
                    "words ends with E- (or L-)",
                    line,
                )
            if ended and prefix in ("I", *CLOSING):
                raise DataError(
                    path,
                    f"tag {short(tag)} follows {short(previous)}: in IOBES an entity starts with "
                    "B-, or is S- (or U-)",
                    line,
                )
            started = prefix == OPENING or prefix in SINGLE
            ended = prefix == "O" or prefix in SINGLE or prefix in CLOSING
        found.append("O" if prefix == "O" else f"{'B' if started else 'I'}{end}")
        previous = found[-1] if scheme != "iobes" else ("O" if prefix == "O" else f"I{end}")
    if scheme == "iobes" and not ended:
        raise DataError(
            path,
            f"the sentence ends inside the entity of {short(sentence.tags[-1])}: in IOBES it ends "
            "with E- (or L-)",
            sentence.lines[-1],
        )
    return tuple(found)


def _from_types(types: Sequence[str]) -> tuple[str, ...]:
    found, previous = [], "O"
    for kind in types:
        started = kind != previous
        found.append("O" if kind == "O" else f"{'B' if started else 'I'}-{kind}")
        previous = kind
    return tuple(found)


def n_stray(files: Sequence[File]) -> int:
    """Entities that start with I-: what IOB1 means to say."""
    n = 0
    for _, sentences in files:
        for sentence in sentences:
            previous = "O"
            for tag in sentence.tags:
                n += tag.startswith("I") and previous[1:] != tag[1:]
                previous = tag
    return n


def _tags(files: Sequence[File]) -> Iterable[tuple[Path, TaggedWords, str, int]]:
    for path, sentences in files:
        for sentence in sentences:
            for tag, line in zip(sentence.tags, sentence.lines, strict=True):
                yield path, sentence, tag, line


def n_entities(tags: Iterable[Sequence[str]]) -> Counter[str]:
    """Type -> entities in IOB2 tags."""
    return Counter(tag[2:] for sentence in tags for tag in sentence if tag.startswith("B"))

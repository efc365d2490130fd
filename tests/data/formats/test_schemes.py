"""Tags of a person's own files: schemes that are broken or read as another."""

from __future__ import annotations

import pytest

from tests.support.own_files import WORDS, Broken, Load, conll, notes, refuses

BROKEN: dict[str, Broken] = {
    "I- after O": (
        "tagging",
        {WORDS: conll() + "is\tO\ncancer\tI-D\n"},
        {},
        r"line 82: tag 'I-D' follows 'O': in IOB2",
    ),
    "I- of another type": (
        "tagging",
        {WORDS: conll() + "x\tB-D\ncancer\tI-E\n"},
        {},
        r"line 82: tag 'I-E' follows 'B-D'",
    ),
    "bare among prefixed": (
        "tagging",
        {WORDS: conll() + "cancer\tD\n"},
        {},
        r"line 81: tag 'D' has no B- or I-",
    ),
    "zero for O": (
        "tagging",
        {WORDS: conll() + "cancer\t0\n"},
        {},
        r"line 81: tag '0' has no B- or I-",
    ),
    "no word outside": ("tagging", {WORDS: "a\tX\nb\tY\n\nc\tX\n"}, {}, r"no word has the tag O"),
    "IOBES open": (
        "tagging",
        {WORDS: conll(tags=("B-D", "E-D", "O")) + "x\tB-D\ny\tO\n"},
        {},
        r"line 82: tag 'O' follows .*ends with E-",
    ),
    "IOBES open at the end": (
        "tagging",
        {WORDS: conll(tags=("B-D", "E-D", "O")) + "x\tB-D\n"},
        {},
        r"line 81: the sentence ends inside",
    ),
    "IOBES without a start": (
        "tagging",
        {WORDS: conll(tags=("B-D", "E-D", "O")) + "x\tE-D\n"},
        {},
        r"line 81: tag 'E-D' follows 'O'",
    ),
    "scheme that is not": (
        "tagging",
        {WORDS: conll(tags=("B-D", "E-D", "O"))},
        {"scheme": "iob2"},
        r"line 2: tag 'E-D' belongs to no IOB2",
    ),
    "unknown scheme": ("tagging", {WORDS: conll()}, {"scheme": "iob3"}, r"task\.scheme is 'iob3'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


REPAIRED: dict[str, Broken] = {
    "IOB1": (
        "tagging",
        {WORDS: conll(tags=("I-D", "I-D", "O"))},
        {},
        "read as IOB1: 20 entities start with I-",
    ),
    "IOBES": ("tagging", {WORDS: conll(tags=("B-D", "E-D", "O"))}, {}, "tags are IOBES"),
    "bare": ("tagging", {WORDS: conll(tags=("D", "D", "O"))}, {}, "tags are bare types"),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_or_left_out_is_said(load: Load, name: str) -> None:
    notes(load, REPAIRED[name])

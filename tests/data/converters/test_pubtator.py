"""PubTator: sentences by hand, mentions at their ends, and rows that are broken."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from bluestab.core.errors import DataError
from bluestab.data.converters import pubtator
from tests.support.miniatures import PUBTATOR, sentences_of

Convert = Callable[..., dict[str, bytes]]


@pytest.mark.parametrize(
    "sentences",
    [
        ["It fell.", "We saw it!", "Did we?", "3 did."],
        ["It fell (see below. It did) twice.", "We saw."],
        ["It fell [see below (or not. Who knows) there. Yes] twice."],
        ["It fell (a stray.", "We saw."],
        ["It fell. then it rose.", "A rise"],
        ["By J.", "Smith wrote.", "So did Anton P. Smith."],
        ["Mice vs. Rats, e.g. Wistar, i. v. once, cf. No. 5.", "Dr. Who."],
        ["It fell.", ". We saw."],
        ["A (" + "b" * 200 + " (" + "c" * 100 + ") d. We saw e)."],
        ["A (" + "b" * 260 + " (c) d.", "We saw " + "e" * 260 + " (f))."],
    ],
)
def test_pubtator_sentences(sentences: list[str]) -> None:
    text = " ".join(sentences)
    cuts = [0, *pubtator._ends(text), len(text)]
    assert [text[a:b].strip() for a, b in pairwise(cuts)] == sentences


def test_a_sentence_end_cuts_a_mention_and_a_part_of_a_token_counts(convert: Convert) -> None:
    text = "7|t|Bone-ache at St. Zolma fire.\n7|a|No.\n"
    text += "7\t1\t3\ton\tDisease\tD2\n7\t13\t26\tSt. Zolma fir\tDisease\tD1\n"
    made = convert("bc5cdr_disease", {"CDR_TestSet.PubTator.txt": text.encode()})["test.tsv"]
    assert made.decode() == sentences_of(
        "Bone/B-Disease - ache at St/B-Disease ./I-Disease",
        "Zolma/B-Disease fire/I-Disease .",
        "No .",
    )


@pytest.mark.parametrize(
    ("line", "old", "new", "reason"),
    [
        (2, "20|a|", "21|a|", "abstract of 21 does not follow its title"),
        (1, "20|t|", "20|a|", "abstract of 20 does not follow its title"),
        (3, "20\t0", "21\t0", "belongs to no abstract"),
        (3, "\t0\t", "\tzero\t", "an offset is 'zero'"),
        (3, "\t0\t6", "\t1\t6", "'Zolmin' is not at 1-6, 'olmin' is"),
        (4, "\t24\t36", "\t2400\t3600", "'type 2 gripe' is not at 2400-3600"),
        (3, "20\t0\t6\tZolmin\tChemical\tD1", "20\t0\t6", "expected id, start, end, text and type"),
    ],
)
def test_pubtator_broken_rows(convert: Convert, line: int, old: str, new: str, reason: str) -> None:
    text = PUBTATOR.replace(old, new, 1).encode()
    with pytest.raises(DataError, match=rf"TestSet.PubTator.txt, line {line}: .*{reason}"):
        convert("bc5cdr_chem", {"CDR_TestSet.PubTator.txt": text})


def test_pubtator_title_without_abstract(convert: Convert) -> None:
    text = (PUBTATOR + "\n300|t|Alone.\n").encode()
    with pytest.raises(DataError, match=r"a title but no abstract for 300"):
        convert("bc5cdr_chem", {"CDR_TestSet.PubTator.txt": text})

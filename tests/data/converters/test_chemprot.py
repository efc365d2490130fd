"""ChemProt: sentences by hand, and rows that are broken."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from bluestab.core.errors import DataError
from bluestab.data.converters import chemprot
from tests.support.miniatures import chemprot_members, tarred

Convert = Callable[..., dict[str, bytes]]


@pytest.mark.parametrize(
    "sentences",
    [
        ["It fell (P<0.05).", "The rest rose!", "Did it?", "3 did."],
        ["Given i.p.", "administration followed."],  # no abbreviation in newspapers
        ['They measured LH ("a hormone.")', "It rose."],
        ["A dose (5 mg/kg, i.p.", "), was given."],
        ["E. coli was kept at 4 degrees C. The rest at 25."],
        ["Complex I.", "The other."],
        ["Of complex I. Nobody knows."],
        ["Release of DM and DR. We saw DM vs. DR.", "This is new."],
        ["They are 1.", "The first, 2. the second."],
        ["A title.", "An abstract."],
    ],
)
def test_chemprot_sentences(sentences: list[str]) -> None:
    separator = "\t" if sentences[0] == "A title." else " "
    text = separator.join(sentences).replace("i.p. )", "i.p.)")
    assert [text[start:end] for start, end in chemprot._sentences(text)] == sentences


@pytest.mark.parametrize(
    ("table", "row", "reason"),
    [
        ("abstracts", "13 no tabs", "expected PMID, title and abstract"),
        ("abstracts", "11\tAgain.\tAgain.", "a second abstract 11"),
        ("entities", "11\tT9\tCHEMICAL\t0\t2", "has 5 columns, not 6"),
        ("entities", "99\tT9\tCHEMICAL\t0\t2\tOn", "unknown abstract '99'"),
        ("entities", "11\tT1\tCHEMICAL\t0\t2\tOn", "a second entity T1 in 11"),
        ("entities", "11\tT9\tCHEMICAL\tzero\t2\tOn", "the start is 'zero'"),
        ("entities", "11\tT9\tCHEMICAL\t1\t3\tOn", "'On' is not at 1-3, 'n ' is"),
        ("entities", "11\tT9\tCHEMICAL\t500\t502\tOn", "'On' is not at 500-502, '' is"),
        ("entities", "11\tT9\tVIRUS\t0\t2\tOn", "unknown type 'VIRUS'"),
        ("relations", "11\tCPR:4\tY \tINHIBITOR\tArg1:T3\tArg2:T77", "unknown entity 'T77'"),
        ("relations", "99\tCPR:4\tY \tINHIBITOR\tArg1:T3\tArg2:T2", "unknown abstract '99'"),
        ("relations", "11\tCPR:4", "has 2 columns, not 6"),
    ],
)
def test_chemprot_broken_rows(convert: Convert, table: str, row: str, reason: str) -> None:
    members = chemprot_members()
    name = chemprot.PARTS["train"].format(table)
    line = members[name].count("\n") + 1
    members[name] += row + "\n"
    with pytest.raises(DataError, match=rf"{name}, line {line}: .*{re.escape(reason)}"):
        convert("chemprot", {chemprot.ARCHIVE: tarred(members)})


def test_chemprot_missing_member(convert: Convert) -> None:
    members = chemprot_members()
    del members[chemprot.PARTS["test"].format("entities")]
    with pytest.raises(DataError, match=r"tar\.gz: has no member chemprot_test_gs/.*entities"):
        convert("chemprot", {chemprot.ARCHIVE: tarred(members)})

"""Tags whose positions are written in another form than `B-type`, and types that only look so."""

from __future__ import annotations

from collections import Counter

import pytest

from bluestab.core.errors import DataError
from bluestab.data.formats.schemes import n_entities
from tests.support.own_files import WORDS, Load, conll

Tags = tuple[str, str, str, str]
"""Of: colon cancer and gout."""

FORMS: dict[str, Tags] = {
    "underscore": ("B_Dis", "I_Dis", "O", "B_Dis"),
    "colon": ("B:Dis", "I:Dis", "O", "B:Dis"),
    "dot": ("B.Dis", "I.Dis", "O", "B.Dis"),
    "bar": ("B|Dis", "I|Dis", "O", "B|Dis"),
    "slash": ("B/Dis", "I/Dis", "O", "B/Dis"),
    "dash": ("B\u2013Dis", "I\u2013Dis", "O", "B\u2013Dis"),
    "small": ("b-Dis", "i-Dis", "O", "b-Dis"),
    "small, o too": ("b_Dis", "i_Dis", "o", "b_Dis"),
    "suffix": ("Dis-B", "Dis-I", "O", "Dis-B"),
    "suffix, underscore": ("Dis_B", "Dis_I", "O", "Dis_B"),
    "suffix, small": ("Dis-b", "Dis-i", "O", "Dis-b"),
    "joined": ("BDis", "IDis", "O", "BDis"),
    "IOBES, underscore": ("B_Dis", "E_Dis", "O", "S_Dis"),
    "BILOU, suffix": ("Dis.B", "Dis.L", "O", "Dis.U"),
    "M for I": ("B-Dis", "M-Dis", "O", "B-Dis"),
    "BMES": ("B-Dis", "E-Dis", "O", "S-Dis"),
}


def file(tags: Tags, n: int = 30) -> str:
    words = ("colon", "cancer", "and", "gout")
    return "".join(
        f"Patient{i}\t{tags[2]}\n"
        + "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
        + "\n"
        for i in range(n)
    )


def entities(load: Load, content: str, **changed: object) -> Counter[str]:
    data = load("tagging", {WORDS: content}, **changed)
    return n_entities(e.target for part in data.splits.values() for e in part)  # type: ignore[misc]


@pytest.mark.parametrize("name", FORMS)
def test_positions_in_another_form_are_read(load: Load, name: str) -> None:
    assert entities(load, file(FORMS[name])) == {"Dis": 60}


def test_bmes_of_three_words(load: Load) -> None:
    three = "".join(f"a{i}\tB-D\nb\tM-D\nc\tE-D\nd\tO\ne\tS-D\n\n" for i in range(20))
    assert entities(load, three) == {"D": 40}


def test_letters_alone_may_be_small(load: Load) -> None:
    assert entities(load, file(("b", "i", "o", "b"))) == {"": 60}


def test_the_form_is_said(load: Load) -> None:
    notes = load("tagging", {WORDS: file(FORMS["underscore"])}).notes
    assert any("written B_type" in note for note in notes)


BARE: dict[str, tuple[Tags, dict[str, int]]] = {
    "runs of one type": (("B_cell", "B_cell", "O", "I_band"), {"B_cell": 30, "I_band": 30}),
    "neighbours": (("B_cell", "I_band", "O", "I_band"), {"B_cell": 30, "I_band": 60}),
    "two words": (("I_band", "I_band", "O", "B_cell"), {"B_cell": 30, "I_band": 30}),
    "with another": (
        ("B_cell", "T_cell", "O", "NK_cell"),
        {"B_cell": 30, "T_cell": 30, "NK_cell": 30},
    ),
    "L cells": (("L_cell", "L_cell", "O", "B_cell"), {"B_cell": 30, "L_cell": 30}),
    "capitals": (("BONE", "IMAGE", "O", "SITE"), {"BONE": 30, "IMAGE": 30, "SITE": 30}),
    "names": (("LOC", "LOC", "O", "MISC"), {"LOC": 30, "MISC": 30}),
    "viruses": (
        ("hepatitis-B", "hepatitis-B", "O", "factor-I"),
        {"hepatitis-B": 30, "factor-I": 30},
    ),
}


@pytest.mark.parametrize("name", BARE)
def test_types_that_look_like_positions_stay_types(load: Load, name: str) -> None:
    tags, expected = BARE[name]
    assert entities(load, file(tags)) == expected


def test_scheme_bare_is_obeyed(load: Load) -> None:
    assert entities(load, file(FORMS["underscore"]), scheme="bare") == {"B_Dis": 60, "I_Dis": 30}


def test_a_scheme_that_is_said_reads_the_form_without_proof(load: Load) -> None:
    single = file(("B_Dis", "O", "O", "B_Dis"))
    assert entities(load, single) == {"B_Dis": 60}
    assert entities(load, single, scheme="iob2") == {"Dis": 60}


BROKEN = {
    "another form": (
        conll(tags=("B_D", "I_D", "O")) + "x\tD\n",
        {},
        r"line 81: tag 'D' is not written B_type",
    ),
    "zero for O": (
        conll(tags=("B_D", "I_D", "O")) + "x\t0\n",
        {},
        r"line 81: tag '0' is not written B_type",
    ),
    "goes on with nothing": (
        conll(tags=("B_D", "I_D", "O")) + "x\tI_D\n",
        {},
        r"line 81: tag 'I_D' goes on with no",
    ),
    "IOB1": (conll(tags=("I_D", "B_D", "O")), {}, r"line 1: tag 'I_D' goes on with no .*iob1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_mixtures_are_refused(load: Load, name: str) -> None:
    content, changed, said = BROKEN[name]
    with pytest.raises(DataError, match=said):
        entities(load, content, **changed)


def test_iob1_with_underscores_may_be_said(load: Load) -> None:
    found = entities(load, conll(tags=("I_D", "B_D", "O")), scheme="iob1")
    assert found == {"D": 40}

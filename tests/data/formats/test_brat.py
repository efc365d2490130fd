"""BRAT folders of a person's own that are broken, and mentions that are left out."""

from __future__ import annotations

import pytest

from bluestab.core.errors import DataError
from tests.support.own_files import Broken, Load, brat, notes, refuses

BROKEN: dict[str, Broken] = {
    "BRAT without marks": (
        "tagging",
        {k: v for k, v in brat().items() if k != "b/03.ann"},
        {"train": "b"},
        r"03\.txt: has no 03\.ann beside it",
    ),
    "BRAT without text": (
        "tagging",
        {k: v for k, v in brat().items() if k != "b/03.txt"},
        {"train": "b"},
        r"03\.ann: has no 03\.txt beside it",
    ),
    "BRAT offset": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 1 13\tColon cancer\n"},
        {"train": "b"},
        r"03\.ann, line 1: 'Colon cancer' is not at 1 13",
    ),
    "BRAT outside": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 0 99\tColon cancer\n"},
        {"train": "b"},
        r"03\.ann, line 1: 0-99 lies outside of 03\.txt",
    ),
    "BRAT id twice": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 0 12\tColon cancer\n" * 2},
        {"train": "b"},
        r"03\.ann, line 2: T1 was already used in line 1",
    ),
    "BRAT line": (
        "tagging",
        {**brat(), "b/03.ann": "T1 Disease 0 12 Colon cancer\n"},
        {"train": "b"},
        r"03\.ann, line 1: expected T1, type and offsets",
    ),
    "BRAT NUL": (
        "tagging",
        {**brat(), "b/03.txt": "Colon\0cancer"},
        {"train": "b"},
        r"03\.txt, line 1: holds a NUL",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


REPAIRED: dict[str, Broken] = {
    "BRAT relations": (
        "tagging",
        {
            **brat(),
            "b/03.ann": "T1\tDisease 0 12\tColon cancer\nR1\tX Arg1:T1 Arg2:T1\n#1\tNote T1\tx\n",
        },
        {"train": "b"},
        "1 relations were passed over",
    ),
    "attributes": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 0 12\tColon cancer\nA1\tNegation T1\n"},
        {"train": "b"},
        "1 attributes (Negation 1) were passed over",
    ),
    "triggers of events": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 0 12\tColon cancer\nE1\tDisease:T1 Theme:T1\n"},
        {"train": "b"},
        "among the entities are triggers of events: 1",
    ),
    "unconfirmed": (
        "tagging",
        {
            **brat(),
            "b/03.ann": "T1\tDisease 0 12\tColon cancer\nT2\tDisease 17 21\tgout\n"
            "#1\tAnnotationUnconfirmed T1\tby a program\n",
        },
        {"train": "b"},
        "1 mentions that are marked as unconfirmed, incomplete, wrong or rejected were left out",
    ),
    "rejected": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 0 12\tColon cancer\nA1\tStatus T1 Rejected\n"},
        {"train": "b"},
        "1 mentions that are marked as unconfirmed",
    ),
    "discontinuous": (
        "tagging",
        {**brat(), "b/03.ann": "T1\tDisease 0 5;17 21\tColon gout\n"},
        {"train": "b"},
        "1 of 23 mentions in several parts (discontinuous) were left out",
    ),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_or_left_out_is_said(load: Load, name: str) -> None:
    kind, files, changed, said = REPAIRED[name]
    notes(load, (kind, dict(sorted(files.items())), changed, said))


NOTE = "The patient has congestive heart\nfailure and\n  iron deficiency\n  anaemia, not gout."


def places(*words: str) -> str:
    return ";".join(f"{NOTE.index(w)} {NOTE.index(w) + len(w)}" for w in words)


def marked(load: Load, *fragments: str, end: str = "\n") -> list[list[str]]:
    """Words of the mentions of a folder whose texts have this one, as it is read."""
    covered = " ".join(fragments)
    files = {}
    for i in range(15):
        files[f"b/{i:02}.txt"] = NOTE.replace("\n", end) + f" No {i}"
        files[f"b/{i:02}.ann"] = f"T1\tDisease {places(*fragments)}\t{covered}{end}"
        files[f"b/{i:02}.ann"] += f"T2\tDisease {places('gout')}\tgout{end}" if end == "\n" else ""
    data = load("tagging", files, train="b")
    found: list[list[str]] = []
    for e in (e for part in data.splits.values() for e in part):
        for word, tag in zip(e.text, e.target, strict=True):  # type: ignore[arg-type]
            if tag.startswith("B"):
                found.append([])
            if tag != "O":
                found[-1].append(word)
    return found


@pytest.mark.parametrize(
    ("fragments", "words"),
    [
        (("congestive heart", "failure"), ["congestive", "heart", "failure"]),
        (("failure", "congestive heart"), ["congestive", "heart", "failure"]),
        (("iron deficiency", "anaemia"), ["iron", "deficiency", "anaemia"]),
        (("congestive", "heart", "failure"), ["congestive", "heart", "failure"]),
    ],
)
def test_a_mention_over_a_line_end_is_one(
    load: Load, fragments: tuple[str, ...], words: list[str]
) -> None:
    assert sorted(marked(load, *fragments)) == sorted([words, ["gout"]] * 15)


def test_fragments_in_reading_order_are_several(load: Load) -> None:
    assert marked(load, "anaemia", "heart") == [["gout"]] * 15


def test_all_left_out_says_why(load: Load) -> None:
    files = {k: v for k, v in brat().items() if k.endswith(".txt")}
    for name in list(files):
        files[name.replace(".txt", ".ann")] = "T1\tDisease 0 5;17 21\tColon gout\n"
    with pytest.raises(DataError, match=r"holds no entity.*12 of 12 mentions in several parts"):
        load("tagging", files, train="b")


def test_nothing_confirmed_is_told(load: Load) -> None:
    files = {k: v for k, v in brat().items() if k.endswith(".txt")}
    for name in list(files):
        files[name.replace(".txt", ".ann")] = (
            "T1\tDisease 0 12\tColon cancer\n#1\tAnnotationUnconfirmed T1\tx\n"
        )
    with pytest.raises(DataError, match="all 12 mentions are marked as unconfirmed"):
        load("tagging", files, train="b")

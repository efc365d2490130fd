"""BRAT folders of a person's own that are broken, and mentions that are left out."""

from __future__ import annotations

import pytest

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

"""Hallmarks of Cancer: members that are broken, labels, and BLURB's split."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bluestab.core.errors import DataError
from bluestab.data.converters import hoc, originals
from tests.support.miniatures import hoc_members, zipped

Convert = Callable[..., dict[str, bytes]]


@pytest.mark.parametrize(
    ("member", "content", "reason"),
    [
        ("labels/101.txt", "< <", "labels/101.txt: has labels for 2 sentences, the text has 3"),
        ("text/101.txt", "", "has labels for 3 sentences, the text has 0"),
        (
            "labels/101.txt",
            "<Resisting cell deaths--x",
            "unknown hallmark 'resisting cell deaths'; did",
        ),
        ("text/101.txt", None, "has no member text/101.txt"),
        ("labels/102.txt", None, "has no member labels/102.txt"),
    ],
)
def test_hoc_broken_members(
    convert: Convert, member: str, content: str | None, reason: str
) -> None:
    members = {**hoc_members(), f"repository-abc/{member}": content}
    archive = zipped({name: text for name, text in members.items() if text is not None})
    with pytest.raises(DataError, match=reason):
        convert("hoc", {hoc.ARCHIVE: archive})


def test_hoc_labels_beyond_the_last_sentence_are_passed_over(convert: Convert) -> None:
    members = hoc_members()
    members["repository-abc/labels/102.txt"] += "<Cellular energetics--Glycolysis"
    made = convert("hoc", {hoc.ARCHIVE: zipped(members)})
    assert made == convert("hoc")


def test_hoc_split_is_blurb_s() -> None:
    split = originals.split_lists("hoc")
    assert {part: len(ids) for part, ids in split.items()} == {
        "train": 1295,
        "dev": 186,
        "test": 371,
    }
    assert len({pmid for ids in split.values() for pmid in ids}) == 1852

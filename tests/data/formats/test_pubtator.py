"""PubTator files of a person's own: offsets to the end, and what is broken."""

from __future__ import annotations

import pytest

from tests.support.own_files import Broken, Load, notes, pubtator, refuses

BROKEN: dict[str, Broken] = {
    "text of PubTator": (
        "tagging",
        {"f.pubtator": pubtator()},
        {"text": "title"},
        r"is pubtator, which has no columns for task\.text",
    ),
    "PubTator offset": (
        "tagging",
        {"f.txt": pubtator().replace("\t0\t12\tColon", "\t1\t13\tColon", 1)},
        {},
        r"f\.txt, line 3: 'Colon cancer' is not at 1-13",
    ),
    "PubTator outside": (
        "tagging",
        {"f.txt": pubtator().replace("\t24\t28\tgout", "\t24\t99\tgout", 1)},
        {},
        r"line 4: 24-99 lies outside of '100'",
    ),
    "PubTator of another": (
        "tagging",
        {"f.txt": pubtator().replace("100\t0", "999\t0", 1)},
        {},
        r"line 3: '999.*' belongs to no title",
    ),
    "PubTator without abstract": (
        "tagging",
        {"f.txt": pubtator().replace("100|a|", "999|a|", 1)},
        {},
        r"line 2: the abstract of '999' does not follow",
    ),
    "PubTator columns": (
        "tagging",
        {"f.txt": pubtator().replace("\tDisease\tD1", "", 1)},
        {},
        r"line 3: expected id, start, end|belongs to no",
    ),
    "PubTator twice, not alike": (
        "tagging",
        {"f.txt": pubtator() + "100|t|Other.\n100|a|Text.\n"},
        {},
        r"line 61: '100' was already there in line 1",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


REPAIRED: dict[str, Broken] = {
    "abstract twice": (
        "tagging",
        {"f.txt": pubtator() + pubtator(1)},
        {},
        "1 abstracts that are there twice were counted once",
    ),
    "relations": (
        "tagging",
        {"f.txt": pubtator() + "111\tCID\tD1\tD2\n"},
        {},
        "1 relations were passed over",
    ),
    "relations of BioRED": (
        "tagging",
        {"f.txt": pubtator() + "111\tPositive_Correlation\t3269\tD2\tNovel\n"},
        {},
        "1 relations were passed over",
    ),
    "no title": (
        "tagging",
        {"f.txt": pubtator() + "7|a|Gout again.\n7\t0\t4\tGout\tDisease\tD1\n"},
        {},
        "1 abstracts have no title",
    ),
    "blanks in a mention": (
        "tagging",
        {"f.txt": pubtator().replace("\tColon cancer\t", "\tColon  cancer\t", 1)},
        {},
        "1 mentions differs in blanks",
    ),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_or_left_out_is_said(load: Load, name: str) -> None:
    notes(load, REPAIRED[name])


@pytest.mark.parametrize("title", ["", "{i}|t|\n"])
@pytest.mark.parametrize("before", [0, 1])
def test_without_a_title_offsets_may_count_a_blank_for_it(
    load: Load, title: str, before: int
) -> None:
    content = "".join(
        title.format(i=i)
        + f"{i}|a|Gout of {i}.\n{i}\t{before}\t{before + 4}\tGout\tDisease\tD1\n\n"
        for i in range(12)
    )
    data = load("tagging", {"f.pubtator": content})
    found = [(e.text[0], e.target[0]) for part in data.splits.values() for e in part]  # type: ignore[index]
    assert found == [("Gout", "B-Disease")] * 12


def test_mentions_that_share_a_word_are_said_to(load: Load) -> None:
    content = "".join(
        f"{i}|t|The vaccine rDEN2Delta30 {i}.\n{i}|a|End.\n{i}\t12\t17\trDEN2\tSpecies\tX\n"
        f"{i}\t17\t24\tDelta30\tVariant\tY\n\n"
        for i in range(12)
    ) + pubtator(80)
    data = load("tagging", {"f.pubtator": content})
    assert any("12 of 184 mentions that share a word with one before" in n for n in data.notes)
    assert not any("overlap" in note for note in data.notes)


def test_offsets_are_kept_to_the_end(load: Load) -> None:
    data = load("tagging", {"f.txt": pubtator()})
    for examples in data.splits.values():
        for e in examples:
            i = int(e.id) - 100
            text = f"Colon cancer. A case of gout {i}."
            assert e.offsets is not None
            assert [text[a:b] for a, b in e.offsets] == list(e.text)
            assert e.group == e.id, "a PubMed id is never split apart"

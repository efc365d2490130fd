"""CoNLL files of a person's own: columns that do not fit, comments and numbers."""

from __future__ import annotations

import pytest

from tests.support.own_files import WORDS, Broken, Load, conll, notes, refuses

BROKEN: dict[str, Broken] = {
    "tag without a word": (
        "tagging",
        {WORDS: conll() + "\tB-D\n"},
        {},
        r"f\.conll, line 81: has no word",
    ),
    "word without a tag": ("tagging", {WORDS: conll() + "cancer\t\n"}, {}, r"line 81: has no tag"),
    "word alone": (
        "tagging",
        {WORDS: conll() + "cancer\n"},
        {},
        r"line 81: columns are separated by tabs in line 1",
    ),
    "blank for a tab": (
        "tagging",
        {WORDS: conll() + "cancer B-D\n"},
        {},
        r"line 81: columns are separated by tabs in line 1",
    ),
    "a column too many": (
        "tagging",
        {WORDS: conll() + "cancer\tNN\tB-D\n"},
        {},
        r"line 81: has 3 columns where line 1 has 2",
    ),
    "group of CoNLL": (
        "tagging",
        {WORDS: conll()},
        {"group": "pmid"},
        r"f\.conll: is conll, which has no columns for task\.group",
    ),
    "no such tag column": (
        "tagging",
        {WORDS: conll()},
        {"label": 3},
        r"line 1: has 2 columns, but task\.label is 3",
    ),
    "tag column by name": (
        "tagging",
        {WORDS: conll()},
        {"label": "ner"},
        r"task\.label is 'ner', but the columns of CoNLL are numbers",
    ),
    "word numbers": (
        "tagging",
        {WORDS: "1\tcolon\tB-D\n2\tis\tO\n\n" * 9},
        {},
        r"line 1: the first column numbers the words; say task\.text=1",
    ),
    "comments only": ("tagging", {WORDS: "-DOCSTART- O\n\n"}, {}, r"holds no words"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


REPAIRED: dict[str, Broken] = {
    "comments": (
        "tagging",
        {WORDS: "# sent_id = 1\n" + conll()},
        {},
        "1 comment lines (first: line 1)",
    ),
    "four columns": (
        "tagging",
        {WORDS: conll().replace("\t", "\tNN\tX\t")},
        {},
        "of 4 columns, 0 holds the words and 3 the tags",
    ),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_or_left_out_is_said(load: Load, name: str) -> None:
    notes(load, REPAIRED[name])

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


IN_CSV = {
    "blanks": "colon{i} B-D\ncancer I-D\n, O\n\n",
    "tabs": "colon{i}\tB-D\ncancer\tI-D\n,\tO\n\n",
    "commas": 'colon{i},B-D\ncancer,I-D\n",",O\n\n',
    "semicolons": "colon{i};x;B-D\ncancer;x;I-D\n,;x;O\n\n",
    "a mark": "-DOCSTART- O\n\ncolon{i} B-D\ncancer I-D\n, O\n\n",
}


@pytest.mark.parametrize("name", IN_CSV)
def test_words_and_tags_in_a_csv(load: Load, name: str) -> None:
    text = "".join(IN_CSV[name].format(i=i) for i in range(20))
    data = load("tagging", {"f.csv": text})
    items = [e for split in data.splits.values() for e in split]
    assert len(items) == 20
    assert {e.text[1:] for e in items} == {("cancer", ",")}
    assert {e.target for e in items} == {("B-D", "I-D", "O")}


def test_a_csv_of_texts_stays_one(load: Load) -> None:
    table = "word,tag,sent_id\n" + "".join(f"w{i},{'OB'[i % 2]},{i // 4}\n\n" for i in range(40))
    data = load("tagging", {"f.csv": table})
    assert sum(map(len, data.splits.values())) == 10

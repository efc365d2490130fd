"""Words and tags of a person's own files, and how they form sentences."""

from __future__ import annotations

import pytest

from bluestab.training.inspection import label_counts, said
from tests.support.own_files import JSONL, WORDS, Broken, Load, conll, refuses

BROKEN: dict[str, Broken] = {
    "types alike": ("tagging", {WORDS: conll() + "x\tB-d\n\n"}, {}, r"types 'D' and 'd' are alike"),
    "no entity": ("tagging", {WORDS: "a\tO\nb\tO\n\n" * 9}, {}, r"holds no entity"),
    "type only in test": (
        "tagging",
        {WORDS: conll(), "t.conll": conll() + "x\tB-E\n"},
        {"test": "t.conll"},
        r"t\.conll: tag 'B-E' \(sentence at line 81\) is not among",
    ),
    "lengths differ": (
        "tagging",
        {JSONL: '{"tokens": ["a", "b"], "tags": ["O"]}\n'},
        {},
        r"line 1: 2 words \(tokens\), but 1 tags",
    ),
    "numbers for tags": (
        "tagging",
        {JSONL: '{"tokens": ["a", "b"], "tags": [0, 1]}\n'},
        {},
        r"line 1: tags \(task\.label\) holds numbers, whose names",
    ),
    "a word per row": (
        "tagging",
        {"f.csv": "word,tag,s\n" + "a,O,1\nb,B-D,1\n" * 9},
        {},
        r"every row holds one word \(word\): which rows are one sentence\? say task\.sentence",
    ),
    "a sentence in two places": (
        "tagging",
        {"f.csv": "word,tag,sent_id\na,O,1\nb,B-D,2\nc,O,1\n"},
        {},
        r"line 4: sentence '1' was already there in line 2, with others between",
    ),
    "names of words": (
        "tagging",
        {"f.csv": "word,tag,sent_id,n\na,O,1,x\nb,B-D,1,y\n"},
        {"id": "n"},
        r"task\.id is 'n', but a row is a word here and sent_id \(task\.sentence\) names",
    ),
    "a word without a sentence": (
        "tagging",
        {"f.csv": "word,tag,sent_id\na,O,\nb,B-D,2\n"},
        {},
        r"line 2: sent_id \(task\.sentence\) is empty in the first row",
    ),
    "a word without a tag": (
        "tagging",
        {"f.csv": "word,tag,sent_id\na,O,1\nb,,1\n"},
        {},
        r"line 3: tag \(task\.label\) is empty",
    ),
    "sentences of lists": (
        "tagging",
        {JSONL: '{"tokens": ["a", "b"], "tags": ["O", "O"], "n": 1}\n'},
        {"sentence": "n"},
        r"task\.sentence is for files with a word per row",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


def test_rows_of_words_keep_sentences_and_documents(load: Load) -> None:
    rows = [f"w{n}x{i},{'B-D' if i % 2 else 'O'},{n},{n // 2}" for n in range(20) for i in range(3)]
    text = "\n".join(["word,tag,sent_id,pmid", *rows])
    data = load("tagging", {"f.csv": text})
    items = [item for part in data.splits.values() for item in part]
    assert {item.id for item in items} == set(map(str, range(20)))
    assert {item.group for item in items} == set(map(str, range(10)))
    assert all(len(item.text) == 3 for item in items)
    named = load("tagging", {"g.csv": text.replace("sent_id", "s")}, sentence="s")
    assert [e.text for e in named.splits["train"]] == [e.text for e in data.splits["train"]]


def test_spans_as_pandas_writes_them(load: Load) -> None:
    rows = "".join(
        f"\"case {i} of gout\",\"[(0, 4, 'A'), (11, 15, 'B')]\"\n" for i in range(10, 30)
    )
    data = load("tagging", {"f.csv": "text,entities\n" + rows})
    tags = [tag for split in data.splits.values() for e in split for tag in e.target]
    assert (tags.count("B-A"), tags.count("B-B")) == (20, 20)


def test_entities_without_types_are_counted_without_empty_parentheses(load: Load) -> None:
    data = load("tagging", {WORDS: conll(tags=("B", "I", "O"))})
    assert "train: 20 entities" in data.notes
    assert label_counts(data.task, data.splits["train"]) == {"(without a type)": 13}
    assert said(data.splits["train"][0]) == "1 (without a type)"

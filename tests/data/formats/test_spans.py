"""Spans of a person's own files: offsets that are wrong, and mentions that are left out."""

from __future__ import annotations

import pytest

from tests.support.own_files import JSONL, Broken, Load, notes, refuses, spans

BROKEN: dict[str, Broken] = {
    "offsets from 1": (
        "tagging",
        {JSONL: spans().replace("[[10, 22", "[[11, 23").replace("[[11, 23", "[[12, 24")},
        {},
        r"20 of 20 mentions begin or end inside a word: do offsets count characters",
    ),
    "span outside": (
        "tagging",
        {JSONL: '{"text": "abc", "spans": [[0, 4, "D"]]}\n'},
        {},
        r"line 1: span 0-4 lies outside of its text, which has 3",
    ),
    "span of nothing": (
        "tagging",
        {JSONL: '{"text": "abc", "spans": [[1, 1, "D"]]}\n'},
        {},
        r"line 1: span 1-1 lies outside .* or holds nothing",
    ),
    "span reversed": (
        "tagging",
        {JSONL: '{"text": "abc", "spans": [[2, 1, "D"]]}\n'},
        {},
        r"line 1: span 2-1",
    ),
    "span of another text": (
        "tagging",
        {
            JSONL: '{"text": "abc def", "spans": '
            '[{"start": 0, "end": 3, "label": "D", "text": "def"}]}\n'
        },
        {},
        r"'def' is not at 0-3, 'abc' is",
    ),
    "span without a type": (
        "tagging",
        {JSONL: '{"text": "abc", "spans": [{"start": 0, "end": 3}]}\n'},
        {},
        r"is no span: it has no start, end and type",
    ),
    "offsets as text": (
        "tagging",
        {JSONL: '{"text": "abc", "spans": [["0", "3", "D"]]}\n'},
        {},
        r"is no span",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong(load: Load, name: str) -> None:
    refuses(load, BROKEN[name])


REPAIRED: dict[str, Broken] = {
    "nested": (
        "tagging",
        {JSONL: spans() + '{"text": "colon cancer", "spans": [[0, 12, "D"], [0, 5, "D"]]}\n'},
        {},
        "1 of 22 mentions that overlap a longer one",
    ),
    "overlapping": (
        "tagging",
        {JSONL: spans() + '{"text": "colon cancer gout", "spans": [[0, 12, "D"], [6, 17, "D"]]}\n'},
        {},
        "1 of 22 mentions that overlap a longer one",
    ),
    "span twice": (
        "tagging",
        {JSONL: spans() + '{"text": "colon cancer", "spans": [[0, 12, "D"], [0, 12, "D"]]}\n'},
        {},
        "1 of 22 mentions that are there twice",
    ),
    "inside a word": (
        "tagging",
        {JSONL: spans() + '{"text": "anticancer", "spans": [[4, 10, "D"]]}\n'},
        {},
        "1 of 21 mentions that begin or end inside a word",
    ),
    "blank span": (
        "tagging",
        {JSONL: spans() + '{"text": "a  b", "spans": [[1, 3, "D"]]}\n'},
        {},
        "1 of 21 mentions that hold no word",
    ),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_or_left_out_is_said(load: Load, name: str) -> None:
    notes(load, REPAIRED[name])

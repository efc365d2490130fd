"""A vocabulary of one's own text: the same every time, and one that plain transformers loads."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bluestab.core.errors import ConfigError
from bluestab.models.learn_vocabulary import SPECIAL, learn_pieces, words_in, write_vocabulary
from tests.conftest import Say

TEXT = "The renal arteries' stenosis; renal artery, arterial and Ärztin. " * 3
LINE = f"""
from bluestab.models.learn_vocabulary import learn_pieces, words_in
print(learn_pieces(words_in([{TEXT!r}], cased=False), 80))
"""


def test_words_are_those_of_berts_tokenizer() -> None:
    words = words_in([TEXT], cased=False)
    assert words["renal"] == 6
    assert words["arztin"] == words["'"] == 3
    assert words_in([TEXT], cased=True)["Ärztin"] == 3


def test_pieces_do_not_depend_on_the_process() -> None:
    here = str(learn_pieces(words_in([TEXT], cased=False), 80))
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", LINE], capture_output=True, text=True)
        assert done.stdout.strip() == here, done.stderr


def test_order_of_the_texts_does_not_matter() -> None:
    one = Counter({"ab": 3, "abc": 4, "bca": 5, "cab": 5})
    other = Counter(dict(reversed(one.items())))
    assert learn_pieces(one, 30) == learn_pieces(other, 30)


def test_too_few_pieces_and_no_words_are_one_sentence() -> None:
    with pytest.raises(ConfigError, match="--size is 9, but the text has 11 letters and special"):
        learn_pieces(Counter({"abc": 2, "cab": 1, "bca": 1}), 9)
    with pytest.raises(ConfigError, match="there is no word in the text"):
        learn_pieces(Counter(), 100)


def test_the_verb_writes_what_plain_transformers_loads(cli: Say, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    arguments = ("vocabulary", str(tmp_path / "a.txt"), "--size", "100", "--out", "words")
    said = cli(*arguments)
    assert said.code == 0
    assert said.out.startswith("wrote words: ")
    assert "model.vocabulary=words" in said.out
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("words")
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == list(SPECIAL)
    assert tokenizer.tokenize("Renal ärztin") == ["renal", "arztin"]
    assert cli(*arguments).err == (
        "bluestab: --out is 'words', which is there and not empty; name a new folder\n"
    )
    assert "not found in" in cli("vocabulary", "none.txt", "--out", "x").err


def test_a_cased_vocabulary_keeps_capitals(tmp_path: Path) -> None:
    pieces = learn_pieces(words_in([TEXT], cased=True), 100)
    write_vocabulary(pieces, tmp_path / "w", cased=True)
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tmp_path / "w").tokenize("Ärztin") == ["Ärztin"]

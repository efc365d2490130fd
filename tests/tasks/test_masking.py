"""Dynamic masking: how often, what becomes of a piece, whole words, and a stream for each row."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.types import IGNORED  # noqa: E402
from bluestab.models.tokenizers import load_tokenizer  # noqa: E402
from bluestab.tasks.masking import Masking, masking_of  # noqa: E402
from tests.support.model_yamls import model_of  # noqa: E402

USUAL: dict[str, Any] = {"share": 0.15, "masked": 0.8, "randomly": 0.1, "whole_words": False}
CLS, SEP, MASK = 2, 3, 4


def masking(**changes: Any) -> Masking:
    return masking_of(load_tokenizer(model_of("tiny")), **{**USUAL, **changes})


def batch(rows: int, pieces: int, first: int = 0) -> dict[str, Any]:
    """Rows of [CLS], so many pieces, [SEP], and two of padding; `first`: number of the first."""
    numbers = torch.Generator().manual_seed(first)
    ids = torch.randint(5, 193, (rows, pieces + 4), generator=numbers)
    ids[:, 0], ids[:, pieces + 1], ids[:, pieces + 2 :] = CLS, SEP, 0
    real = torch.ones_like(ids)
    real[:, pieces + 2 :] = 0
    items = torch.arange(first, first + rows)
    return {"input_ids": ids, "attention_mask": real, "items": items, "labels": torch.zeros(rows)}


def chosen_of(found: dict[str, Any], shape: Any) -> Any:
    """Which pieces of the batch are to be said, (B, T)."""
    marks = torch.zeros(shape, dtype=torch.bool)
    for row, (places, labels) in enumerate(zip(found["positions"], found["labels"], strict=True)):
        marks[row, places[labels != IGNORED]] = True
    return marks


def near(n: int, of: int, share: float) -> bool:
    """Within four standard deviations of a binomial count."""
    return abs(n - of * share) <= 4 * math.sqrt(of * share * (1 - share))


def test_the_shares_are_those_of_bert() -> None:
    given = batch(400, 120)
    found = masking()(given, 7, ("mask", 3))
    ids, now = given["input_ids"], found["input_ids"]
    marks = chosen_of(found, ids.shape)
    assert near(int(marks.sum()), 400 * 120, 0.15)
    n = int(marks.sum())
    assert near(int((now[marks] == MASK).sum()), n, 0.8)
    other = (now[marks] != MASK) & (now[marks] != ids[marks])
    assert near(int(other.sum()), n, 0.1 * 187 / 188)  # a random piece may be the right one
    assert torch.equal(now[~marks], ids[~marks])
    labels = found["labels"][found["labels"] != IGNORED]
    assert torch.equal(labels, ids[marks])
    assert not marks[:, 0].any()
    assert not marks[:, 121:].any(), "neither [SEP] nor padding"
    assert now[marks].min() >= MASK, "no random piece is a special one"


def test_a_row_draws_the_same_in_whatever_company_and_anew_in_every_step() -> None:
    mask, given = masking(), batch(6, 40)
    whole = mask(given, 7, ("mask", 3))["input_ids"]
    alone = mask({n: v[4:5] for n, v in given.items()}, 7, ("mask", 3))["input_ids"]
    assert torch.equal(alone, whole[4:5])
    padded = {**given, "input_ids": torch.nn.functional.pad(given["input_ids"], (0, 9))}
    padded["attention_mask"] = torch.nn.functional.pad(given["attention_mask"], (0, 9))
    assert torch.equal(mask(padded, 7, ("mask", 3))["input_ids"][:, :44], whole)
    for seed, names in ((8, ("mask", 3)), (7, ("mask", 4))):
        assert not torch.equal(mask(given, seed, names)["input_ids"], whole)


def test_every_row_with_a_piece_has_one_to_say_and_a_row_without_has_none() -> None:
    found = masking(share=1e-9)(batch(50, 3), 0, ("mask",))
    assert (found["labels"] != IGNORED).sum(dim=1).tolist() == [1] * 50
    empty = masking()(batch(2, 0), 0, ("mask",))
    assert (empty["labels"] == IGNORED).all()


def test_whole_words_are_chosen_together() -> None:
    tokenizer = load_tokenizer(model_of("tiny"))
    text = "alpha beta gamma delta epsilon zeta eta theta iota kappa"
    ids = torch.tensor([tokenizer(text)["input_ids"]] * 300)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "items": torch.arange(300)}
    word = torch.tensor([[-1 if w is None else w for w in tokenizer(text).word_ids()]] * 300)
    found = masking(whole_words=True)(given, 0, ("mask",))
    marks = chosen_of(found, ids.shape)
    together = [len(set(marks[r, word[r] == w].tolist())) for r in range(300) for w in range(10)]
    assert set(together) == {1}
    n = sum(bool(marks[row, word[row] == w].any()) for row in range(300) for w in range(10))
    assert near(n, 3000, 0.15 + 0.85**10 / 10)  # of rows in which chance picks none, one word
    apart = chosen_of(masking()(given, 0, ("mask",)), ids.shape)
    assert any(len(set(apart[r, word[r] == 0].tolist())) == 2 for r in range(300))

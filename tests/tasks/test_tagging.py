"""Windows over long sentences: every word is tagged once, and every gold entity can be found."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import torch

from bluestab.tasks.tagging import windows

TINY = ("model=tiny", "device=cpu", "optim.batch_size=8")


def test_a_sentence_that_fits_is_one_window() -> None:
    (window,) = windows([1, 2, 3], room=6, overlap=2)
    assert (window.start, window.end, window.first, window.last) == (0, 3, 0, 3)


def test_windows_by_hand() -> None:
    """Six words of two pieces, room for four words' worth, two words in common."""
    found = [(w.start, w.end, w.first, w.last) for w in windows([2] * 6, room=8, overlap=4)]
    assert found == [(0, 4, 0, 3), (2, 6, 3, 6)]


def test_a_word_longer_than_a_window_stands_alone() -> None:
    found = [(w.start, w.end, w.first, w.last) for w in windows([1, 9, 1], room=4, overlap=2)]
    assert [(first, last) for *_, first, last in found] == [(0, 1), (1, 2), (2, 3)]
    assert (1, 2) in [(start, end) for start, end, *_ in found]


def test_any_sentence() -> None:
    """Each word belongs to one window that reads it; windows fit, advance, and overlap."""
    draw = random.Random(0)
    for _ in range(3000):
        room = draw.randint(3, 40)
        overlap = draw.randint(0, room // 2)
        pieces = [
            draw.randint(0 if draw.random() < 0.1 else 1, 5) for _ in range(draw.randint(1, 90))
        ]
        found = list(windows(pieces, room, overlap))
        owned = [word for w in found for word in range(w.first, w.last)]
        assert owned == list(range(len(pieces)))
        for w in found:
            assert w.start <= w.first <= w.last <= w.end
            assert sum(pieces[w.start : w.end]) <= room or w.end == w.start + 1
        for one, other in pairwise(found):
            assert one.start < other.start <= one.end < other.end
            common = sum(pieces[other.start : one.end])
            nearest = min(one.last - other.start, one.end - one.last)
            assert nearest >= (one.end - other.start) // 2 - 1, "words are tagged away from edges"
            # short only where the next word to share would leave no room for a new one
            full = common + pieces[other.start - 1] + pieces[one.end] > room
            assert common >= overlap or full or other.start - 1 <= one.start


LONG = ("task=ncbi_disease", *TINY, "task.max_length=24", "task.overlap=8", "optim.steps=1")


def test_windows_lose_no_entity(make_assembly: Any) -> None:
    """As many word pieces as characters, so most sentences need several windows."""
    whole, cut = make_assembly(*LONG), make_assembly(*LONG, "task.overlap=null")
    assert set(whole.lost.values()) == {0.0}
    assert cut.lost["test"] > 0
    table = whole.loaders["test"].dataset
    examples = whole.examples["test"]
    assert len(table) > len(examples)
    assert sorted(set(table["example"])) == list(range(len(examples)))
    words: dict[int, list[int]] = {i: [] for i in range(len(examples))}
    for i, rows, labels, ids in zip(
        table["example"], table["rows"], table["labels"], table["input_ids"], strict=True
    ):
        assert len(ids) <= 24
        assert len(labels) == len(ids)
        assert sum(label != -100 for label in labels) == len(rows)
        words[i] += rows
    assert all(words[i] == list(range(len(e.text))) for i, e in enumerate(examples))


def test_predictions_of_windows_are_put_together(make_assembly: Any) -> None:
    """A head that answers by the word itself must find every entity of every long sentence."""
    assembly = make_assembly(*LONG)
    c = assembly.tokenizer.convert_tokens_to_ids("c")
    seen: dict[str, torch.Tensor] = {}
    model = assembly.built.model

    def look(module: Any, args: Any, kwargs: Any) -> None:
        seen["ids"] = kwargs["input_ids"]

    def answer(module: Any, args: Any, output: Any) -> Any:
        first = (seen["ids"] == c).float()  # `colon`, `cancer`: the entities of these corpora
        logits = torch.zeros_like(output.logits)
        logits[..., 0], logits[..., 1] = 1 - first, first
        output.logits = logits + 0 * output.logits
        return output

    model.register_forward_pre_hook(look, with_kwargs=True)
    model.register_forward_hook(answer)
    assembly.trainer.test(assembly.module, assembly.loaders["test"], verbose=False)
    assert assembly.module.scores["entity_f1"] == 1.0
    for i, example in enumerate(assembly.examples["test"]):
        assert tuple(assembly.module.predictions[i]) == example.target
        assert assembly.module.item_logits[i].shape == (len(example.text), 3)


@pytest.mark.parametrize("overlap", [-1, 1.5, "much", True])
def test_a_wrong_overlap_is_refused(make_run: Any, overlap: Any) -> None:
    from bluestab.core.errors import ConfigError

    with pytest.raises(ConfigError, match=r"task\.overlap is"):
        make_run("task=ncbi_disease", *TINY, f"task.overlap={overlap}")


def test_word_tagging_wants_io_tags(make_run: Any, corpora: Any, tmp_path: Any) -> None:
    from bluestab.core.errors import ConfigError

    file = tmp_path / "train.tsv"
    file.write_text("a\tB-OUT\n")
    with pytest.raises(ConfigError, match=r"train\.tsv, line 1: tag 'B-OUT' is not O or I-type"):
        make_run("task=ebm_pico", *TINY, f"task.train={file}")

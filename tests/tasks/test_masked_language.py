"""Masked language modelling as a task: documents, rows, wrong values, and what is scored."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from bluestab.core.errors import ConfigError, DataError
from bluestab.core.instantiate import instantiate
from bluestab.core.paths import conf_dir
from bluestab.tasks.data import load_task
from bluestab.tasks.masked_language import MaskedLanguage

torch = pytest.importorskip("torch")

from bluestab.models.tokenizers import load_tokenizer  # noqa: E402
from tests.support.model_yamls import model_of  # noqa: E402

NODE: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "task" / "mlm.yaml"))


def node(**changes: Any) -> dict[str, Any]:
    recipe = {"lr": 5e-4, "batch_size": 32, "epochs": 10}
    return {**NODE, "recipe": recipe, **changes}


def task_of(**changes: Any) -> MaskedLanguage:
    return instantiate(node(**{"train": "x.txt", **changes}), MaskedLanguage, "task")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"documents": "chapter"}, "task.documents is 'chapter'"),
        ({"mask_share": 0}, "task.mask_share is 0"),
        ({"masked": 0.95}, "task.masked=0.95 and task.randomly=0.1 are more than all"),
        ({"randomly": "few"}, "task.randomly is 'few'"),
        ({"whole_words": "yes"}, "task.whole_words is 'yes'"),
        ({"format": "conll"}, "task.format is 'conll'"),
    ],
)
def test_a_wrong_value_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    (problem,) = task_of(**change).check()
    assert problem.startswith(sentence)


def test_no_row_holds_parts_of_two_documents_and_nothing_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    documents = ["ab " * 30, "c", "de f" * 9, "\u00ad"]
    file.write_text("\n".join(documents), encoding="utf-8")
    task, tokenizer = task_of(train=str(file), max_length=16), load_tokenizer(model_of("tiny"))
    items = task.read_all({"train": file}).splits["train"]
    columns = task.encode(items, ("masked piece",), tokenizer)
    assert max(map(len, columns["input_ids"])) == 16
    assert [*dict.fromkeys(columns["example"])] == [0, 1, 2, 3]
    for i, item in enumerate(items):
        rows = [r for r, e in zip(columns["input_ids"], columns["example"], strict=True) if e == i]
        assert all(row[0] == 2 and row[-1] == 3 for row in rows)
        whole = tokenizer(item.text, add_special_tokens=False)["input_ids"]
        assert [piece for row in rows for piece in row[1:-1]] == whole
        assert all(len(row) == 16 for row in rows[:-1])


def test_perplexity_is_of_pieces_not_of_documents() -> None:
    task = task_of()
    scores = task.score([[0.0, 0.0, 3.0], [1.0]], [0.0, 0.0])
    assert scores == {"perplexity": pytest.approx(math.exp(1.0))}
    assert task.score([], []) == {"perplexity": None}
    assert task.score([[math.nan]], [0.0]) == {"perplexity": None}
    assert task.calibration([np.array([[0.1, 1.0]]), np.zeros((0, 2))], [0, 0], ()) == {
        "masked_accuracy": 1.0
    }
    assert task.is_degenerate(30522.0)
    assert not task.is_degenerate(30521.0)


def test_what_is_kept_of_logits_is_the_loss_and_the_likeliest() -> None:
    task, logits = task_of(), torch.randn(2, 3, 7)
    labels = torch.tensor([[1, 2, -100], [0, -100, -100]])
    kept = task.preprocess_logits_for_metrics(logits, labels)[labels != -100]  # (3, 2)
    assert kept[:, 0].mean() == pytest.approx(float(task.loss(logits, {"labels": labels})))
    assert kept[:, 1].tolist() == (logits.argmax(-1) == labels)[labels != -100].float().tolist()


def test_a_vocabulary_without_a_mask_is_refused() -> None:
    tokenizer = load_tokenizer(model_of("tiny"))

    class Maskless:
        mask_token_id = None

    assert task_of().corruption(tokenizer) is not None
    with pytest.raises(ConfigError, match="has no mask token"):
        task_of().corruption(Maskless())  # type: ignore[arg-type]


def test_parts_are_drawn_by_document(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(f"line number {i}" for i in range(60)), encoding="utf-8")
    data = load_task(node(train=str(file)))
    assert {split: len(items) for split, items in data.splits.items()} == {
        "train": 54,
        "validation": 3,
        "test": 3,
    }
    assert data.task.name == "text"
    (tmp_path / "none.txt").touch()
    with pytest.raises(DataError, match="is empty"):
        load_task(node(train=str(tmp_path / "none.txt")))

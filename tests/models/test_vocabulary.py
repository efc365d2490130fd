"""Word embeddings without the rows that no item looks up: the same training, up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bluestab.models.vocabulary import renumbered, used_pieces  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]
SHORT = (
    *("device=cpu", "optim.steps=6", "optim.batch_size=6", "optim.lr=1e-3", "trainer.eval_every=3"),
    *("task.max_length=64", "optim.weight_decay=0.1"),
)
EMBEDDINGS = "bert.embeddings.word_embeddings.weight"


def weights_of(make_assembly: Make, *overrides: str) -> dict[str, Any]:
    """What a training leaves, as a run keeps it."""
    assembly = make_assembly("task=gad", "model=tiny", *SHORT, *overrides)
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    return dict(assembly.built.plain(assembly.built.model.state_dict()))


@pytest.mark.parametrize(
    "technique",
    [
        "none",
        pytest.param("llrd", marks=pytest.mark.slow),
        pytest.param("prior_decay", marks=pytest.mark.slow),
        pytest.param("recadam", marks=pytest.mark.slow),
        pytest.param("mixout", marks=pytest.mark.slow),
        pytest.param("ema", marks=pytest.mark.slow),
        pytest.param("swa", marks=pytest.mark.slow),
        pytest.param("freelb", marks=pytest.mark.slow),
        pytest.param("sam", marks=pytest.mark.slow),
        pytest.param("thaw", marks=pytest.mark.slow),
    ],
)
def test_the_whole_table_is_that_of_plain_training(make_assembly: Make, technique: str) -> None:
    """Also its rows that no item looks up, which decay or are pulled back: to 1e-7 of torch's own
    AdamW on all of them."""
    asked = (f"technique={technique}",)
    plain = weights_of(make_assembly, *asked)
    rows = weights_of(make_assembly, *asked, "trainer.rows=items")
    assert plain.keys() == rows.keys()
    assert {n: w.shape for n, w in plain.items()} == {n: w.shape for n, w in rows.items()}
    start = weights_of(make_assembly, *asked, "optim.lr=1e-30", "trainer.rows=items")
    unused = torch.linalg.norm(plain[EMBEDDINGS] - start[EMBEDDINGS], dim=1) < 1e-3
    assert 50 < int(unused.sum()) < 190, "some move, many do not"
    for name, weight in plain.items():
        bound = 1e-7 if name == EMBEDDINGS else 2e-5
        torch.testing.assert_close(
            rows[name][unused] if name == EMBEDDINGS else rows[name],
            weight[unused] if name == EMBEDDINGS else weight,
            atol=bound, rtol=0,
        )  # fmt: skip
    torch.testing.assert_close(rows[EMBEDDINGS], plain[EMBEDDINGS], atol=2e-5, rtol=0)


def test_a_run_keeps_all_rows_and_counts_them(make_run: Make, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    asked = ("task=gad", "model=tiny", *SHORT, "keep=last")
    plain = done(make_run(*asked), tmp_path / "plain")
    rows = done(make_run(*asked, "trainer.rows=items"), tmp_path / "rows")
    assert rows.key != plain.key
    assert rows.result["parameters"] == plain.result["parameters"]
    assert rows.result["score"] == pytest.approx(plain.result["score"], abs=0.2)
    tables = [
        AutoModelForSequenceClassification.from_pretrained(
            tmp_path / where / record.key / "checkpoint" / "last"
        ).get_input_embeddings()
        for where, record in (("plain", plain), ("rows", rows))
    ]
    assert [tuple(table.weight.shape) for table in tables] == [(193, 32)] * 2
    torch.testing.assert_close(tables[0].weight, tables[1].weight, atol=1e-4, rtol=0)


def test_frozen_embeddings_stay_whole(make_assembly: Make) -> None:
    frozen = make_assembly(
        "task=gad",
        "model=tiny",
        *SHORT,
        "technique=freeze",
        "technique.freeze.depth=1",
        "trainer.rows=items",
    )
    assert frozen.built.left_out == {}
    assert frozen.prefix is not None


def test_pieces_are_renumbered_and_padding_is_not(make_assembly: Make) -> None:
    whole = make_assembly("task=gad", "model=tiny_roberta", *SHORT)
    tables = [loader.dataset for loader in whole.loaders.values()]
    used = used_pieces(tables, whole.tokenizer)
    assert (np.diff(used) > 0).all()
    pad = whole.tokenizer.pad_token_id
    assert used[pad] == pad
    for table in tables:
        new = renumbered(table, used)
        assert [used[row].tolist() for row in map(np.array, new["input_ids"])] == [
            list(row) for row in table["input_ids"]
        ]
        assert new.column_names == table.column_names
        assert new["labels"] == table["labels"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["gad", "ncbi_disease", "biosses"])
@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert"])
def test_every_family_gives_the_same_logits(make_assembly: Make, task: str, model: str) -> None:
    found = []
    for rows in ("all", "items"):
        assembly = make_assembly(f"task={task}", f"model={model}", f"trainer.rows={rows}", *SHORT)
        batch = next(iter(assembly.loaders["train"]))
        assembly.built.model.eval()
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "items")}
        with torch.no_grad():
            found.append(assembly.built.model(**inputs).logits)
    assert torch.equal(*found)

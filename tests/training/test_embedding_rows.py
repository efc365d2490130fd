"""`trainer.embedding_rows=used`: the training of the whole table, up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from bluestab.testing.technique_arms import EVERY, chosen, technique_class  # noqa: E402
from bluestab.training.packable import row_problems  # noqa: E402
from tests.support.interrupted_runs import STEPS, compare  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]

BY_ROW = [name for name in EVERY if technique_class(name).embeddings_by_row]
SHORT = (
    *("optim.steps=6", "optim.lr=1e-3", "optim.batch_size=8", "trainer.eval_every=3"),
    *("trainer.precision=32", "trainer.micro_batch=3", "trainer.dropout_masks=torch"),
    *("device=cpu", "keep=all", "optim.weight_decay=0.3"),
)


def test_techniques_that_go_with_it_are_found() -> None:
    assert {"llrd", "reinit", "freeze", "ema", "sam", "recadam", "smart"} <= set(BY_ROW)
    assert not {"mixout", "child_tuning", "slimfit", "ewc"} & set(BY_ROW)


def outcomes(make_run: Make, folder: Path, *overrides: str) -> list[Any]:
    """Result, logits and kept weights of a run with all rows, and with the used ones."""
    from safetensors.torch import load_file

    found = []
    for rows in ("all", "used"):
        run = make_run(*SHORT, *overrides, f"trainer.embedding_rows={rows}")
        record = done(run, folder / rows)
        assert record.status == "done"
        kept = folder / rows / run.key
        table = pq.read_table(kept / "predictions.parquet")
        weights = {
            at: load_file(kept / "checkpoint" / at / "model.safetensors") for at in ("last", "best")
        }
        memory = record.measured["memory"]
        found.append((record.result, np.concatenate(table["logits"].to_pylist()), weights, memory))
    return found


@pytest.mark.parametrize(
    ("task", "model", "name"),
    [
        *(("gad", "tiny", name) for name in ("none", *BY_ROW)),
        *(("ncbi_disease", "tiny_electra", name) for name in ("none", "sam", "ema")),
        *(("biosses", "tiny_roberta", name) for name in ("none", "freelb")),
        ("gad", "tiny_modernbert", "none"),
    ],
)
def test_the_same_up_to_rounding(
    make_run: Make, tmp_path: Path, task: str, model: str, name: str
) -> None:
    technique = ("technique=none",) if name == "none" else chosen(name)
    whole, used = outcomes(make_run, tmp_path, f"task={task}", f"model={model}", *technique)
    np.testing.assert_allclose(used[1], whole[1], rtol=1e-3, atol=1e-5)
    for at, weights in whole[2].items():
        assert used[2][at].keys() == weights.keys()
        for key, value in weights.items():
            torch.testing.assert_close(used[2][at][key], value, rtol=1e-4, atol=1e-5)
    assert used[0]["parameters"] == whole[0]["parameters"]
    assert used[0]["effects"].keys() == whole[0]["effects"].keys()
    for key, effects in whole[0]["effects"].items():
        for said, value in effects.items():
            expected = pytest.approx(value, rel=1e-3) if isinstance(value, float) else value
            assert used[0]["effects"][key][said] == expected
    trains = name not in ("freeze", "train_only")
    assert (used[3]["moments"] < whole[3]["moments"]) == trains


def test_a_child_says_it_itself() -> None:
    class Reads(technique_class("freeze")):  # type: ignore[misc]
        """Might read the whole table, in what it adds."""

    class Follows(Reads):
        embeddings_by_row = True

    cfg = {"trainer": {"embedding_rows": "used"}, "task": {}}
    knobs = {"depth": 1, "embeddings": True, "eval_mode": False}
    (problem,) = row_problems(cfg, {"mine": Reads(**knobs)})
    assert "technique mine reads the whole table" in problem
    assert not row_problems(cfg, {"mine": Follows(**knobs)})


def test_an_interrupted_run_goes_on_bit_for_bit(making: Make, tmp_path: Path) -> None:
    make = making("task=gad", "model=tiny", "technique=ema", "trainer.embedding_rows=used")
    compare(make, tmp_path, STEPS[1])

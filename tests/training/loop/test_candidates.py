"""Names of a dictionary: in batches of their own, once for the same weights, with equal results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from datasets import Dataset  # noqa: E402
from torch import nn  # noqa: E402

from bluestab.models import earlier, passes  # noqa: E402
from bluestab.training import dry_run_step  # noqa: E402
from bluestab.training.loop import module  # noqa: E402
from bluestab.training.loop.batches import evaluation_batches  # noqa: E402
from bluestab.training.loop.candidates import Candidates, CandidateVectors, candidates_of  # noqa: E402
from tests.training.test_execute import done, kept  # noqa: E402


def table(*lengths: int, n_items: int) -> Dataset:
    """Rows of that many word pieces; items first."""
    return Dataset.from_dict(
        {"input_ids": [[7] * n for n in lengths], "example": list(range(len(lengths)))}
    )


def test_which_rows_they_are() -> None:
    found = candidates_of(table(4, 5, 2, 3, n_items=2), 2)
    assert found is not None
    assert found.rows == range(2, 4)
    assert candidates_of(table(4, 5, n_items=2), 2) is None
    others = {
        "the same behind other items": table(9, 2, 3, n_items=1),
        "another name": table(9, 2, 4, n_items=1),
        "pieces cut elsewhere": table(9, 3, 2, n_items=1),
    }
    same = {name: candidates_of(rows, 1).digest == found.digest for name, rows in others.items()}  # type: ignore[union-attr]
    assert list(same.values()) == [True, False, False], same


def test_they_are_in_batches_of_their_own() -> None:
    rows = table(4, 1, 3, 2, 1, n_items=2)
    batches = evaluation_batches(
        rows, {"eval_batch_size": 2, "eval_tokens": None}, Candidates(range(2, 5), "")
    )
    assert batches == [[1, 0], [4, 3], [2]]


def test_what_is_known_is_of_these_weights_and_these_names() -> None:
    network = nn.Linear(2, 2)
    network.config = None  # type: ignore[assignment]
    vectors, few = CandidateVectors(), Candidates(range(1, 3), "few")
    by_row = {row: np.full((1, 2), float(row)) for row in range(3)}

    def known(asked: Candidates | None, **weights: torch.Tensor) -> list[bool]:
        vectors.begin(network, asked, weights)
        return [vectors.has(torch.tensor([row])) for row in range(3)]

    assert known(None) == [False] * 3
    assert vectors.complete(by_row) is by_row
    assert known(few) == [False] * 3
    vectors.complete(by_row)
    assert known(few) == [False, True, True], "an item is asked again"
    assert known(None) == [False] * 3, "a split without any"
    assert known(Candidates(range(1, 3), "others")) == [False] * 3
    vectors.complete(by_row)
    assert known(few, bias=network.bias.detach().clone()) == [False, True, True]
    found = vectors.complete({0: np.zeros((1, 2))})
    assert [float(found[row][0, 0]) for row in range(3)] == [0.0, 1.0, 2.0]
    assert known(few, bias=network.bias + 1) == [False] * 3
    vectors.complete(by_row)
    with torch.no_grad():
        network.weight.data[0, 0] += 1  # as optimizers do that torch does not know of
    assert known(few, bias=network.bias + 1) == [False] * 3
    vectors.complete(by_row)
    vectors.forget()
    assert known(few, bias=network.bias + 1) == [False] * 3


LINE = (
    *("model=tiny", "device=cpu", "task.dictionary_sha256=null", "task.train_size=8"),
    *("optim.batch_size=8", "optim.steps=2", "trainer.eval_every=100", "keep=last"),
)


def test_a_dictionary_passes_once_and_results_are_those_of_passing_always(
    make_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last validation, its test, and the test of an earlier task with the same dictionary."""
    passed: list[int] = []

    def counting(batch: Any) -> Any:
        passed.append(len(batch["input_ids"]) if batch["input_ids"].ndim == 2 else 0)
        return passes.inputs_of(batch)

    monkeypatch.setattr(earlier, "inputs_of", counting)
    logits = passes.model_logits
    monkeypatch.setattr(module, "model_logits", lambda m, b: (counting(b), logits(m, b))[1])

    def both(root: Path) -> tuple[list[Any], list[int]]:
        counts, line = [], (*LINE, f"store={root}")
        first = done(make_run("task=bc5cdr_disease_linking", *line), root)
        counts.append(sum(passed))
        passed.clear()
        later = (f"model.init_from={first.key}", "score_earlier=true")
        second = done(make_run("task=bc5cdr_chem_linking", *line, *later), root)
        counts.append(sum(passed))
        passed.clear()
        assert second.status == "done", second.result["error"]
        return [[one.result, kept(root, one.key)] for one in (first, second)], counts

    once, few = both(tmp_path / "once")
    monkeypatch.setattr(CandidateVectors, "has", lambda *_: False)
    always, many = both(tmp_path / "always")
    assert once == always
    n_names = many[0] - few[0]
    assert n_names > 0
    assert many[1] - few[1] == 3 * n_names, "its own test, and the earlier task's two parts"


def test_a_forecast_takes_some_names_for_all(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds as if every row took one: those of the names, and of the items of each part."""
    run = make_run("task=ncbi_linking", *LINE[:-1], "trainer.eval_batch_size=2")
    monkeypatch.setattr(dry_run_step, "_passes", lambda _, __, rows: float(sum(map(len, rows))))
    found = dry_run_step.dry_step(run)
    n_names = sum(map(len, run.data.task.concepts().names))
    assert n_names > 2 * dry_run_step.SPREAD, "not all are timed"
    assert found.candidates == pytest.approx(n_names)
    assert found.evaluate["validation"] == run.data.size("validation")
    assert found.evaluate["test"] == run.data.size("test")


@pytest.mark.parametrize("name", ["diagonal-gold", "kronecker-gold-expand"])
def test_a_forecast_measures_importances_of_linking(
    name: str, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy that stands for the trained network pools the states of its own blocks."""
    monkeypatch.setattr(dry_run_step, "_per_item", lambda few, more: 1.0)
    run = make_run("task=ncbi_linking", *LINE, f"keep_importance=[{name}]")
    assert dry_run_step.dry_step(run).importance == run.data.size("train")

"""A few items per class: what is drawn and refused; validation labels decide nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import ConfigError
from bluestab.core.types import Example
from bluestab.store.store import Store
from bluestab.tasks.outputs import LABEL_SET, ONE_LABEL, WORD_LABELS, Output
from bluestab.tasks.shots import NO_LABEL, classes_of, draw_shots, too_few
from tests.store.test_artefacts import SHORT, recorded
from tests.training.test_execute import done

Make = Callable[..., Any]


def items(targets: list[Any]) -> list[Example]:
    return [
        Example(id=str(i), text=f"text {i}", text_pair=None, target=target)
        for i, target in enumerate(targets)
    ]


def test_every_class_gets_as_many() -> None:
    found = items([*(["a"] * 50), *(["b"] * 7), *(["c"] * 3)])
    drawn = [draw_shots(ONE_LABEL, found, 3, seed) for seed in range(5)]
    for one in drawn:
        assert Counter(e.target for e in one) == {"a": 3, "b": 3, "c": 3}
        assert [int(e.id) for e in one] == sorted(int(e.id) for e in one)
    assert len({tuple(e.id for e in one) for one in drawn}) == 5, "each seed draws others"
    assert draw_shots(ONE_LABEL, found, 3, 0) == drawn[0]
    assert draw_shots(ONE_LABEL, found[::-1], 3, 0) == drawn[0][::-1], "whatever their order"
    more = {e.id for e in draw_shots(ONE_LABEL, found, 2, 0)}
    assert more < {e.id for e in drawn[0]}, "more shots hold the fewer"


@pytest.mark.parametrize(
    ("output", "targets", "classes"),
    [
        (LABEL_SET, [("x",), ("x", "y"), ()] * 20, {"x", "y", NO_LABEL}),
        (WORD_LABELS, [("O", "B-g"), ("B-d", "O"), ("O", "O")] * 20, {"g", "d", NO_LABEL}),
    ],
)
def test_items_of_several_classes_or_none(
    output: Output, targets: list[Any], classes: set[str]
) -> None:
    found = items(targets)
    counts = Counter(
        name for e in draw_shots(output, found, 4, 0) for name in classes_of(output, e)
    )
    assert set(counts) == classes
    assert min(counts.values()) == 4
    assert too_few(output, found, 20) == {}
    assert NO_LABEL in too_few(output, found, 21)


def test_patience_by_hand() -> None:
    """Lowest losses 3, then 2; what follows is no lower; nan is no fall."""
    torch = pytest.importorskip("torch")
    from bluestab.tasks.metric import metric_of
    from bluestab.training.loop.history import ValidationHistory

    def stalled(*losses: float) -> list[bool]:
        history = ValidationHistory(metric_of("accuracy"), torch.nn.Linear(1, 1), patience=2)
        found = []
        for step, loss in enumerate(losses):
            history.add(step, {"accuracy": 0.5}, loss)
            found.append(history.is_stalled())
        return found

    assert stalled(3.0, 4.0, 2.0, 2.0, 2.5) == [False, False, False, False, True]
    nan = float("nan")
    assert stalled(3.0, nan, nan) == [False, False, True]


# --- in a run ------------------------------------------------------------------------------------

FEW = ("task=gad", "model=tiny", "task.shots=2", "trainer.eval_every=null", "device=cpu")


def test_a_run_uses_no_validation_label(make_run: Make, tmp_path: Path) -> None:
    """Another draw is another run of the same cell; the best weights are the last ones."""
    runs = [make_run(*FEW, "optim.epochs=3", f"seeds.split={s}") for s in (0, 1)]
    assert runs[0].cell == runs[1].cell
    assert runs[0].key != runs[1].key
    assert any("no validation label has a part" in note for note in runs[0].notes())
    record = done(runs[0], tmp_path / "runs")
    result = record.result
    assert result["items"]["train"] == 4
    assert result["best_step"] == result["steps"]
    folder = Store(tmp_path / "runs").folder(record.key)
    assert recorded(folder, "best") == recorded(folder, "last")


def test_the_training_loss_ends_it(make_run: Make, tmp_path: Path) -> None:
    """Nothing is learnt at such a rate, so the loss rises and falls by dropout alone."""
    still = ("optim.lr=1e-12", "optim.epochs=60")
    record = done(make_run(*FEW, *still, "optim.patience=2"), tmp_path / "runs")
    assert 3 <= record.result["steps"] < 60
    assert record.result["censored"] is None
    assert record.result["status"] == "done"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("task.shots=0",), "task.shots is 0: expected a number of items per class >= 1"),
        (("task.shots=1.5",), "task.shots is 1.5: expected"),
        (("task.shots=2", "task.train_size=8"), "both say how many items train"),
        (("task.shots=13",), "task.shots is 13, but the training part has only 12 of 0, 12 of 1"),
        (("task=biosses", "task.shots=2"), "biosses predicts numbers, which have no classes"),
        (("optim.patience=0",), "optim.patience is 0: expected"),
    ],
)
def test_what_is_refused(make_run: Make, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_run("task=gad", "model=tiny", *SHORT, *overrides)

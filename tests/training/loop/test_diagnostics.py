"""Gradient norms by layer, and early signs of failure: on arithmetic and on recorded curves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluestab.models.built import Built
from bluestab.training.loop.diagnostics import (
    PATIENCE,
    columns,
    constant_loss,
    failure_sign,
    mean_norms,
)

CURVES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "assets" / "early_signs.json").read_text(encoding="utf-8")
)
"""Four real trainings of MiniLM (6 blocks), seed 0: BIOSSES over 8 epochs, 256 items of GAD over 4
epochs in batches of 16, each with a usual rate and with one a hundred times as high."""


def test_columns() -> None:
    assert columns(2) == [
        *("grad_norm_embeddings", "grad_norm_block_1", "grad_norm_block_2", "grad_norm_top")
    ]


def test_mean_norms() -> None:
    nan = math.nan
    norms = np.array(
        [
            [3.0, 4.0, nan, 1.0],  # depths 0, 0, 1, 3
            [6.0, 8.0, 2.0, 1.0],
            [nan, 5.0, nan, 4.0],
        ]
    )
    assert mean_norms(norms, [0, 0, 1, 3], 2) == {
        "grad_norm_embeddings": pytest.approx((5 + 10 + 5) / 3),
        "grad_norm_block_1": 2.0,  # only the steps where it had a gradient
        "grad_norm_block_2": None,
        "grad_norm_top": 2.0,
    }
    assert set(mean_norms(np.empty((0, 4)), [0, 0, 1, 3], 2).values()) == {None}


def test_constant_loss() -> None:
    assert constant_loss([1.0, 2.0, 6.0]) == pytest.approx(14 / 3)
    assert constant_loss([0, 1, 0, 1]) == pytest.approx(math.log(2))
    assert constant_loss([0, 0, 0, 1]) == pytest.approx(-0.75 * math.log(0.75) + 0.25 * math.log(4))
    assert constant_loss([2, 2]) == 0
    assert constant_loss([[-100, 0, 1], [0, 1, -100, -100]]) == pytest.approx(math.log(2))
    assert constant_loss([[0.0, 1.0], [1.0, 1.0]]) is None
    assert constant_loss([]) is None


def fired(curve: dict[str, Any], **knobs: Any) -> int | None:
    """Step of the first evaluation that would have stopped the run."""
    known = {"warmup_steps": curve["warmup_steps"], "constant": curve["constant"], **knobs}
    for i, row in enumerate(curve["rows"]):
        if failure_sign(curve["rows"][: i + 1], **known):
            return int(row["step"])
    return None


def named(task: str, lr: float) -> dict[str, Any]:
    (curve,) = [c for c in CURVES if (c["task"], c["lr"]) == (task, lr)]
    return curve


def test_it_fires_on_failing_runs_and_on_no_healthy_one() -> None:
    assert {(c["task"], c["lr"]): fired(c) for c in CURVES} == {
        ("biosses", 5e-5): None,
        ("biosses", 5e-3): 16,
        ("gad", 5e-5): None,
        ("gad", 5e-3): 48,
    }


def edited(curve: dict[str, Any], edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    return {**curve, "rows": [edit(row) for row in curve["rows"]]}


def test_both_signs_are_needed() -> None:
    failing = named("gad", 5e-3)
    learning = edited(failing, lambda row: {**row, "train_loss": 0.9 * failing["constant"]})
    flowing = edited(failing, lambda row: {**row, "grad_norm_embeddings": 0.1})
    assert (fired(failing), fired(learning), fired(flowing)) == (48, None, None)
    unknown = edited(failing, lambda row: {**row, "train_loss": math.nan})
    assert fired(unknown) is None, "a window without a step says nothing"


def test_windows_within_warm_up_do_not_count() -> None:
    failing = named("gad", 5e-3)
    assert PATIENCE == 2
    assert fired(failing, warmup_steps=16) == 48
    assert fired(failing, warmup_steps=17) == 64
    assert fired(failing, warmup_steps=33) is None


def test_frozen_layers_are_not_vanished_ones() -> None:
    failing = named("gad", 5e-3)
    no_embeddings = edited(failing, lambda row: {**row, "grad_norm_embeddings": None})
    assert fired(no_embeddings) == 48, "the lowest that trains speaks"
    top_only = edited(
        failing,
        lambda row: {k: None if "block" in k or "embeddings" in k else v for k, v in row.items()},
    )
    assert fired(top_only) is None


def test_without_a_known_constant_the_first_window_is_the_level() -> None:
    failing = named("gad", 5e-3)
    assert fired(failing, constant=None) is None  # 0.785 fell to 0.73, by more than a little
    flat = edited(failing, lambda row: {**row, "train_loss": 0.7})
    assert fired(flat, constant=None) == 48
    assert failure_sign([], warmup_steps=0, constant=None) is None


# --- in a run ------------------------------------------------------------------------------------

torch = pytest.importorskip("torch")

from bluestab.techniques.base import Technique  # noqa: E402
from tests.training.test_execute import TINY, done  # noqa: E402

Make = Callable[..., Any]


def test_the_curve_holds_norms_before_clipping(make_assembly: Make) -> None:
    """Against gradients read between backward pass and clipping, one group at a time."""
    assembly = make_assembly(
        "task=gad", *TINY, "optim.clip=0.01", "optim.steps=5", "trainer.eval_every=2",
        "technique=freeze", "technique.freeze.depth=0",
    )  # fmt: skip
    import pytorch_lightning as pl

    seen: list[dict[int, float]] = []

    class Look(pl.Callback):
        def on_before_optimizer_step(self, *_: Any) -> None:
            squares: dict[int, float] = {}
            for name, parameter in assembly.built.model.named_parameters():
                if parameter.grad is not None:
                    depth = assembly.built.layers.depth[name]
                    grown = float((parameter.grad.double() ** 2).sum())
                    squares[depth] = squares.get(depth, 0.0) + grown
            seen.append({depth: math.sqrt(value) for depth, value in squares.items()})

    assembly.trainer.callbacks.append(Look())
    from bluestab.training.attempt import _fit

    _fit(assembly)
    rows = assembly.history.rows
    assert [row["step"] for row in rows] == [2, 4, 5]
    for row, window in zip(rows, (seen[:2], seen[2:4], seen[4:]), strict=True):
        assert row["grad_norm_embeddings"] is None
        for depth, name in ((1, "block_1"), (2, "block_2"), (3, "top")):
            expected = sum(norms[depth] for norms in window) / len(window)
            assert row[f"grad_norm_{name}"] == pytest.approx(expected, rel=1e-5)
            assert expected > 0


class Dead(Technique):
    """Gradients below the top are cut to nothing, and the top cannot learn from a constant."""

    def edit_model(self, built: Built, seeds: Any) -> Built:
        name = built.model.base_model_prefix
        built.model.get_submodule(f"{name}.pooler").register_forward_pre_hook(
            lambda module, inputs: (inputs[0] * 1e-9,)
        )
        return built


def test_a_failing_run_is_stopped_and_scored_as_it_stands(make_run: Make, tmp_path: Path) -> None:
    line = ("task=gad", *TINY, "optim.steps=40", "trainer.eval_every=4", "optim.lr=1e-4")

    def run(stop: bool) -> Any:
        asked = make_run(*line, f"stop_degenerate={stop}".lower())
        return replace(asked, techniques={"dead": Dead()})

    stopped, whole = done(run(True), tmp_path / "a"), done(run(False), tmp_path / "a")
    assert stopped.key != whole.key
    assert stopped.status == whole.status == "done"
    assert whole.result["censored"] is None
    # warm-up ends at step 4, so the windows 4-8 and 8-12 are the first that count
    assert stopped.result["censored"]["step"] == stopped.result["steps"] == 12
    assert "lower gradients vanished" in stopped.result["censored"]["sign"]
    assert whole.result["steps"] == 40
    log = (tmp_path / "a" / stopped.key / "log.txt").read_text()
    assert "stopped early" in log
    curve = (tmp_path / "a" / stopped.key / "curve.csv").read_text().splitlines()
    full = (tmp_path / "a" / whole.key / "curve.csv").read_text().splitlines()
    assert len(curve) == 4
    # what came before is the same training (the rate of the schedule included)
    assert curve == full[:4]
    assert stopped.result["metrics"]["last"]["validation"]["accuracy"] is not None


def test_a_healthy_run_is_left_alone(make_run: Make, tmp_path: Path) -> None:
    line = ("task=gad", *TINY, "optim.steps=20", "trainer.eval_every=2", "optim.lr=3e-3")
    record = done(make_run(*line, "stop_degenerate=true"), tmp_path / "runs")
    assert (record.result["censored"], record.result["steps"]) == (None, 20)


@pytest.mark.slow
@pytest.mark.parametrize(("lr", "stopped"), [("5e-3", True), ("5e-5", False)])
def test_on_real_trainings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lr: str, stopped: bool
) -> None:
    """A rate a hundred times too high fails MiniLM; the usual one, on the same data, does not."""
    from bluestab.core.config import compose, resolved
    from bluestab.training.check import check
    from tests.conftest import real_data

    monkeypatch.setenv("BLUESTAB_DATA", str(real_data()))
    line = ("task=biosses", "model=minilm", "optim.epochs=8", f"optim.lr={lr}", "device=cpu")
    run = check(resolved(compose([*line, "stop_degenerate=true", f"store={tmp_path}"])))
    record = done(run, tmp_path)
    assert (record.result["censored"] is not None) is stopped
    assert (record.result["steps"] < 32) is stopped

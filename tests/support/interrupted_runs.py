"""Runs that are interrupted at a step and go on, compared with runs that never were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bluestab.techniques.base import Technique
from tests.training.test_execute import done, kept

Make = Callable[..., Any]

# 24 items in batches of 7: four steps per epoch, the last one ragged; steps 3, 5, 8 are the middle
# of the first epoch, the middle of the second, and the end of the second
SHORT = ("device=cpu", "optim.batch_size=7", "optim.epochs=3", "optim.lr=3e-3")
STEPS = (3, 5, 8)


class Stop(BaseException):
    """Stands for whatever ends a process; nothing in between may catch it."""


def interrupted(run: Any, root: Path, step: int) -> None:
    """Start the run and end it a step and a half after the checkpoint at `step`, or half a step
    where another checkpoint would follow."""

    def stop(now: int, *_: Any) -> None:
        if now == step + min(step, 2):
            raise Stop

    run = replace(run, cfg={**run.cfg, "checkpoint_every": step})
    with pytest.raises(Stop):
        done(run, root, stop)
    (path,) = (root / ".resume" / run.key).iterdir()
    assert path.name.startswith(f"step-{step:08d}-")


def compare(make: Callable[[], Any], tmp_path: Path, step: int) -> None:
    """Raises AssertionError unless the run that went on has the bytes of the one that did not."""
    whole = make()
    if not (tmp_path / "whole" / whole.key).is_dir():
        record = done(whole, tmp_path / "whole")
        assert record.status == "done"
        assert record.measured["resumed_from"] is None
    root = tmp_path / f"parts-{step}"
    interrupted(make(), root, step)
    record = done(make(), root)
    assert record.measured["resumed_from"] == step
    assert f"goes on from step {step}" in (root / record.key / "log.txt").read_text()
    assert not (root / ".resume").exists(), "a finished run leaves no checkpoint"
    one, other = kept(root, record.key), kept(tmp_path / "whole", record.key)
    assert one["curve.csv"] == other["curve.csv"]
    assert one == other


@pytest.fixture
def making(make_run: Make) -> Callable[..., Callable[[], Any]]:
    """Overrides -> a function that makes the run anew, with new techniques, as a start does."""

    def making(*overrides: str, technique: Callable[[], Technique] | None = None) -> Any:
        def make() -> Any:
            run = make_run(*SHORT, *overrides)
            return run if technique is None else replace(run, techniques={"t": technique()})

        return make

    return making

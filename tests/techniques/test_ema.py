"""EMA: its decay by hand, and that a training's average is its recursion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.techniques.ema import decay_after
from tests.support.averages import away, ema_of, fitted

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


@pytest.mark.parametrize(
    ("step", "decay", "warmup", "expected"),
    [(1, 0.999, True, 2 / 11), (90, 0.999, True, 0.91), (90, 0.9, True, 0.9), (1, 0.9, False, 0.9)],
)
def test_decay_by_hand(step: int, decay: float, warmup: bool, expected: float) -> None:
    assert decay_after(step, decay, warmup) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", ["true", "false"])
@pytest.mark.parametrize("extra", [(), ("trainer.micro_batch=3",)])
def test_ema_is_its_recursion(make_assembly: Make, warmup: str, extra: tuple[str, ...]) -> None:
    knobs = ("technique=ema", "technique.ema.decay=0.7", f"technique.ema.warmup={warmup}")
    common = ("task=gad", "optim.steps=9", *extra)
    assembly, seen = fitted(make_assembly, *common, *knobs)
    plain = fitted(make_assembly, *common)[1]
    assert seen.losses == plain.losses, "training itself is plain training"
    assert away(seen.trail[-1], plain.end) == 0
    expected = ema_of(plain.start, plain.trail, 0.7, warmup == "true")
    assert away(seen.end, expected) < 1e-6
    assert away(seen.end, ema_of(plain.start, plain.trail, 0.7, warmup == "false")) > 1e-4
    assert assembly.effects()["ema"]["decay"] == 0.7

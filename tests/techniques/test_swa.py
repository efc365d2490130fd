"""SWA: the mean of the last steps, from which step on, and at which rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.techniques.swa import first_step
from tests.support.averages import away, fitted

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


@pytest.mark.parametrize(("tail", "n"), [(0.5, 5), (0.25, 3), (0.05, 1), (1, 9)])
def test_swa_is_the_mean_of_the_last_steps(make_assembly: Make, tail: float, n: int) -> None:
    knobs = ("technique=swa", f"technique.swa.tail={tail}")
    assembly, seen = fitted(make_assembly, "task=gad", "optim.steps=9", *knobs)
    plain = fitted(make_assembly, "task=gad", "optim.steps=9")[1]
    assert seen.losses == plain.losses
    last = plain.trail[-n:]
    assert away(seen.end, {k: sum(w[k].double() for w in last) / n for k in seen.end}) < 1e-6
    assert assembly.effects()["swa"].get("averaged_steps", 1) == n


@pytest.mark.parametrize(
    ("total", "tail", "first"),
    [(10, 0.3, 8), (10, 1, 1), (10, 0, 11), (3, 0.5, 2), (100, 0.07, 94)],
)
def test_first_averaged_step(total: int, tail: float, first: int) -> None:
    assert first_step(total, tail) == first


def test_swa_can_hold_the_rates(make_assembly: Make) -> None:
    knobs = ("technique=[swa,llrd]", "technique.swa.tail=0.5", "technique.swa.rate=0.8")
    _, seen = fitted(make_assembly, "task=gad", "optim.steps=8", "optim.warmup=0", *knobs)
    expected = [1, 7 / 8, 6 / 8, 5 / 8, 0.8, 0.8, 0.8, 0.8]
    for rates in set(seen.rates.values()):
        scale = rates[0] / 3e-3
        assert rates == pytest.approx([3e-3 * scale * factor for factor in expected])
    assert len(set(seen.rates.values())) == 4, "scales of layers are kept"
    mean = {k: sum(w[k].double() for w in seen.trail[-4:]) / 4 for k in seen.end}
    assert away(seen.end, mean) < 1e-6

"""What tests of techniques see of a training: its weights step by step, and averages of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bluestab.testing.observed_training import watch

Make = Callable[..., Any]
FAST = ("device=cpu", "model=tiny", "optim.batch_size=7", "optim.lr=3e-3")


def fitted(make_assembly: Make, *overrides: str) -> tuple[Any, Any]:
    """An assembly after its training, and what a witness saw of it."""
    assembly = make_assembly(*FAST, *overrides)
    return assembly, watch(assembly, {})


def away(one: Any, other: Any) -> float:
    """Largest difference of two sets of weights."""
    return max(float((w.double() - other[name].double()).abs().max()) for name, w in one.items())


def ema_of(start: Any, trail: Any, decay: float, warmup: bool) -> Any:
    """The recursion in float64, from weights that plain code noted."""
    average = {name: w.double() for name, w in start.items()}
    for t, weights in enumerate(trail, start=1):
        d = min(decay, (1 + t) / (10 + t)) if warmup else decay
        average = {name: d * a + (1 - d) * weights[name].double() for name, a in average.items()}
    return average

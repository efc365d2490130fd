"""What a plain knob may hold: a test of a value, and the words for what it expects."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Rule = tuple[Callable[[Any], bool], str]


def problems(values: Mapping[str, tuple[Any, Rule]]) -> list[str]:
    """`KNOB is VALUE: expected ...` for every knob that breaks its rule."""
    return [
        f"{knob} is {value!r}: expected {expected}"
        for knob, (value, (holds, expected)) in values.items()
        if not holds(value)
    ]


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(low: int, null: bool = False, high: float = math.inf) -> Rule:
    def holds(value: Any) -> bool:
        if value is None:
            return null
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    bounds = f">= {low}" if high == math.inf else f"from {low} to {high}"
    return holds, f"a whole number {bounds}" + (", or null" if null else "")


def above(low: float, null: bool = False, of: str = "") -> Rule:
    def holds(value: Any) -> bool:
        return null if value is None else is_number(value) and value > low

    return holds, f"a number{of} > {low:g}" + (", or null" if null else "")


def at_least(low: float, below: float | None = None) -> Rule:
    def holds(value: Any) -> bool:
        return is_number(value) and value >= low and (below is None or value < below)

    return holds, f"a number >= {low:g}" + ("" if below is None else f" and < {below:g}")


def one_of(*options: object) -> Rule:
    return (lambda value: value in options), "one of " + ", ".join(map(str, options))


FLAG: Rule = (lambda value: isinstance(value, bool)), "true or false"

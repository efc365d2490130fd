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


def at_least(low: float, below: float | None = None, null: bool = False) -> Rule:
    def holds(value: Any) -> bool:
        if value is None:
            return null
        return is_number(value) and value >= low and (below is None or value < below)

    bounds = f">= {low:g}" + ("" if below is None else f" and < {below:g}")
    return holds, f"a number {bounds}" + (", or null" if null else "")


def within(interval: str, null: bool = False) -> Rule:
    """`interval` as mathematics writes it: `[0, 1)` holds 0 and not 1."""
    low, high = map(float, interval[1:-1].split(","))

    def holds(value: Any) -> bool:
        if value is None:
            return null
        if not is_number(value) or not low <= value <= high:
            return False
        return (value > low or interval[0] == "[") and (value < high or interval[-1] == "]")

    return holds, f"a number in {interval}" + (", or null" if null else "")


def one_of(*options: object) -> Rule:
    return (lambda value: value in options), "one of " + ", ".join(map(str, options))


FLAG: Rule = (lambda value: isinstance(value, bool)), "true or false"


def list_of(item: Callable[[Any], bool], what: str) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, list | tuple) and all(map(item, value))

    return holds, f"a list of {what}"

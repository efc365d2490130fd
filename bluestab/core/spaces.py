"""Search spaces: what a search may draw a knob from, as a text in the syntax of Hydra's sweeps.

    interval(0.6, 1.0)              a number, both ends included
    tag(log, interval(1e-4, 1.0))   the same, every factor as likely as any other of its size
    int(interval(8, 64))            a whole number, both ends included; also tag(log, int(...))
    range(1, 7)                     a whole number, the stop excluded; range(2, 13, 2) in steps
    choice(zhang, electra)          one of these

`L` is the number of blocks of the model, `L//2` half of them, rounded down; a number may be added
to either or taken off: `range(1, L//2 + 1)`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

SEARCH_SPACE = "search_space"
"""Key in the yaml of a technique, beside its knobs: knob -> text."""

DEPTH = re.compile(r"\bL(?://([1-9]\d*))?(?:\s*([+-])\s*(\d+))?")
EXPECTED = (
    "expected interval(low, high), tag(log, interval(low, high)), int(interval(low, high)), "
    "range(start, stop) or choice(a, b)"
)


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included.

    log: uniform in its logarithm; whole: whole numbers only
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Choice:
    """One of these values, all as likely; `ordered` if they are whole numbers in even steps."""

    options: tuple[Any, ...]
    ordered: bool = False


Space = Range | Choice


def parse(text: object, layers: int) -> Space:
    """The space a text describes, for a model of `layers` blocks. Raises ValueError."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
    from hydra.errors import HydraException

    if not isinstance(text, str):
        raise ValueError(EXPECTED)
    try:
        said = DEPTH.sub(lambda found: str(_depth(found, layers)), text)
        sweep = OverridesParser.create().parse_override(f"knob={said}").value()
    except HydraException as error:
        raise ValueError(EXPECTED) from error
    if isinstance(sweep, IntervalSweep) and sweep.tags <= {"log", "int"}:
        return _interval(sweep)
    if isinstance(sweep, RangeSweep) and not sweep.tags and not sweep.shuffle:
        numbers = (sweep.start, sweep.stop, sweep.step)
        if not all(isinstance(n, int) for n in numbers) or not len(range(*numbers)):  # type: ignore[arg-type]
            raise ValueError(f"expected whole numbers, and at least one of them; it reads {said}")
        return Choice(tuple(range(*numbers)), ordered=True)  # type: ignore[arg-type]
    if isinstance(sweep, ChoiceSweep) and not (sweep.tags or sweep.shuffle) and sweep.list:
        return Choice(tuple(_plain(value) for value in sweep.list))
    raise ValueError(EXPECTED)


def _interval(sweep: Any) -> Range:
    low, high = float(sweep.start or 0), float(sweep.end or 0)
    # `int(...)` leaves whole numbers behind; `tag(int, ...)` is the same in other words
    log, whole = "log" in sweep.tags, "int" in sweep.tags or isinstance(sweep.start, int)
    if whole and not (low.is_integer() and high.is_integer()):
        raise ValueError("expected whole numbers at both ends")
    if not low < high or (log and low <= 0):
        raise ValueError(f"expected low < high{', both above 0' if log else ''}")
    return Range(low, high, log, whole)


def _depth(found: re.Match[str], layers: int) -> int:
    part, sign, number = found.groups()
    depth = layers // int(part or 1)
    return depth + int(f"{sign}{number}") if sign else depth


def _plain(value: Any) -> Any:
    from hydra.core.override_parser.types import QuotedString

    return value.text if isinstance(value, QuotedString) else value


def extremes(space: Space) -> tuple[Any, ...]:
    """The ends of an interval, or all options of a choice."""
    if isinstance(space, Choice):
        return space.options
    kind = int if space.whole else float
    return kind(space.low), kind(space.high)

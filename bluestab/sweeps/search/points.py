"""The points of a search: knobs with their spaces, and the overrides that a point stands for.

A knob of a technique is drawn only at points that contain the technique, so a space may be
conditional. `technique` itself, where it is searched, is drawn first.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bluestab.core.config import quoted
from bluestab.core.spaces import Choice, Range, Space, extremes
from bluestab.sweeps.grid import technique_names

Point = Mapping[str, Any]
"""Knob -> value, of the knobs that apply."""

PLAIN = re.compile(r"[\w./:+-]+|\[[\w, ]*\]")  # text that needs no quotes: a name, a list of names
MOST_LISTED = 10_000
"""Points of a finite space that are listed; a larger one is never used up."""


class Draws(Protocol):
    """What an Optuna trial can do."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Knob:
    """One dimension: its key in the config, its space, and the text that was written for it."""

    name: str
    space: Space
    text: str

    @property
    def owner(self) -> str | None:
        return owner(self.name)

    def holds(self, value: Any) -> bool:
        """Is it a value of the space?"""
        if self.listed is not None:
            return any(type(value) is type(v) and value == v for v in self.listed)
        space = self.space
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and isinstance(space, Range) and space.low <= value <= space.high

    @property
    def listed(self) -> tuple[Any, ...] | None:
        """All its values; None for an interval of numbers that are not whole."""
        if isinstance(self.space, Choice):
            return self.space.options
        if self.space.whole:
            return tuple(range(int(self.space.low), int(self.space.high) + 1))
        return None


@dataclass(frozen=True)
class SearchSpace:
    """knobs: `technique` first, if it is one; techniques: what points contain that choose none."""

    knobs: tuple[Knob, ...]
    techniques: tuple[str, ...]

    def present(self, point: Point) -> tuple[str, ...]:
        """Techniques of a point."""
        chosen = point.get("technique")
        return self.techniques if chosen is None else tuple(technique_names(str(chosen)))

    def applies(self, knob: Knob, point: Point) -> bool:
        return knob.owner is None or knob.owner in self.present(point)

    def draw(self, trial: Draws) -> Point:
        """A point, drawn by whoever is behind the trial."""
        point: dict[str, Any] = {}
        for knob in self.knobs:
            if self.applies(knob, point):
                point[knob.name] = _drawn(knob, trial)
        return point

    def every(self) -> list[Point] | None:
        """All points of a finite space, each once; None if it is not finite, or too large."""
        points: list[dict[str, Any]] = [{}]
        for knob in self.knobs:
            values = knob.listed
            if values is None:
                return None
            points = [
                {**point, knob.name: value} if apply else point
                for point in points
                for apply in [self.applies(knob, point)]
                for value in (values if apply else values[:1])
            ]
            if len(points) > MOST_LISTED:
                return None
        return list(points)

    def corners(self) -> Iterator[tuple[Knob, Point]]:
        """For every knob its extreme values, the others as they stand: the knob and the point."""
        choices = next((knob.listed for knob in self.knobs if knob.name == "technique"), None)
        for knob in self.knobs:
            for value in extremes(knob.space):
                if knob.owner is None or choices is None:
                    yield knob, {knob.name: value}
                    continue
                holding = [c for c in choices or () if knob.owner in technique_names(str(c))]
                yield from ((knob, {"technique": c, knob.name: value}) for c in holding[:1])

    def sample(self, n: int, seed: int = 0) -> list[Point]:
        """Up to n different points, drawn uniformly."""
        draws, found = AtRandom(seed), dict[str, Point]()
        for _ in range(20 * n):
            point = self.draw(draws)
            found.setdefault(repr(point), point)
            if len(found) == n:
                break
        return list(found.values())

    def unowned(self) -> list[Knob]:
        """Knobs of techniques that no point contains."""
        chosen = [knob.listed or () for knob in self.knobs if knob.name == "technique"]
        texts = [str(value) for values in chosen for value in values]
        held = {name for text in texts for name in technique_names(text)}
        held |= set() if chosen else set(self.techniques)
        return [knob for knob in self.knobs if knob.owner is not None and knob.owner not in held]


def owner(key: str) -> str | None:
    """The technique that a knob belongs to: `technique.llrd.decay` -> llrd."""
    parts = key.split(".")
    return parts[1] if parts[0] == "technique" and len(parts) > 2 else None


class AtRandom:
    """Draws uniformly, without Optuna."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return math.exp(self.random.uniform(math.log(low), math.log(high)))
        return self.random.uniform(low, high)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return self.random.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.random.choice(choices)


def _drawn(knob: Knob, trial: Draws) -> Any:
    space = knob.space
    if isinstance(space, Range):
        if space.whole:
            return trial.suggest_int(knob.name, int(space.low), int(space.high), log=space.log)
        return trial.suggest_float(knob.name, space.low, space.high, log=space.log)
    options = space.options
    if space.ordered and len(options) > 1:
        low, high, step = options[0], options[-1], options[1] - options[0]
        if step < 0:
            low, high, step = high, low, -step
        return trial.suggest_int(knob.name, low, high, step=step)
    return trial.suggest_categorical(knob.name, options)


def overrides(point: Point) -> list[str]:
    """What is typed for a point: `key=value`, `technique` first."""
    ordered = sorted(point, key=lambda name: name != "technique")
    return [f"{name}={spelled(point[name])}" for name in ordered]


def spelled(value: Any) -> str:
    """A value as Hydra's grammar reads it back: the same value, of the same type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not PLAIN.fullmatch(value):
        return quoted(value)
    return repr(value) if isinstance(value, float) else str(value)


def shown(point: Point) -> str:
    """A point for people: names without their groups, four digits."""
    parts = []
    for name in sorted(point, key=lambda name: name != "technique"):
        value = point[name]
        short = name.removeprefix("technique.") if name != "technique" else name
        parts.append(f"{short}={value:.4g}" if isinstance(value, float) else f"{short}={value}")
    return " ".join(parts)

"""What the shipped `search_space` of a technique must keep: every value of it is allowed."""

from __future__ import annotations

from collections.abc import Mapping

from bluestab.core.rules import Rule
from bluestab.core.spaces import SEARCH_SPACE, extremes, parse


def space_problems(where: str, spaces: object, rules: Mapping[str, Rule], layers: int) -> list[str]:
    """What is wrong with `WHERE.search_space`: knob -> text; every value of it must be allowed."""
    if not isinstance(spaces, Mapping):
        return [f"{where}.{SEARCH_SPACE} is {spaces!r}: expected knobs, each with its space"]
    problems = []
    for knob, text in spaces.items():
        said = f"{where}.{SEARCH_SPACE}.{knob} is {text!r}"
        if knob not in rules:
            problems.append(f"{said}: {where} has no knob of this name ({', '.join(rules)})")
            continue
        try:
            space = parse(text, layers)
        except ValueError as error:
            problems.append(f"{said}: {error}")
            continue
        holds, expected = rules[knob]
        wrong = [value for value in extremes(space) if not holds(value)]
        if wrong:
            problems.append(f"{said}, which holds {wrong[0]!r}: {where}.{knob} is {expected}")
    return problems

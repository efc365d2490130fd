"""Tests of `tests/more.txt` get the mark `more`: quicker ones of their kind stand for them.

Those of `tests/slow.txt` get the mark `slow`, too.
"""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parents[1] / "more.txt"
SLOW = FILE.with_name("slow.txt")


def read(text: str) -> dict[str, set[str]]:
    """Test, or test with parameters -> of all its parameters, those that it leaves out."""
    found: dict[str, set[str]] = {}
    last = ""
    for line in text.splitlines():
        if line.startswith("    but "):
            found[last].add(line.removeprefix("    but "))
        elif line and not line.startswith("#"):
            last = line
            found[last] = set()
    return found


def is_listed(nodeid: str, listed: dict[str, set[str]]) -> bool:
    """nodeid: as pytest has it, `FILE::TEST[PARAMETERS]`."""
    test, bracket, parameters = nodeid.partition("[")
    return nodeid in listed or (test in listed and bracket + parameters not in listed[test])

"""Texts of others, as a terminal and a table may show them: nothing in them is obeyed.

Codes that begin with ESC or are of C1 (ECMA-48) move the cursor, set titles and colours or write to
the clipboard; signs of Unicode that turn the direction of writing make a name look like another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Characters that a terminal may obey; line ends and tabs are left out."""


def printable(text: object, width: int = 300) -> str:
    """One line without control characters, which a terminal might obey."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:width]


def counted(n: int, one: str, many: str | None = None) -> str:
    """`1 run`, `2 runs`, `1,000 runs`; many: where it is not `one` with an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def printable_lines(text: str) -> str:
    """The same of a text of several lines: line ends and tabs stay, everything else that is no
    character to be seen is `?`."""
    return CONTROL.sub("?", text)


def printable_tree(value: Any) -> Any:
    """JSON values, the texts in them printable."""
    if isinstance(value, str):
        return printable_lines(value)
    if isinstance(value, Mapping):
        return {printable_tree(key): printable_tree(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [printable_tree(one) for one in value]
    return value

"""Docstrings of this project as Sphinx reads them: `name  what it is` becomes a list of fields."""

from __future__ import annotations

import re
from typing import Any

ENTRY = re.compile(r"(\w+(?:, \w+)*) {2,}(\S.*)")


def as_rst(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Changes `lines` in place. Indented blocks that are no entries are shown as they stand."""
    del app, what, name, found, options
    out: list[str] = []
    state = "text"  # or: fields, block
    for line in lines:
        match = ENTRY.fullmatch(line)
        if not line.strip():
            now, shown = "text", ""
        elif match:
            now, shown = "fields", f":{match[1]}: {match[2]}"
        elif line.startswith(" "):
            now = "fields" if state == "fields" else "block"
            shown = f"    {line.strip()}" if now == "fields" else line
        else:
            now, shown = "text", line
        if now != state and shown:
            out += ["", "::", ""] if now == "block" else [""]
        out.append(shown)
        state = now
    lines[:] = out

"""Markdown of the pages of the reference: pages, tables, and text of the code in which no sign is
read as one of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

Row = tuple[str, ...]


def page(title: str, *parts: str) -> str:
    return f"# {title}\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def grid(headings: Row, rows: Iterable[Row]) -> str:
    """A Markdown table; an empty text where it has no row."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    if not lines:
        return ""
    return "\n".join(["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings), *lines])


def literal(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def prose(text: str) -> str:
    """Text of a comment or docstring: signs of Markdown and HTML stand for themselves, but for the
    back-quotes of code."""
    parts = re.split(r"(``?[^`]+``?)", text)
    escaped = [re.sub(r"([\\*_\[\]<>$~{}#])", r"\\\1", part) for part in parts[::2]]
    parts[::2] = escaped
    return "".join(parts)


def code(text: object) -> str:
    return f"`{text}`" if str(text) else ""

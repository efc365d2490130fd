"""Tables that fit the terminal: a number is never cut, a name is wrapped, and what has no room goes
in the order of its rank; what nobody ranked goes on in a second table below."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

NAME = 14  # least width of a column of names that are wrapped
GAP = 2  # blanks between two columns

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Column:
    """rank: the highest leaves first where there is no room, 0 stays; words: to the left, wrapped;
    called: what it is, where the heading alone does not say it."""

    heading: str
    rank: int = 0
    words: bool = False
    called: str = ""


def print_fitted(
    out: Console, columns: Sequence[Column], rows: Rows, *, subject: int = 0, names: int = 1
) -> list[str]:
    """Print a table; return what the columns are called that had no room.

    subject  so many columns in front say what rows are about; an empty cell repeats the one above.
             Without room they become a line above their rows.
    names    so many columns after these tell the rows apart, and stand in every part of the table
    """
    kept = [i for i, c in enumerate(columns) if c.rank == 0 or any(row[i] for row in rows)]
    wide = [_width(columns, rows, i) for i in range(len(columns))]
    if _total([wide[i] for i in kept]) <= out.width:
        _print(out, columns, rows, {i: wide[i] for i in kept})
        return []
    shown = kept[subject:] if subject else kept
    least = {i: min(wide[i], NAME) if columns[i].words else wide[i] for i in shown}
    gone: list[int] = []
    while _total(least.values()) > out.width and (weak := [i for i in least if columns[i].rank]):
        gone.append(max(weak, key=lambda i: columns[i].rank))
        del least[gone[-1]]
    front = list(least)[:names]
    for part in _parts(least, front, out.width):
        spare = out.width - _total(part.values())
        for i in part:
            if columns[i].words and spare > 0:
                more = min(wide[i] - part[i], spare)
                part[i], spare = part[i] + more, spare - more
        for title, members in _by_subject(rows, subject):
            if title:
                out.print(title, markup=False, soft_wrap=True)
            _print(out, columns, members, part)
    return [columns[i].called or columns[i].heading for i in sorted(gone)]


def print_names(out: Console, lines: Mapping[str, str]) -> None:
    """Names and a line about each, which goes on below itself where it is longer than the room."""
    name = max(map(cell_len, lines), default=0)
    for key, text in lines.items():
        room = out.width - name - GAP
        first = Text(key + " " * (name - cell_len(key) + GAP))
        rest = Text(text).wrap(out, room) if room >= NAME else [Text(text)]
        for i, line in enumerate(rest or [Text("")]):
            out.print(Text.assemble(first if i == 0 else " " * (name + GAP), line), soft_wrap=True)


def _width(columns: Sequence[Column], rows: Rows, i: int) -> int:
    return max(map(cell_len, (columns[i].heading, *(row[i] for row in rows))))


def _total(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + GAP * (len(found) - 1)


def _parts(least: dict[int, int], front: Sequence[int], width: int) -> Iterator[dict[int, int]]:
    """The columns in as many tables as it takes, the names in each."""
    base = {i: least[i] for i in front}
    part = dict(base)
    for i, wide in least.items():
        if i in base:
            continue
        if len(part) > len(base) and _total([*part.values(), wide]) > width:
            yield part
            part = dict(base)
        part[i] = wide
    yield part


def _by_subject(rows: Rows, subject: int) -> Iterator[tuple[str, list[Sequence[str]]]]:
    """Runs of rows about the same, each with the line above it."""
    about, members = [""] * subject, list[Sequence[str]]()
    for row in rows:
        mine = [now or before for now, before in zip(row[:subject], about, strict=True)]
        if mine != about and members:
            yield ", ".join(filter(None, about)), members
            members = []
        about = mine
        members.append(row)
    yield ", ".join(filter(None, about)), members


def _print(out: Console, columns: Sequence[Column], rows: Rows, widths: dict[int, int]) -> None:
    table = Table(box=None, pad_edge=False)
    for i, wide in widths.items():
        side: Literal["left", "right"] = "left" if columns[i].words else "right"
        table.add_column(Text(columns[i].heading), justify=side, overflow="fold", width=wide)
    for row in rows:
        table.add_row(*(Text(_wrapped(row[i], wide)) for i, wide in widths.items()))
    out.print(_AtWidth(table, _total(widths.values())), crop=False)


def _wrapped(text: str, width: int) -> str:
    """Broken where names of arms have joints; what is longer without one is broken anywhere."""
    lines = [""]
    for piece in re.findall(r"[^+, ]*(?:[+, ]+|$)", text):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


class _AtWidth:
    """A table at the width that it needs, whatever the terminal has: no number may be cut."""

    def __init__(self, table: Table, width: int) -> None:
        self.table, self.width = table, width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.table, options.update(width=self.width))

"""CSV and TSV: the row as it was, and the columns of `COLUMNS`.

Separator, quotation marks, header and columns are told from the file as training tells them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.errors import ConfigError, DataError, did_you_mean
from bluestab.data.formats.base import Rows
from bluestab.data.formats.columns import find, with_header
from bluestab.data.formats.delimited import Dialect, Record, dialect_of, pieces, records
from bluestab.data.readers import head_of
from bluestab.inference.formats.base import (
    COLUMNS,
    MOST_CHARACTERS,
    Format,
    Item,
    Position,
    _short,
    as_json,
    bare,
    dumps,
    lines,
    needs_pair,
    plain,
    too_long,
)
from bluestab.tasks.base import Task
from bluestab.tasks.outputs import Answer


def cells(answer: Answer, item: Item | None = None) -> list[str]:
    """The values of `COLUMNS`."""
    if item is not None and answer.of_words:
        found = as_json(answer, item)
        return [dumps(found["entities"]), "", "", "", "true" if answer.truncated else ""]
    said = answer.prediction
    if said is None:
        prediction = ""
    elif isinstance(said, tuple):
        prediction = "; ".join(map(plain, said))
    else:
        prediction = plain(said) if isinstance(said, str) else repr(said)
    rest = [
        "" if answer.probability is None else f"{answer.probability:.6g}",
        ""
        if answer.probabilities is None
        else dumps({n: _short(p) for n, p in answer.probabilities.items()}),
        "" if answer.disagreement is None else f"{answer.disagreement:.6g}",
        "true" if answer.truncated else "",
    ]
    return [prediction, *rest]


def own_column(task: Task, knob: str, columns: Sequence[str], taken: Sequence[str] = ()) -> str:
    """The one that the task's own files have, else `text` if there is such a column, else one whose
    name tells it, as in training."""
    own = getattr(task, knob, None)
    if isinstance(own, str) and own in columns:
        return own
    if knob in columns:
        return knob
    role = "mention" if knob == "text" and task.output.searches else knob
    return find(Rows(Path(), tuple(columns), (), ()), role, taken=taken) or knob


BLANK_LINES = re.compile(r"\A(?:[^\S\r\n\t]*(?:\r\n|\r|\n))+")
"""Before a row; they are passed over."""

HEAD = 1_000_000
"""Bytes by which it is told how a table is written."""


class _RowLines:
    """Lines for a csv reader, one by one; `place` is after those it took, `taken` their text."""

    def __init__(self, path: Path, place: Position) -> None:
        self.path, self.place, self.taken = path, place, ""
        self._found = self._pieces()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self.place = next(self._found)
        self.taken += line
        if len(self.taken) > MOST_CHARACTERS:
            raise too_long(self.path, self.place.line)
        return line

    def _pieces(self) -> Iterator[tuple[str, Position]]:
        number = self.place.line
        for line, _, after in lines(self.path, self.place):
            at = after - len(line.encode())
            parts = list(pieces(line)) if "\r" in line[:-2] else [line]
            for part in parts:
                number, at = number + 1, at + len(part.encode())
                whole = after if part is parts[-1] else at
                yield part, Position(whole, number, self.place.items)


class CsvFormat(Format):
    """Rows with a header, or without; fields may be quoted and hold line ends."""

    name = "csv"
    tabs: ClassVar[bool] = False

    def __init__(self, *args: Any, **knobs: Any) -> None:
        super().__init__(*args, **knobs)
        self._opening, self._begin = "", Position()
        self._dialect, head = self._look()
        if self._dialect.opening:
            opening = _RowLines(self.path, Position())
            self._opening = next(opening)
            self._begin = opening.place
        fields, self._names, after = next(self._rows(self._begin))
        if self._is_named(head):
            self.header, self._begin = [cell.strip() for cell in fields], after
        else:
            self.header, self._names = [str(n) for n in range(len(fields))], ""
        if taken := [name for name in COLUMNS if name in self.header]:
            raise DataError(self.path, f"has a column {taken[0]!r} already", 1)
        self._text = self._column("text", self.text, [])
        self._pair = None
        if needs_pair(self.task):
            self._pair = self._column("text_pair", self.text_pair, [self.header[self._text]])
        self._image = None
        if self.sees:
            self._image = self._column("image", self.image, [self.header[self._text]])

    def check(self) -> None:
        if self.text_pair and not needs_pair(self.task):
            raise ConfigError(f"--text-pair is given, but task '{self.task.name}' reads one text")

    def _look(self) -> tuple[Dialect, list[Record]]:
        """How the table is written, and its first rows."""
        raw = head_of(self.path, HEAD)
        whole = len(raw) < HEAD
        text = raw.decode("utf-8-sig", errors="replace")  # `lines` says where it is no UTF-8
        if not whole and "\n" in text:
            text = text[: text.rindex("\n") + 1]
        if not text.strip():
            raise DataError(self.path, "is empty")
        quoting = getattr(self.task, "quoting", None) if self.task.own else None
        if self.tabs and not self.task.own:
            quoting = False  # as the shipped corpora have it
        return dialect_of(self.path, text, tabs=self.tabs, quoting=quoting, whole=False)

    def _is_named(self, head: list[Record]) -> bool:
        """Does the first row name the columns? As in training; where it cannot be told, it does if
        the files of the training had names, which columns that are numbers had not."""
        if not self.task.own or not head:
            return True
        otherwise = not isinstance(getattr(self.task, "text", None), int) or self.text is not None
        first = [cell.strip() for cell in head[0][0]]
        own = [getattr(self.task, knob, None) for knob in ("text", "text_pair")]
        given = [self.text, self.text_pair, *(n for n in own if isinstance(n, str) and n in first)]
        width = len(first)
        kept = [row for row, _ in head if len(row) == width]
        rows = Rows(self.path, tuple(map(str, range(width))), kept, range(len(kept)), named=False)
        if len(kept) < 2:
            return otherwise
        try:
            return with_header(rows, getattr(self.task, "header", None), given).named
        except DataError:
            return otherwise

    def _column(self, knob: str, name: str | None, taken: Sequence[str]) -> int:
        own = getattr(self.task, knob, None)
        if not self._names and name is None and isinstance(own, int):
            if own < len(self.header):
                return own
            if len(self.header) == 1 and not taken:  # the texts alone, without what was beside them
                return 0
        name = name or own_column(self.task, knob, self.header, taken)
        if self.header.count(name) != 1:
            many = "several columns" if name in self.header else "no column"
            option = f"--{knob.replace('_', '-')}"
            where = "in its header" if self._names else "(no line names them: they count from 0)"
            raise DataError(
                self.path,
                f"has {many} {name!r} {where}; name one with {option}"
                + ("" if name in self.header else did_you_mean(name, self.header)),
                1,
            )
        return self.header.index(name)

    def _rows(self, place: Position) -> Iterator[tuple[tuple[str, ...], str, Position]]:
        """(fields, the row as it stands, place after it)."""
        taken = _RowLines(self.path, place)
        dialect = self._dialect
        for fields, _ in records(
            self.path, taken, dialect.separator, dialect.quoted, place.line + 1
        ):
            raw, taken.taken = taken.taken, ""
            yield fields, BLANK_LINES.sub("", raw), taken.place

    def items(self, place: Position) -> Iterator[tuple[Item, Position]]:
        start = self._begin if place.offset == 0 else place
        for fields, raw, after in self._rows(start):
            if "\0" in raw:
                raise DataError(self.path, "holds a NUL character: is it a text?", after.line)
            if len(fields) != len(self.header):
                raise DataError(
                    self.path,
                    f"has {len(fields)} columns where the header has {len(self.header)}",
                    after.line,
                )
            text = fields[self._text]
            pair = None if self._pair is None else fields[self._pair]
            image = None if self._image is None else fields[self._image]
            item = self.example(text, pair, after.line, image)
            place = Position(after.offset, after.line, place.items + 1)
            yield Item(raw, item.example, text, item.spans), place

    def head(self) -> str:
        if not self._names:
            return self._opening
        return self._opening + self._row(self._names, COLUMNS)

    def written(self, item: Item, answer: Answer) -> str:
        return self._row(item.raw, cells(answer, item))

    def _row(self, raw: str, more: Sequence[str]) -> str:
        """A row as it was, with more cells."""
        text, end = bare(raw)
        separator = self._dialect.separator
        if self.tabs and not self._dialect.quoted:
            return separator.join([text, *more]) + end
        out = io.StringIO()
        csv.writer(out, delimiter=separator, lineterminator=end).writerow(more)
        return f"{text}{separator}{out.getvalue()}"


class TsvFormat(CsvFormat):
    """The same with tabs; a quotation mark is an ordinary character unless all fields show that
    it is not."""

    name = "tsv"
    tabs = True

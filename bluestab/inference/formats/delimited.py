"""CSV and TSV: the row as it was, and the columns of `COLUMNS`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from bluestab.core.errors import ConfigError, DataError, did_you_mean
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


def own_column(task: Task, knob: str, columns: Any) -> str:
    """`text` if there is such a column, else the one that the task's own files have."""
    own = getattr(task, knob, None)
    return str(own) if knob not in columns and isinstance(own, str) and own in columns else knob


class CsvFormat(Format):
    """Rows with a header; fields may be quoted and hold line ends."""

    name = "csv"
    delimiter: ClassVar[str] = ","

    def __init__(self, *args: Any, **knobs: Any) -> None:
        super().__init__(*args, **knobs)
        first = next(self._rows(Position()), None)
        if first is None:
            raise DataError(self.path, "is empty")
        self.header, _, self._begin = first
        if taken := [name for name in COLUMNS if name in self.header]:
            raise DataError(self.path, f"has a column {taken[0]!r} already", 1)
        self._text = self._column("text", self.text)
        self._pair = self._column("text_pair", self.text_pair) if needs_pair(self.task) else None

    def check(self) -> None:
        if self.text_pair and not needs_pair(self.task):
            raise ConfigError(f"--text-pair is given, but task '{self.task.name}' reads one text")

    def _column(self, knob: str, name: str | None) -> int:
        name = name or own_column(self.task, knob, self.header)
        if self.header.count(name) != 1:
            many = "several columns" if name in self.header else "no column"
            option = f"--{knob.replace('_', '-')}"
            raise DataError(
                self.path,
                f"has {many} {name!r} in its header; name one with {option}"
                + ("" if name in self.header else did_you_mean(name, self.header)),
                1,
            )
        return self.header.index(name)

    def _rows(self, place: Position) -> Iterator[tuple[list[str], str, Position]]:
        """(fields, line end, place after the row)."""
        pending, begun = "", 0
        for line, number, offset in lines(self.path, place):
            begun = begun or number
            pending += line
            if self._open(pending):
                if len(pending) > MOST_CHARACTERS:
                    raise DataError(self.path, 'a field that begins with " is never closed', begun)
                continue
            text, end = bare(pending)
            pending = ""
            if text.strip():
                place = Position(offset, number, place.items)
                yield self._fields(text, begun), end, place
            begun = 0
        if pending:
            raise DataError(self.path, 'a field that begins with " is never closed', begun)

    def _open(self, text: str) -> bool:
        """Does the row go on in the next line?"""
        return text.count('"') % 2 == 1

    def _fields(self, text: str, number: int) -> list[str]:
        try:
            before = csv.field_size_limit(MOST_CHARACTERS)
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise DataError(self.path, f"is no csv ({error})", number) from error
        finally:
            csv.field_size_limit(before)
        return [] if not rows else rows[0]

    def items(self, place: Position) -> Iterator[tuple[Item, Position]]:
        start = self._begin if place.offset == 0 else place
        for fields, end, after in self._rows(start):
            if len(fields) != len(self.header):
                raise DataError(
                    self.path,
                    f"has {len(fields)} columns where the header has {len(self.header)}",
                    after.line,
                )
            text = fields[self._text]
            pair = None if self._pair is None else fields[self._pair]
            item = self.example(text, pair, after.line)
            place = Position(after.offset, after.line, place.items + 1)
            yield Item((fields, end), item.example, text, item.spans), place

    def head(self) -> str:
        return self._row([*self.header, *COLUMNS], "\n")

    def written(self, item: Item, answer: Answer) -> str:
        fields, end = item.raw
        return self._row([*fields, *cells(answer, item)], end)

    def _row(self, fields: Sequence[str], end: str) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator=end).writerow(fields)
        return out.getvalue()


class TsvFormat(CsvFormat):
    """The same with tabs; a quotation mark is an ordinary character."""

    name = "tsv"

    def _open(self, text: str) -> bool:
        return False

    def _fields(self, text: str, number: int) -> list[str]:
        return text.split("\t")

    def _row(self, fields: Sequence[str], end: str) -> str:
        return "\t".join(fields) + end

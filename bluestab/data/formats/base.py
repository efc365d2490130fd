"""What all formats become, and what every text file is looked at for first."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluestab.core.errors import DataError, did_you_mean
from bluestab.data.readers import read_bytes, text_of

HALF = re.compile("[\ud800-\udfff]")
"""Half of a character beyond the first 65,536, which no file in UTF-8 can hold."""

MOST_ROWS = 2_000_000
"""Of one file; more would not fit into the memory of a usual machine."""

MOST_LINES = 5_000_000
"""Of one text file, words of CoNLL included."""

MOST_CHARACTERS = 1_000_000
"""Of one text. More is a lost line break or quotation mark, not a text that anybody labelled."""


@dataclass(frozen=True)
class Rows:
    """A table. `lines[i]` is where row i starts in the file; for files without lines its number.

    named    the columns have names of their own; else they are called 0, 1, ...
    classes  column -> names of the numbers in it, where the file has them
    unit     what `lines` counts: line, or row
    preferred  role -> column that holds it in files of the tool that wrote this one
    """

    path: Path
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    lines: Sequence[int]
    named: bool = True
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unit: str = "line"
    notes: tuple[str, ...] = ()
    preferred: Mapping[str, str] = field(default_factory=dict)

    def index(self, name: str | int, knob: str) -> int:
        """Number of a column that is given by its name or its number from 0."""
        text = str(name)
        if isinstance(name, int) and text in self.columns[:name] + self.columns[name + 1 :]:
            if name >= len(self.columns):
                return self.columns.index(text)
            other = self.columns[name]
            raise DataError(
                self.path,
                f"{knob}={text} could be the column that is called {text!r}, or number {text} from "
                f"0, {other!r}: say '{knob}=\"{text}\"' or '{knob}=\"{other}\"'",
            )
        at = None if isinstance(name, int) and text not in self.columns else self._named(text, knob)
        if at is not None:
            return at
        if text.isdecimal() and len(text) < 9 and int(text) < len(self.columns):
            return int(text)
        if not self.named:
            raise DataError(
                self.path,
                f"has no column {name!r} ({knob}): no line names its {len(self.columns)} columns, "
                "so a column is a number from 0",
            )
        raise DataError(
            self.path, f"has no column {name!r} ({knob})" + did_you_mean(text, self.columns)
        )

    def _named(self, text: str, knob: str) -> int | None:
        """Number of the column of this name: exactly, else but for blanks around it and for how
        an accent is written (one character, or two)."""
        for alike in (str, _plain):
            found = [at for at, name in enumerate(self.columns) if alike(name) == alike(text)]
            if len(found) > 1:
                raise DataError(self.path, f"has several columns {text!r} ({knob})", 1)
            if found:
                return found[0]
        return None

    def column(self, name: str | int, knob: str) -> list[Any]:
        """The values of one column; numbers that stand for classes are replaced by their names."""
        at = self.index(name, knob)
        names = self.classes.get(self.columns[at])
        values = [row[at] for row in self.rows]
        return values if names is None else [_named(value, names) for value in values]

    def fail(self, i: int, reason: str) -> DataError:
        """An error about row i."""
        if self.unit == "line" and len(set(self.lines)) < len(self.lines):
            return DataError(self.path, f"item {i + 1}: {reason}", self.lines[i])
        if self.unit == "line":
            return DataError(self.path, reason, self.lines[i])
        return DataError(self.path, f"{self.unit} {self.lines[i]}: {reason}")

    def empty(self, i: int, column: str, knob: str, said: str = "") -> DataError:
        """An error about the empty cell of row i, with where else the column is empty below it."""
        below = self.column(column, knob)[i + 1 :]
        found = [n for n, v in zip(self.lines[i + 1 :], below, strict=True) if is_empty(v)]
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        units = self.unit + "s" * (len(found) > 1)
        also = f", as in {units} {', '.join(map(str, found[:5]))}{more}" if found else ""
        advice = "; fill in what is missing, or take such rows out"
        return self.fail(i, f"{column} ({knob}) is empty{said}{also}{advice}")


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(part, names) for part in value]
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    return names[value] if known else value


@dataclass(frozen=True)
class TaggedWords:
    """A sentence of words with tags as they stand in the file; `lines[i]` is where word i is.

    document  which part of the file it belongs to, if the file says so
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[int, ...]
    id: str
    document: str | None = None


@dataclass(frozen=True)
class Span:
    """A mention: characters `start` to `end` (exclusive), as one stretch or in several.

    covered    the text that the file says it has
    stretches  its parts in the order of the file, if it has several
    concept    what the file says it means: an id, or several
    """

    start: int
    end: int
    type: str
    line: int
    covered: str | None = None
    stretches: tuple[tuple[int, int], ...] = ()
    concept: str = ""


@dataclass(frozen=True)
class Document:
    """A text with its mentions; `path` and `line` are where it comes from."""

    id: str
    text: str
    spans: tuple[Span, ...]
    path: Path
    line: int
    document: str | None = None


@dataclass(frozen=True)
class Sentences:
    """What tagged words a file holds."""

    path: Path
    sentences: Sequence[TaggedWords]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Documents:
    """What documents with mentions a file or folder holds."""

    path: Path
    documents: Sequence[Document]
    notes: tuple[str, ...] = ()


Content = Rows | Sentences | Documents


def lines_in(path: Path) -> tuple[list[str], tuple[str, ...]]:
    """The lines of a text file without their ends, and notes about what was repaired.

    Raises DataError for what is no text in UTF-8.
    """
    text, notes = whole_text(path)
    if (n := text.count("\n")) > MOST_LINES:
        raise too_many(path, n, "lines", MOST_LINES)
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    for number, line in enumerate(lines, start=1):
        if len(line) > MOST_CHARACTERS:
            raise too_long(path, len(line), number)
    return lines, notes


def whole_text(path: Path) -> tuple[str, tuple[str, ...]]:
    """A text file as it is, and notes about what was repaired in it."""
    if path.is_dir():
        raise DataError(path, "is a folder, where a file is expected")
    raw = read_bytes(path)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(path, "is UTF-16, not UTF-8; convert the file to UTF-8")
    if raw[:4] == b"PK\x03\x04":
        raise DataError(path, "is a ZIP archive or an Excel sheet; unpack it, or save it as CSV")
    text, notes = text_of(path, raw), []
    at = text.find("\0")
    if at >= 0:
        line = text.count("\n", 0, at) + 1
        raise DataError(path, "holds a NUL character: the file is damaged or is no text", line)
    if not text.strip():
        raise DataError(path, "is empty")
    if raw.startswith(b"\xef\xbb\xbf"):
        notes.append("a byte order mark was left out")
    if "\n" not in text and "\r" in text:
        text = text.replace("\r", "\n")
        notes.append("lines end with CR alone, which was taken as their end")
    elif "\r\n" in text:
        notes.append("line ends CR LF were taken as LF")
    return text, tuple(notes)


def too_long(path: Path, n: int, line: int | None) -> DataError:
    return DataError(
        path,
        f"a text of {n:,} characters; more than {MOST_CHARACTERS:,} is taken for a lost line break "
        "or quotation mark: look at the file there, or cut the text",
        line,
    )


def too_many(path: Path, n: int, what: str, most: int) -> DataError:
    return DataError(
        path, f"has {n:,} {what}; at most {most:,} are read at once: take a part of them"
    )


def as_text(value: Any) -> str | None:
    """A cell as text; a list of strings is joined by blanks; None for what is no text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return None


def is_empty(value: Any) -> bool:
    """Nothing, or blanks alone."""
    text = as_text(value)
    return value is None or value == [] or (text is not None and not text.strip())


def offset(text: str) -> int | None:
    """A place in a text from its digits; None for what is none, or beyond any text."""
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) <= 12 else None


def short(value: object) -> str:
    """A value as it stands in an error: enough to find it, never a whole text."""
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")

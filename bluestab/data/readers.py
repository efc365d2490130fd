"""Files -> rows with line numbers. Every oddity is an error that names the line, never a guess."""

from __future__ import annotations

import gzip
import json
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from bluestab.core.errors import DataError, did_you_mean

MOST_BYTES = 300_000_000
"""Of a file, unpacked: what is read whole must fit into memory, several times."""

MOST_TIMES, FROM_BYTES = 100, 50_000_000
"""How many times its size a .gz file may unpack to, if that is more than so many bytes: text packs
to a twentieth or so, a file that is made to fill a memory to a thousandth."""

OTHER_KINDS: Mapping[str, Callable[[int], bool]] = {
    "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK, "a device": stat.S_ISCHR,
    "a disk": stat.S_ISBLK,
}  # fmt: skip


def check_kind(path: Path) -> None:
    """Raises DataError for what is neither file nor folder: a pipe would be waited for, a device
    never ends."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # whoever opens it says so
    for kind, is_kind in OTHER_KINDS.items():
        if is_kind(mode):
            raise DataError(path, f"is {kind}, no file; write what comes out of it to a file")


def open_bytes(path: Path) -> IO[bytes]:
    """A file, unpacked if its name ends in .gz. Raises DataError for what is no file."""
    check_kind(path)
    try:
        return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})") from error


def read_bytes(path: Path) -> bytes:
    """Content of a file, unpacked if its name ends in .gz. Raises DataError for one that cannot be
    read, or would fill the memory."""
    try:
        with open_bytes(path) as file:
            packed = path.stat().st_size
            if path.suffix != ".gz":
                return file.read() if packed <= MOST_BYTES else _too_large(path, packed, packed)
            pieces, n = [], 0
            while piece := file.read(2**20):
                pieces.append(piece)
                n += len(piece)
                if n > MOST_BYTES or (n > FROM_BYTES and n > MOST_TIMES * packed):
                    _too_large(path, n, packed)
            return b"".join(pieces)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, f"cannot be read ({error})") from error


def head_of(path: Path, n: int) -> bytes:
    """The first bytes of a file, unpacked. Raises DataError if it cannot be read."""
    try:
        with open_bytes(path) as file:
            return file.read(n)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, f"cannot be read ({error})") from error


def _too_large(path: Path, n: int, packed: int) -> NoReturn:
    if path.suffix == ".gz":
        raise DataError(
            path,
            f"unpacks to more than {n // 1_000_000:,} MB from {packed:,} bytes, which is no file "
            "that anybody annotated; unpack it and look at it",
        )
    raise DataError(
        path,
        f"has {n // 1_000_000:,} MB; at most {MOST_BYTES // 1_000_000:,} MB are read at once: take "
        "a part of it",
    )


def text_of(path: Path, raw: bytes) -> str:
    """Content in UTF-8, the only encoding taken; a leading BOM is dropped. `path` names it in
    errors."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            path, f"byte 0x{raw[error.start]:02x} is not UTF-8; convert the file to UTF-8", line
        ) from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a file, see `lines_of`."""
    yield from lines_of(path, read_bytes(path))


def lines_of(path: Path, raw: bytes) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without its line end)."""
    # str.splitlines would also split at U+2028 and friends, which occur inside abstracts
    for number, line_text in enumerate(text_of(path, raw).split("\n"), start=1):
        yield number, line_text.removesuffix("\r")


@dataclass(frozen=True)
class Sentence:
    """Words and tags of one sentence; `lines[i]` is where word i stands in the file; `document`
    the number of the -DOCSTART- line before it, if there is one."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[int, ...]
    document: str | None = None


def read_conll(path: Path) -> list[Sentence]:
    """CoNLL columns: first column the word, last the tag, blank line between sentences.

    Columns are separated by tabs, or by blanks where a line has no tab; `-DOCSTART-` lines are
    skipped. Raises DataError for a line with a single column.
    """
    sentences: list[Sentence] = []
    rows: list[tuple[str, str, int]] = []
    document: str | None = None

    def close() -> None:
        if rows:
            words, tags, lines = zip(*rows, strict=True)
            sentences.append(Sentence(words, tags, lines, document))
            rows.clear()

    for number, line in read_lines(path):
        if not line.strip():
            close()
            continue
        if line.startswith("-DOCSTART-"):
            close()
            document = f"document at line {number}"
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) < 2 or not fields[0].strip() or not fields[-1].strip():
            raise DataError(
                path, f"expected a word and its tag, separated by a tab, found {line!r}", number
            )
        rows.append((fields[0], fields[-1].strip(), number))
    close()
    return sentences


@dataclass(frozen=True)
class Table:
    """Rows of a file: `rows[i]` are the fields, `lines[i]` is the line where they start."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str | int, knob: str) -> list[str]:
        """One column, by header name or by 0-based number; `knob` names the setting in errors."""
        if isinstance(name, int) and 0 <= name < len(self.columns):
            index = name
        elif self.columns.count(str(name)) > 1:
            raise DataError(self.path, f"names several columns {name!r} ({knob})", 1)
        elif name in self.columns:
            index = self.columns.index(str(name))
        else:
            raise DataError(
                self.path,
                f"has no column {name!r} ({knob})" + did_you_mean(str(name), self.columns),
            )
        return [row[index] for row in self.rows]

    def ids(self, name: str | int | None, knob: str) -> list[str]:
        """Distinct names of the rows: a column, or the line numbers if `name` is None.

        They name items in predictions and in subset draws, so a repeated one is a DataError.
        """
        if name is None:
            return [f"line {line}" for line in self.lines]
        found = self.column(name, knob)
        seen: dict[str, int] = {}
        for identifier, line in zip(found, self.lines, strict=True):
            if identifier in seen:
                raise DataError(
                    self.path,
                    f"id {identifier!r} was already used in line {seen[identifier]}",
                    line,
                )
            seen[identifier] = line
        return found


def read_table(path: Path, *, header: bool, delimiter: str = "\t") -> Table:
    """A delimited file without quoting: a quotation mark is an ordinary character.

    Raises DataError for a row whose number of fields differs from the first row's.
    """
    lines: list[int] = []
    rows: list[tuple[str, ...]] = []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        fields = tuple(line.split(delimiter))
        if rows and len(fields) != len(rows[0]):
            raise DataError(
                path, f"has {len(fields)} columns where line {lines[0]} has {len(rows[0])}", number
            )
        rows.append(fields)
        lines.append(number)
    if not rows:
        raise DataError(path, "is empty")
    if header:
        return Table(path, rows[0], tuple(rows[1:]), tuple(lines[1:]))
    numbered = tuple(str(i) for i in range(len(rows[0])))
    return Table(path, numbered, tuple(rows), tuple(lines))


KEY = "key"
"""Column of a JSON file that maps names to objects: the names."""


def read_json(path: Path) -> Table:
    """A list of objects, or a map from name to object: one row each, columns by the objects' keys.

    Strings, numbers and booleans are taken as text, a list of strings as its strings joined by a
    blank; null and what else JSON can hold is the empty text. The names of a map are the column
    `key`. Raises DataError for anything else, with the line where the item starts.
    """
    text = text_of(path, read_bytes(path))
    found = list(_items(path, text))
    if not found:
        raise DataError(path, "holds no items")
    columns = dict.fromkeys(name for _, item, _ in found for name in item)
    named = any(key is not None for key, _, _ in found)
    if named and KEY in columns:
        raise DataError(path, f"is a map whose objects have a field {KEY!r} of their own")
    rows = [
        (*((str(key),) if named else ()), *(_as_text(item.get(name)) for name in columns))
        for key, item, _ in found
    ]
    names = (*((KEY,) if named else ()), *columns)
    return Table(path, names, tuple(rows), tuple(line for _, _, line in found))


def _items(path: Path, text: str) -> Iterator[tuple[str | None, dict[str, Any], int]]:
    """(name or None, object, line) of each item; the file is walked by hand to know the line."""
    decode = json.JSONDecoder().raw_decode
    at = skip(text, 0)
    opening = text[at : at + 1]
    if opening not in ("[", "{"):
        raise DataError(path, "is no JSON list and no JSON map of objects")
    closing = {"[": "]", "{": "}"}[opening]
    at = skip(text, at + 1)
    line, counted = 1, 0
    try:
        while text[at : at + 1] != closing:
            line, counted = line + text.count("\n", counted, at), at
            key = None
            if opening == "{":
                key, at = decode(text, at)
                at = expect(text, at, ":")
            item, at = decode(text, at)
            if not isinstance(item, dict) or not isinstance(key, str | None):
                raise DataError(path, f"expected an object, found {str(item)[:60]!r}", line)
            yield key, item, line
            at = skip(text, at)
            if text[at : at + 1] != closing:
                at = expect(text, at, ",")
    except json.JSONDecodeError as error:
        raise DataError(path, f"is no JSON: {error.msg}", error.lineno) from error
    except RecursionError as error:
        raise DataError(path, "is nested too deeply", line) from error


def skip(text: str, at: int) -> int:
    """Position after white space."""
    while text[at : at + 1] in (" ", "\t", "\n", "\r"):
        at += 1
    return at


def expect(text: str, at: int, sign: str) -> int:
    """Position after this sign and white space around it. Raises JSONDecodeError for another."""
    at = skip(text, at)
    if text[at : at + 1] != sign:
        raise json.JSONDecodeError(f"expected {sign!r}", text, at)
    return skip(text, at + 1)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return ""

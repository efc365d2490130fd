"""CSV and TSV: one item per row, fields in quotation marks or not, columns named or not."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.core.printable import counted
from bluestab.data.formats.base import MOST_CHARACTERS, Rows, too_long, whole_text

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
Record = tuple[tuple[str, ...], int]
"""Fields of a row, and the line where it starts."""


EXCEL = re.compile(r'"?sep=(.|\\t)"?', re.IGNORECASE)
"""The line that tells Excel the separator; it names no columns."""


@dataclass(frozen=True)
class Dialect:
    """How the rows of a file are written.

    quoted  fields may stand in quotation marks
    opening  lines before the first row: 1 where Excel is told the separator
    """

    separator: str
    quoted: bool
    opening: int = 0


def read_delimited(
    path: Path, *, tabs: bool, quoting: bool | None = None, header: bool | None = True
) -> Rows:
    """A table with separators; the first row names the columns if `header`.

    tabs     the separator is a tab; else a comma, or what else makes all rows equally long
    quoting  fields may stand in quotation marks; None: in CSV they may, in TSV where every field
             that opens with one also closes with one
    header   None: not known yet, the first row stays a row (see `columns.with_header`)

    Raises DataError naming the first row whose number of fields differs from that of the first.
    """
    text, notes = whole_text(path)
    said = list(notes)
    dialect, found = dialect_of(path, text, tabs=tabs, quoting=quoting)
    if dialect.opening:
        said.append(f"line 1 tells Excel that the separator is a {_named(dialect.separator)}")
    elif dialect.separator != ("\t" if tabs else ","):
        said.append(f"the separator is a {_named(dialect.separator)}")
    if tabs and dialect.quoted and quoting is None:
        said.append("fields in quotation marks were taken without them (task.quoting)")
    width, kept, n_empty = len(found[0][0]), [], 0
    for fields, line in found:
        if len(fields) != width:
            raise DataError(path, _uneven(fields, line, found[0], tabs), line)
        for cell in fields:
            if len(cell) > MOST_CHARACTERS:
                raise too_long(path, len(cell), line)
        if any(cell.strip() for cell in fields):
            kept.append((fields, line))
        else:
            n_empty += 1
    if not kept:
        raise DataError(path, "is empty: no cell of it holds anything", found[0][1])
    if n_empty:
        said.append(f"{counted(n_empty, 'row')} without any content left out")
    longer = [line for fields, line in kept if any("\n" in cell for cell in fields)]
    if longer:
        said.append(
            f"{counted(len(longer), 'row goes', 'rows go')} over several lines (first: line "
            f"{longer[0]}); if that is not meant, a quotation mark is missing there"
        )
    if header:
        names, rest = tuple(cell.strip() for cell in kept[0][0]), kept[1:]
    else:
        names, rest = tuple(map(str, range(width))), kept
    return Rows(
        path,
        names,
        [fields for fields, _ in rest],
        [line for _, line in rest],
        named=bool(header),
        notes=tuple(said),
    )


def _named(separator: str) -> str:
    return SEPARATORS.get(separator, repr(separator))


def dialect_of(
    path: Path, text: str, *, tabs: bool, quoting: bool | None, whole: bool = True
) -> tuple[Dialect, list[Record]]:
    """How a table is written, and its rows.

    tabs, quoting  see `read_delimited`
    whole          False: the file goes on after this text, and one column is enough
    """
    first, _, rest = text.partition("\n")
    if excel := EXCEL.fullmatch(first.rstrip("\r")):
        separator = "\t" if excel[1] == "\\t" else excel[1]
        found = list(records(path, pieces(rest), separator, quoting is not False, 2, whole))
        return Dialect(separator, quoting is not False, 1), _some(path, found)
    if tabs:
        quoted = _is_quoted(text) if quoting is None else quoting
        found = list(records(path, pieces(text), "\t", quoted, 1, whole))
        return Dialect("\t", quoted), _some(path, found)
    found, separator = _separated(path, text, quoting is not False, whole)
    return Dialect(separator, quoting is not False), found


def _some(path: Path, found: list[Record]) -> list[Record]:
    if not found:
        raise DataError(path, "is empty")
    return found


def _uneven(fields: Sequence[str], line: int, first: Record, tabs: bool) -> str:
    said = f"has {len(fields)} columns where line {first[1]} has {len(first[0])}"
    if tabs:
        return said + "; columns are separated by one tab each"
    return said + "; a text with a separator in it must stand in quotation marks"


def _separated(path: Path, text: str, quoted: bool, whole: bool = True) -> tuple[list[Record], str]:
    """The rows and the separator that makes them equally long; a comma if several do."""
    errors: dict[str, DataError] = {}
    single: tuple[list[Record], str] | None = None
    for separator in SEPARATORS:
        try:
            found = _some(path, list(records(path, pieces(text), separator, quoted, 1, whole)))
        except DataError as error:
            errors[separator] = error
            continue
        widths = {len(fields) for fields, _ in found}
        if len(widths) == 1 and widths != {1}:
            return found, separator
        if widths == {1}:
            single = single or (found, separator)
        else:
            first = found[0]
            fields, line = next(row for row in found if len(row[0]) != len(first[0]))
            errors[separator] = DataError(path, _uneven(fields, line, first, False), line)
    # nothing fits: what is wrong is said of the separator of the first row
    opening = text.lstrip().split("\n", 1)[0]
    likely = max(SEPARATORS, key=opening.count)
    if likely in errors and opening.count(likely):
        if whole:
            raise errors[likely]
        return [], likely  # whoever reads on says it, of the row
    if single is not None and not whole:
        return single
    if single is not None and not errors:
        raise DataError(
            path,
            "has one column only: a text and its label are needed, separated by a comma, "
            "semicolon, tab or bar",
            single[0][0][1],
        )
    raise next(iter(errors.values()))


def pieces(text: str) -> Iterator[str]:
    """Lines with their ends; a CR alone ends one, too."""
    return iter(io.StringIO(text, newline=""))


def records(
    path: Path,
    lines: Iterable[str],
    separator: str,
    quoted: bool,
    start: int = 1,
    whole: bool = True,
) -> Iterator[Record]:
    """The rows of a table, without empty lines, read as they are asked for.

    start  number of the first line
    whole  False: the last row may be cut in the middle, and is passed over then

    Raises DataError for marks of quotation that do not fit.
    """
    csv.field_size_limit(2**31 - 1)  # limits of ours are in those who ask
    reader = csv.reader(
        lines,
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    line = start
    try:
        for fields in reader:
            if len(fields) > 1 or "".join(fields).strip():
                yield tuple(fields), line
            line = reader.line_num + start
    except csv.Error as error:
        said = str(error)
        if "unexpected end" in said:
            if not whole:
                return
            said = "a quotation mark opens here and never closes"
        elif "expected after" in said:
            said = (
                "after a closing quotation mark comes neither a separator nor the end of the line; "
                'a quotation mark inside a text is written twice ("")'
            )
        raise DataError(path, said, line) from error


def _is_quoted(text: str) -> bool:
    """Was this TSV written with quotation marks around fields? Only if all of them agree."""
    if '"' not in text:
        return False
    opened = 0
    for line in text.split("\n"):
        for cell in line.removesuffix("\r").split("\t"):
            if not cell.startswith('"'):
                continue
            opened += 1
            inner = cell[1:-1]
            closed = len(cell) > 1 and cell.endswith('"')
            if not closed or '"' in inner.replace('""', ""):
                return False
    return opened > 0

"""CSV and TSV: one item per row, fields in quotation marks or not, columns named or not."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from bluestab.core.errors import DataError
from bluestab.data.formats.base import MOST_CHARACTERS, Rows, too_long, whole_text

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
Record = tuple[tuple[str, ...], int]
"""Fields of a row, and the line where it starts."""


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
    if tabs:
        quoted = _is_quoted(text) if quoting is None else quoting
        found = _records(path, text, "\t", quoted)
        if quoted and quoting is None:
            said.append("fields in quotation marks were taken without them (task.quoting)")
    else:
        found, separator = _separated(path, text, quoting is not False)
        if separator != ",":
            said.append(f"the separator is a {SEPARATORS[separator]}")
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
    if n_empty:
        said.append(f"{n_empty} rows without any content were left out")
    longer = [line for fields, line in kept if any("\n" in cell for cell in fields)]
    if longer:
        said.append(
            f"{len(longer)} rows go over several lines (first: line {longer[0]}); if that is not "
            "meant, a quotation mark is missing there"
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


def _uneven(fields: Sequence[str], line: int, first: Record, tabs: bool) -> str:
    said = f"has {len(fields)} columns where line {first[1]} has {len(first[0])}"
    if tabs:
        return said + "; columns are separated by one tab each"
    return said + "; a text with a separator in it must stand in quotation marks"


def _separated(path: Path, text: str, quoted: bool) -> tuple[list[Record], str]:
    """The rows and the separator that makes them equally long; a comma if several do."""
    errors: dict[str, DataError] = {}
    single: list[Record] | None = None
    for separator in SEPARATORS:
        try:
            found = _records(path, text, separator, quoted)
        except DataError as error:
            errors[separator] = error
            continue
        widths = {len(fields) for fields, _ in found}
        if len(widths) == 1 and widths != {1}:
            return found, separator
        if widths == {1}:
            single = single or found
        else:
            first = found[0]
            fields, line = next(row for row in found if len(row[0]) != len(first[0]))
            errors[separator] = DataError(path, _uneven(fields, line, first, False), line)
    # nothing fits: what is wrong is said of the separator of the first row
    opening = text.lstrip().split("\n", 1)[0]
    likely = max(SEPARATORS, key=opening.count)
    if likely in errors and opening.count(likely):
        raise errors[likely]
    if single is not None and not errors:
        raise DataError(
            path,
            "has one column only: a text and its label are needed, separated by a comma, "
            "semicolon, tab or bar",
            single[0][1],
        )
    raise next(iter(errors.values()))


def _records(path: Path, text: str, separator: str, quoted: bool) -> list[Record]:
    csv.field_size_limit(2**31 - 1)  # a limit of ours is in read_delimited
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    found: list[Record] = []
    start = 1
    try:
        for fields in reader:
            if fields and fields != [""]:
                found.append((tuple(fields), start))
            start = reader.line_num + 1
    except csv.Error as error:
        said = str(error)
        if "unexpected end" in said:
            said = "a quotation mark opens here and never closes"
        elif "expected after" in said:
            said = (
                "after a closing quotation mark comes neither a separator nor the end of the line; "
                'a quotation mark inside a text is written twice ("")'
            )
        raise DataError(path, said, start) from error
    if not found:
        raise DataError(path, "is empty")
    return found


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

"""JSON and JSONL: one object per item."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluestab.core.errors import DataError
from bluestab.data.formats.base import (
    HALF,
    MOST_CHARACTERS,
    MOST_ROWS,
    Rows,
    lines_in,
    short,
    too_long,
    too_many,
    whole_text,
)
from bluestab.data.formats.label_studio import Item, is_export, unfold
from bluestab.data.readers import expect, skip

MOST_DIGITS = 300
"""Of a whole number, as many as the largest of a computer has; more is damage."""

WRAPPED = ("data", "annotations", "examples")
"""Fields of a map that hold the list of items, beside what is said of all of them."""

SPACY = {"entities", "cats"}

KEY = "key"
"""Column of a JSON map: the names of its objects."""


def read_jsonl(path: Path) -> Rows:
    """One JSON object per line; empty lines are passed over."""
    lines, notes = lines_in(path)
    items: list[Item] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            items.append((None, parse_object(path, line, number), number))
    return _rows(path, items, notes)


def read_objects(path: Path) -> Rows:
    """A JSON list of objects, a map from name to object, a map with the list under `data`, or a
    table by columns."""
    text, notes = whole_text(path)
    said = list(notes)
    return _rows(path, _items(path, text, 1, said), said)


class _Refused(ValueError):
    """What JSON can write but nothing can be made of."""


@dataclass
class _Line:
    """Where the item begins that is being read."""

    number: int = 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises _Refused for a field that it has twice: all but the last would be lost."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"an object has two fields {short(twice)}")
    return found


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _Refused(f"holds a number of {len(digits):,} digits")
    return int(digits)


def _check_characters(value: Any) -> None:
    """Raises _Refused for half a character (a lone surrogate), which no file can hold."""
    if isinstance(value, str):
        if not value.isascii() and HALF.search(value):
            raise _Refused("holds half of a character (a lone surrogate)")
    elif isinstance(value, list):
        for part in value:
            _check_characters(part)
    elif isinstance(value, dict):
        for name, part in value.items():
            _check_characters(name)
            _check_characters(part)


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_whole_number)


def parse_object(path: Path, line: str, number: int) -> dict[str, Any]:
    """The object that a line of JSONL holds. Raises DataError for anything else."""
    try:
        found = _decoder.decode(line)
        if "\\" in line:
            _check_characters(found)
    except json.JSONDecodeError as error:
        raise DataError(path, f"is no JSON object: {error.msg}", number) from error
    except RecursionError as error:
        raise DataError(path, "is no JSON object: nested too deeply", number) from error
    except _Refused as error:
        raise DataError(path, str(error), number) from error
    found = _of_spacy(found)
    if not isinstance(found, dict):
        raise DataError(path, f"is no JSON object: expected an object, found {short(line)}", number)
    return found


def _of_spacy(item: Any) -> Any:
    """`[text, {"entities": [[start, end, label], ...]}]`, spaCy's training data, as an object; of
    `cats`, which gives each category a number, the names of those that are true."""
    if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str):
        text, said = item
        if isinstance(said, dict) and said.keys() & SPACY and "text" not in said:
            item = {"text": text, **said}
    cats = item.get("cats") if isinstance(item, dict) else None
    if not isinstance(cats, dict) or not cats or "labels" in item:
        return item
    if not all(isinstance(value, bool | int | float) for value in cats.values()):
        return item
    kept = {key: value for key, value in item.items() if key != "cats"}
    return {**kept, "labels": [name for name, value in cats.items() if value >= 0.5]}


@dataclass(frozen=True)
class Entry:
    """Of a list (key: None) or map: a value and its line; text: of a list in a map."""

    key: str | None
    value: Any
    line: int
    text: str = ""


def entries(path: Path, text: str, line: int = 1) -> Iterator[Entry]:
    """What a list or map holds whose text begins in this line. Raises DataError for what is none,
    when it gets there."""
    place = _Line(line)
    try:
        yield from _entries(path, text, place)
    except json.JSONDecodeError as error:
        raise DataError(path, f"is no JSON: {error.msg}", error.lineno + line - 1) from error
    except RecursionError as error:
        raise DataError(path, "is nested too deeply", place.number) from error
    except _Refused as error:
        raise DataError(path, str(error), place.number) from error


def _entries(path: Path, text: str, place: _Line) -> Iterator[Entry]:
    """What a list or map holds; walked by hand to know the line of each."""
    decode = _decoder.raw_decode
    at = skip(text, 0)
    opening = text[at : at + 1]
    if opening not in ("[", "{"):
        raise DataError(path, "is neither a JSON list of objects nor a JSON map of objects", 1)
    closing = {"[": "]", "{": "}"}[opening]
    at = skip(text, at + 1)
    line, counted = place.number, 0
    names: set[str] = set()
    while text[at : at + 1] != closing:
        line, counted = line + text.count("\n", counted, at), at
        place.number = line
        key = None
        if opening == "{":
            key, at = decode(text, at)
            if not isinstance(key, str):
                raise json.JSONDecodeError("expected a name in quotation marks", text, at)
            if key in names:
                raise DataError(path, f"the name {short(key)} occurs twice", line)
            names.add(key)
            at = expect(text, at, ":")
        begin, (value, at) = at, decode(text, at)
        if "\\" in text[counted:at]:
            _check_characters([key, value])
        of_list = text[begin:at] if key is not None and text[begin] == "[" else ""
        yield Entry(key, _of_spacy(value), line, of_list)
        at = skip(text, at)
        if text[at : at + 1] != closing:
            at = expect(text, at, ",")
    if rest := text[at + 1 :].strip():
        raise DataError(
            path,
            f"goes on after its end with {short(rest)}; one object per line is task.format=jsonl",
            line + text.count("\n", counted, at),
        )


def _items(path: Path, text: str, line: int, notes: list[str]) -> list[Item]:
    """The objects of a list; of a map those of the list in it, or its own; or the rows of a table
    that is written by columns."""
    found: list[Entry] = []
    for entry in entries(path, text, line):
        found.append(entry)
        if len(found) > MOST_ROWS:
            raise too_many(path, len(found), "items or more", MOST_ROWS)
        if entry.key is None and not isinstance(entry.value, dict):
            raise DataError(path, f"expected an object, found {short(entry.value)}", entry.line)
    table = _by_columns({entry.key: entry.value for entry in found})
    if table is not None:
        notes.append("the table is written by columns")
        return [(None, row, found[0].line) for row in table]
    for entry in found:
        if entry.key in WRAPPED and entry.text:
            beside = [short(other.key) for other in found if isinstance(other.value, dict)]
            if beside:
                notes.append(f"items are those of '{entry.key}'; not read: {', '.join(beside)}")
            return _items(path, entry.text, entry.line, notes)
    for entry in found:
        if not isinstance(entry.value, dict):
            advice = "; save each list as a file of its own" if entry.text else ""
            raise DataError(
                path,
                f"the field {short(entry.key)} is no object, where items are expected{advice}",
            )
    return [(entry.key, entry.value, entry.line) for entry in found]


def _by_columns(fields: Mapping[str | None, Any]) -> list[dict[str, Any]] | None:
    """The rows of a table as pandas and `datasets` write it, not by rows: `{name: [value, ...]}`,
    `{name: {"0": value, ...}}`, or names, values and an index apart; None for anything else."""
    values = list(fields.values())
    if fields.keys() >= {"columns", "data"}:
        names, rows = fields["columns"], fields["data"]
        if not isinstance(names, list) or not isinstance(rows, list):
            return None
        if all(isinstance(row, list) and len(row) == len(names) for row in rows):
            return [dict(zip(map(str, names), row, strict=True)) for row in rows]
        return None
    if None in fields or len(values) < 2:
        return None
    if all(isinstance(one, list) and len(one) == len(values[0]) for one in values):
        if any(isinstance(part, dict) for one in values for part in one[:1]):
            return None
        return [dict(zip(map(str, fields), row, strict=True)) for row in zip(*values, strict=True)]
    if all(isinstance(one, dict) and [*one] == [*values[0]] for one in values):
        if not all(name.isdigit() for name in values[0]):
            return None
        return [{str(name): one[row] for name, one in fields.items()} for row in values[0]]
    return None


def _rows(path: Path, items: list[Item], notes: Iterable[str]) -> Rows:
    if not items:
        raise DataError(path, "holds no items")
    if len(items) > MOST_ROWS:
        raise too_many(path, len(items), "items", MOST_ROWS)
    if is_export(items):
        items, more = unfold(path, items)
        notes = [*notes, *more]
    mapped = any(key is not None for key, _, _ in items)
    columns = dict.fromkeys(name for _, item, _ in items for name in item)
    if mapped and KEY in columns:
        raise DataError(path, f"is a map whose objects have a field {KEY!r} of their own")
    for _, item, line in items:
        for value in item.values():
            if isinstance(value, str) and len(value) > MOST_CHARACTERS:
                raise too_long(path, len(value), line)
    rows = [
        (*((key,) if mapped else ()), *(item.get(name) for name in columns))
        for key, item, _ in items
    ]
    names = (*((KEY,) if mapped else ()), *columns)
    return Rows(path, names, rows, [line for _, _, line in items], notes=tuple(notes))

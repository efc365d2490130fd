"""JSON and JSONL: one object per item."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bluestab.core.errors import DataError
from bluestab.data.formats.base import MOST_CHARACTERS, Rows, lines_in, short, too_long, whole_text
from bluestab.data.formats.label_studio import Item, is_export, unfold
from bluestab.data.readers import expect, skip

KEY = "key"
"""Column of a JSON map: the names of its objects."""


def read_jsonl(path: Path) -> Rows:
    """One JSON object per line; empty lines are passed over."""
    lines, notes = lines_in(path)
    items: list[Item] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            items.append((None, _object(path, line, number), number))
    return _rows(path, items, notes)


def read_objects(path: Path) -> Rows:
    """A JSON list of objects, a map from name to object, or a map with the list under `data`."""
    text, notes = whole_text(path)
    said = list(notes)
    try:
        items = list(_items(path, text))
    except json.JSONDecodeError as error:
        raise DataError(path, f"is no JSON: {error.msg}", error.lineno) from error
    except RecursionError as error:
        raise DataError(path, "is nested too deeply") from error
    except _Twice as error:
        raise DataError(path, f"an object has two fields {short(error)}") from error
    return _rows(path, items, said)


class _Twice(Exception):
    """A field that an object has twice: all but the last would be lost."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return found


def _object(path: Path, line: str, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise DataError(path, f"is no JSON object: {error.msg}", number) from error
    except RecursionError as error:
        raise DataError(path, "is nested too deeply", number) from error
    except _Twice as error:
        raise DataError(path, f"the object has two fields {short(error)}", number) from error
    if not isinstance(found, dict):
        raise DataError(path, f"expected an object, found {short(line)}", number)
    return found


def _items(path: Path, text: str) -> Iterator[Item]:
    """The objects of a list or map; walked by hand to know the line of each."""
    decode = json.JSONDecoder(object_pairs_hook=_unique).raw_decode
    at = skip(text, 0)
    opening = text[at : at + 1]
    if opening not in ("[", "{"):
        raise DataError(path, "is neither a JSON list of objects nor a JSON map of objects", 1)
    closing = {"[": "]", "{": "}"}[opening]
    at = skip(text, at + 1)
    line, counted = 1, 0
    names: set[str] = set()
    other: list[str] = []
    inner: list[Item] | None = None
    while text[at : at + 1] != closing:
        line, counted = line + text.count("\n", counted, at), at
        key = None
        if opening == "{":
            key, at = decode(text, at)
            if key in names:
                raise DataError(path, f"the name {short(key)} occurs twice", line)
            names.add(key)
            at = expect(text, at, ":")
        if key == "data" and text[at : at + 1] == "[":
            end = decode(text, at)[1]
            inner = [(None, item, line + n - 1) for _, item, n in _items(path, text[at:end])]
            at = end
        else:
            item, at = decode(text, at)
            if isinstance(item, dict):
                yield key, item, line
            elif key is None:
                raise DataError(path, f"expected an object, found {short(item)}", line)
            else:
                other.append(key)
        at = skip(text, at)
        if text[at : at + 1] != closing:
            at = expect(text, at, ",")
    if rest := text[at + 1 :].strip():
        raise DataError(
            path,
            f"goes on after its end with {short(rest)}; one object per line is task.format=jsonl",
            text.count("\n", 0, at) + 1,
        )
    if inner is not None:
        yield from inner
    elif other:
        raise DataError(path, f"the field {short(other[0])} is no object, where items are expected")


def _rows(path: Path, items: list[Item], notes: Iterable[str]) -> Rows:
    if not items:
        raise DataError(path, "holds no items")
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

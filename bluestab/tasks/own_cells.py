"""What the cells of a table of sentences hold: words, tags or spans, however they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bluestab.data.formats.base import HALF, Rows, Span, short

STARTS, ENDS = ("start", "start_offset", "begin"), ("end", "end_offset", "stop")
TYPES = ("label", "type", "entity", "tag", "entity_type", "labels")


def is_list(values: Sequence[Any]) -> bool:
    """Lists of words, as such or written out as JSON."""
    first = next((v for v in values if v not in (None, "", [])), None)
    if isinstance(first, list):
        return True
    return isinstance(first, str) and first.lstrip().startswith(('["', "['"))


def is_objects(values: Sequence[Any]) -> bool:
    """Lists of objects, which are no words."""
    first = next((v for v in values if v not in (None, "", [])), None)
    return isinstance(first, list) and all(isinstance(part, dict) for part in first)


def is_written_list(value: str) -> bool:
    return value.lstrip().startswith("[")


def is_tags(values: Sequence[Any]) -> bool:
    """Tags separated by blanks, or a list of them; not a list of spans."""
    first = next((v for v in values if v not in (None, "", [])), None)
    if isinstance(first, list):
        return all(isinstance(part, str | int) for part in first)
    return isinstance(first, str) and not first.lstrip().startswith(("[[", "[{", "[(", "[]"))


def parse_strings(
    rows: Rows, i: int, value: Any, column: str, knob: str, names: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Words or tags of a row: a list, a JSON list, or separated by blanks."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            value = _parsed(rows, i, value, column, knob)
        else:
            return tuple(value.split())
    if not isinstance(value, list):
        raise rows.fail(i, f"{column} ({knob}) is {short(value)}, no list")
    if (
        names is not None
        and value
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    ):
        if not names:
            raise rows.fail(
                i,
                f"{column} ({knob}) holds numbers, whose names the file does not have; list them "
                "in order: task.label_names=[O,B-...,I-...]",
            )
        if not all(0 <= v < len(names) for v in value):
            raise rows.fail(i, f"{column} ({knob}) holds a number beyond task.label_names")
        value = [names[v] for v in value]
    if not all(isinstance(part, str) and part.strip() for part in value):
        raise rows.fail(i, f"{column} ({knob}) holds something empty, or that is no text")
    if any(HALF.search(part) for part in value):
        raise rows.fail(i, f"{column} ({knob}) holds half of a character (a lone surrogate)")
    return tuple(value if names is None else [part.strip() for part in value])


def _parsed(rows: Rows, i: int, value: str, column: str, knob: str) -> Any:
    """A list that stands in a cell as JSON, or as Python writes it."""
    import ast

    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise rows.fail(
            i, f"{column} ({knob}) is {short(value)}, no list that can be read"
        ) from None


def parse_spans(rows: Rows, i: int, value: Any) -> list[Span]:
    """`[[start, end, type], ...]` or `[{"start": .., "end": .., "label": ..}, ...]`; offsets count
    from 0, the end is exclusive; whether they fit the text is seen to by `check_span`."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        value = _parsed(rows, i, value, "the column of task.label", "spans")
    if not isinstance(value, list | tuple):
        raise rows.fail(i, f"expected a list of spans, found {short(value)}")
    found = []
    for one in value:
        covered = None
        if isinstance(one, dict):
            start, end, kind = (_first(one, names) for names in (STARTS, ENDS, TYPES))
            covered = one.get("text")
            if isinstance(kind, list) and len(kind) == 1:
                kind = kind[0]
        elif isinstance(one, list | tuple) and len(one) == 3:
            start, end, kind = one
            if isinstance(start, str) and isinstance(kind, int):
                kind, start, end = start, end, kind
        else:
            raise rows.fail(i, f"expected a span [start, end, type], found {short(one)}")
        if not _is_offset(start) or not _is_offset(end) or not isinstance(kind, str):
            raise rows.fail(i, f"{short(one)} is no span: it has no start, end and type")
        said = covered if isinstance(covered, str) else None
        found.append(Span(start, end, kind.strip(), rows.lines[i], said))
    return found


def check_span(rows: Rows, i: int, text: str, span: Span) -> None:
    """Raises DataError for a span of row i that is not where it says."""
    start, end = span.start, span.end
    if not 0 <= start < end <= len(text):
        raise rows.fail(
            i,
            f"span {start}-{end} lies outside of its text, which has {len(text)} characters, "
            "or holds nothing (the end is exclusive)",
        )
    if span.covered is not None and span.covered.split() != text[start:end].split():
        raise rows.fail(
            i, f"{short(span.covered)} is not at {start}-{end}, {short(text[start:end])} is"
        )


def _first(one: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((one[name] for name in names if name in one), None)


def _is_offset(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

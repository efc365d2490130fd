"""Label Studio's JSON export, unfolded: a row per task, a column per field of `data` and control.

A control (`from_name`) becomes a column of its name, as in Label Studio's own JSON-MIN: spans
(`{start, end, label, text}`) of labels, the choice (a list if any task has several), the number of
a rating. Of several annotations the one that is marked as ground truth counts, else the first that
was neither cancelled nor rejected in review.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bluestab.core.errors import DataError
from bluestab.data.formats.base import short

Item = tuple[str | None, dict[str, Any], int]
"""Name in a map or None, object, line."""

NUMBERS = ("rating", "number")
SPANS = ("labels", "hypertextlabels")
DONE = ("annotations", "completions")
"""What annotations are called, now and before version 1.0."""


def is_export(items: Sequence[Item]) -> bool:
    """Has every object `data` and `annotations`, as no other format does?"""
    return bool(items) and all(
        isinstance(item.get("data"), dict)
        and any(isinstance(item.get(name), list) for name in DONE)
        for _, item, _ in items
    )


def unfold(path: Path, items: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """Flat objects, and what is to be said of them. Raises DataError for an annotation that cannot
    be read."""
    found: list[Item] = []
    kinds: dict[str, str] = {}  # of each control
    n_without = 0
    several: Counter[str] = Counter()
    passed: dict[str, int] = {}
    for _, item, line in items:
        chosen = _chosen(path, item, line, several)
        if chosen is None:
            n_without += 1
            continue
        row = {**({"id": item["id"]} if "id" in item else {}), **item["data"]}
        for name, kind, value in _results(path, chosen, line, passed):
            if name in item["data"] or kinds.setdefault(name, kind) != kind:
                raise DataError(path, f"the control {short(name)} means two things", line)
            if kind in NUMBERS:
                row[name] = value
            else:
                row.setdefault(name, []).extend(value)
        found.append((None, row, line))
    for name, kind in kinds.items():
        single = kind == "choices" and all(len(row.get(name, ())) == 1 for _, row, _ in found)
        for _, row, _ in found:
            if single:
                (row[name],) = row[name]
            elif kind == "labels":
                row.setdefault(name, [])  # looked at, and nothing in it
    notes = ["a Label Studio export"]
    if n_without:
        notes.append(f"{n_without} tasks without an annotation were left out")
    notes += [f"{n} {said}" for said, n in sorted(several.items())]
    notes += [f"{n} results of type {kind} were not read" for kind, n in sorted(passed.items())]
    if not found:
        more = "; ".join(notes[1:])
        raise DataError(
            path, "is a Label Studio export without any annotation that counts: " + more
        )
    return found, notes


def _chosen(
    path: Path, item: Mapping[str, Any], line: int, several: Counter[str]
) -> Mapping[str, Any] | None:
    """The annotation of a task that counts, or None; what was passed over is counted."""
    made = next(item[name] for name in DONE if isinstance(item.get(name), list))
    done = []
    for one in made:
        given_up = _get(path, one, "was_cancelled", line) or _get(path, one, "skipped", line)
        reviews = _get(path, one, "reviews", line)
        last = reviews[-1] if isinstance(reviews, list) and reviews else {}
        if isinstance(last, Mapping) and last.get("accepted") is False:
            several["annotations were rejected in review and left out"] += 1
        elif not given_up:
            done.append(one)
    truths = [one for one in done if one.get("ground_truth") is True]
    if len(done) > 1:
        what = "one marked as ground truth" if truths else "first"
        several[f"tasks have several annotations, of which the {what} was taken"] += 1
    return next(iter(truths or done), None)


def _results(
    path: Path, annotation: Mapping[str, Any], line: int, passed: dict[str, int]
) -> Iterator[tuple[str, str, Any]]:
    """Control, kind and value of each result; a kind that is not read is counted in `passed`."""
    results = annotation.get("result")
    if not isinstance(results, list):
        raise DataError(path, f"an annotation has no list of results: {short(results)}", line)
    for one in results:
        kind, value, name = (_get(path, one, key, line) for key in ("type", "value", "from_name"))
        if not isinstance(kind, str):
            raise DataError(path, f"a result has no type: {short(one)}", line)
        if kind in (*SPANS, *NUMBERS, "choices") and not isinstance(name, str):
            raise DataError(path, f"a result of type {kind} has no from_name", line)
        if kind in SPANS:
            named = _get(path, value, kind, line)
            if not isinstance(named, list) or len(named) != 1:
                raise DataError(path, f"a span has {short(named)}, expected one label", line)
            span = {key: value.get(key) for key in ("start", "end", "text") if key in value}
            # of HTML start and end may be places in its tree; these count characters
            found = value.get("globalOffsets") or {}
            span |= {key: found[key] for key in ("start", "end") if key in found}
            yield str(name), SPANS[0], [{**span, "label": named[0]}]
        elif kind == "choices":
            found = _get(path, value, "choices", line)
            if not isinstance(found, list) or not all(isinstance(c, str) for c in found):
                raise DataError(path, f"a choice is {short(found)}, expected a list of names", line)
            yield str(name), kind, found
        elif kind in NUMBERS:
            yield str(name), kind, _get(path, value, kind, line)
        else:
            passed[str(kind)] = passed.get(str(kind), 0) + 1


def _get(path: Path, value: Any, key: str, line: int) -> Any:
    if not isinstance(value, Mapping):
        raise DataError(path, f"{short(value)} is no object of a Label Studio export", line)
    return value.get(key)

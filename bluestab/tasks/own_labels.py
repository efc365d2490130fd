"""What a cell says as a label, and which label of the files a yaml or command line means.

A file holds texts and numbers, a yaml also booleans and other spellings of numbers: `[true]` means
the label `true`, `True` or `TRUE` of the file, `[1]` may mean `001`. A label in quotation marks is
taken letter for letter.
"""

from __future__ import annotations

import ast
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bluestab.core.errors import DataError
from bluestab.core.printable import counted
from bluestab.data.formats.base import Rows, as_text, short

TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")
"""What YAML reads as a boolean (YAML 1.1, https://yaml.org/type/bool.html)."""

BETWEEN = ("#", "|", ";", ",")
"""Signs that tools put between labels of one item."""


NOTHING = ("na", "n/a", "#n/a", "null", "none", "-", "?")
"""What tools write where a value is missing, in small letters; `nan` is never a name."""


def label_of(rows: Rows, i: int, value: Any, column: str, listed: Sequence[object] = ()) -> str:
    """A cell as the name of one label. Raises DataError for an empty one, and for several.

    listed  names that the yaml lists: `nan` is one only there, else it stands for nothing
    """
    names = labels_in(value)
    if names is not None:
        if len(names) > 1:
            raise rows.fail(
                i,
                f"{column} (task.label) holds {len(names)} labels, {short(names)}, where one is "
                "expected; texts with several labels are task=multilabel",
            )
        value = names[0] if names else None
    if isinstance(value, list | dict):
        raise rows.fail(i, f"{column} (task.label) is {short(value)}, no label")
    text = (as_text(value) or "").strip()
    if not text or (text.casefold() == "nan" and text not in map(str, listed)):
        said = f" ({text}: list it in task.label_names if it is a name)" if text else ""
        raise rows.empty(i, column, "task.label", said)
    if len(text) > 200:
        raise rows.fail(
            i, f"{column} (task.label) is {short(text)}: a text, not a label; which column is it?"
        )
    return text


def labels_in(value: Any) -> list[Any] | None:
    """The labels of a cell that holds a list of them, as such or written out (JSON, Python), or a
    map from label to 0 or 1 (spaCy's `cats`); None for any other."""
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        value = _parsed(value.strip())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, dict) and value and all(v in (0, 1) for v in value.values()):
        return [name for name, flag in value.items() if flag]
    return None


def _parsed(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return text


def meant(given: Sequence[object] | None, found: Iterable[str]) -> list[str] | None:
    """The labels of the files that the values of a yaml or command line stand for, in their order.

    found  labels that there are
    """
    if given is None:
        return None
    names = sorted(set(found))
    return [_meant(value, names) for value in given]


def _meant(value: object, names: Sequence[str]) -> str:
    if isinstance(value, str):
        return value
    exact = str(as_text(value) if as_text(value) is not None else value)
    if exact in names:
        return exact
    alike = [name for name in names if _stands_for(value, name)]
    return alike[0] if len(alike) == 1 else exact


def _stands_for(value: object, name: str) -> bool:
    plain = name.strip().casefold()
    if isinstance(value, bool):
        return plain in (TRUE if value else FALSE)
    if value is None:
        return plain in ("null", "none", "~")
    try:
        number = float(plain)
    except ValueError:
        return False
    if not isinstance(value, int | float):
        return False
    return number == value or (math.isnan(number) and math.isnan(value))


def check_alike(where: Path, names: Iterable[str], known: Sequence[str] | None, what: str) -> None:
    """Raises DataError for labels that differ in nothing but case, blanks or a trailing .0: one of
    them is a slip. Labels that the yaml lists are meant."""
    seen: dict[str, str] = {}
    listed = {str(name) for name in known or ()}
    for name in sorted(set(names)):
        plain = " ".join(name.casefold().split())
        try:
            plain = repr(float(plain))
        except ValueError:
            plain = plain.replace("_", " ").replace("-", " ")
        other = seen.setdefault(plain, name)
        if other != name and not {other, name} <= listed:
            raise DataError(
                where,
                f"{what}s {short(other)} and {short(name)} are alike; if they are two, list all "
                f"{what}s in task.label_names",
            )


def missing_in(names: Iterable[str], known: Sequence[str] | None) -> list[str]:
    """Notes about classes that may stand for a missing one; those that the yaml lists do not."""
    found = Counter(name for name in names if name.casefold() in NOTHING)
    return [
        f"{counted(n, 'item')} of class {short(name)}: if that says that the class is missing, "
        "take such rows out; listed in task.label_names it is a class"
        for name, n in sorted(found.items())
        if name not in (known or ())
    ]


def check_single(where: Path, names: Iterable[str], known: Sequence[str] | None) -> None:
    """Raises DataError for a class such as `pos#neg` beside `pos` and `neg`: two labels in one
    cell. Classes that the yaml lists are meant."""
    found = set(names)
    for name in sorted(found - {str(one) for one in known or ()}):
        for sign in BETWEEN:
            parts = [part.strip() for part in name.split(sign)]
            if len(parts) > 1 and set(parts) <= found - {name}:
                raise DataError(
                    where,
                    f"class {short(name)} is made of {' and '.join(map(short, parts))}, which are "
                    "classes, too; texts with several labels are task=multilabel; if it is a "
                    "class, list all of them in task.label_names",
                )


def check_several(where: Path, names: Iterable[str], what: str) -> None:
    """Raises DataError if there is one label only: there would be nothing to learn."""
    found = set(names)
    if len(found) == 1:
        raise DataError(
            where, f"holds one {what} only, {short(next(iter(found)))}: nothing could be learned"
        )

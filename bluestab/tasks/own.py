"""A person's own files, without code: recognised, checked and said, then trained like any task.

What all of these tasks share; the kinds are in `own_texts` and `own_tagging`. All files of a task
are read together: what tags mean, or whether a line names columns, must not differ between them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bluestab.core.errors import DataError, did_you_mean
from bluestab.core.paths import expanded
from bluestab.core.types import SPLITS, Example, Split
from bluestab.data.formats.accepted import accepted
from bluestab.data.formats.base import Rows, as_text
from bluestab.data.formats.bioc import read_bioc
from bluestab.data.formats.brat import read_brat
from bluestab.data.formats.columnar import NAMES, read_dataset, read_parquet
from bluestab.data.formats.columns import choose, find, names_of, texts, with_header
from bluestab.data.formats.delimited import read_delimited
from bluestab.data.formats.objects import read_jsonl, read_objects
from bluestab.data.formats.pubtator import read_pubtator_documents
from bluestab.data.formats.recognise import FORMATS, recognise
from bluestab.tasks.base import Corpus, Task

READING = frozenset(
    ("name", "format", "header", "quoting", "id", "group", "text", "text_pair", "label")
)
"""Fields that only say how files are read."""

MOST_REPORTED = 8  # labels that a note names


@dataclass(frozen=True, kw_only=True)
class OwnFiles(Task, ABC):
    """Fields that all tasks on a person's own files have."""

    header: bool | None
    quoting: bool | None
    id: str | int | None
    group: str | int | None

    own: ClassVar[bool] = True
    descriptive: ClassVar[frozenset[str]] = READING
    words: ClassVar[bool] = False
    """Items are words with tags."""
    columns: ClassVar[tuple[str, ...]] = ("id", "group", "text", "text_pair", "label")
    """Fields that hold one column each."""

    def __post_init__(self) -> None:
        if self.name is None:
            object.__setattr__(self, "name", name_from(self.train))

    def check(self) -> list[str]:
        problems = super().check()
        for knob in ("header", "quoting"):
            value = getattr(self, knob)
            if value is not None and not isinstance(value, bool):
                problems.append(
                    f"task.{knob} is {value!r}: expected true, false, or null to tell it from the "
                    "file"
                )
        for knob in self.columns:
            value = getattr(self, knob, None)
            if not isinstance(value, str | int | None) or isinstance(value, bool):
                problems.append(
                    f"task.{knob} is {value!r}: expected the name of a column, its number from 0, "
                    "or null to tell it from the names of the columns; a name like a list "
                    f"stands in quotation marks: 'task.{knob}=\"[x]\"'"
                )
        return problems

    def read(self, path: Path) -> list[Example]:
        """As a test file: nothing is learned from it, so that it need not show every class."""
        return self.read_all({"test": path}).splits["test"]

    @abstractmethod
    def read_all(self, paths: Mapping[Split, Path]) -> Corpus: ...

    def look_at(self, path: Path) -> None:
        self.format_of(path)

    def format_of(self, path: Path) -> str:
        """The format of a file: the given one, or what it is recognised as."""
        if self.format == "auto":
            found = recognise(path, words=self.words)
            if found not in self.formats:
                fitting = ", ".join(name for name in self.formats if name != "auto")
                raise DataError(
                    path,
                    f"is {found}, which does not fit this kind of task (it takes {fitting}); "
                    "another kind of task=, or say task.format=",
                )
            return found
        return self.format

    def rows(self, path: Path, kind: str, given: Sequence[str | int | None]) -> Rows:
        """A file of rows. `given`: columns that are named by the yaml or the command line."""
        if kind in ("csv", "tsv"):
            raw = read_delimited(path, tabs=kind == "tsv", quoting=self.quoting, header=None)
            return accepted(with_header(raw, self.header, given), self._given_label())
        readers = {
            "json": read_objects, "jsonl": read_jsonl,
            "parquet": read_parquet, "dataset": read_dataset,
        }  # fmt: skip
        return accepted(readers[kind](path), self._given_label())

    def _given_label(self) -> str | int | None:
        """The one column that a person named as label."""
        label = getattr(self, "label", None)
        return label if isinstance(label, str | int) else None

    def names_and_groups(
        self, rows: Rows, roles: dict[str, str]
    ) -> tuple[list[str], list[str | None], list[str]]:
        """Name and group of each row, and what is to be said of them; their columns go to `roles`.

        roles  columns that are read already
        """
        said, taken = [], list(roles.values())
        column: str | int | None = self.id
        if column is None and (found := find(rows, "id", taken=taken)) is not None:
            cells = [as_text(value) for value in rows.column(found, "task.id")]
            if None not in cells and len(set(cells)) == len(cells):
                column = found
            else:
                said.append(
                    f"column {found!r} has empty or repeated cells, so rows are named by their "
                    f"{rows.unit}"
                )
        ids = names_of(rows, column, "task.id")
        if column is not None:
            roles["id"] = rows.columns[rows.index(column, "task.id")]
        if (group := self.group_column(rows, taken)) is None:
            return ids, [None] * len(ids), said
        roles["group"] = group
        return ids, list(texts(rows, roles["group"], "task.group")), said

    def group_column(self, rows: Rows, taken: Sequence[str]) -> str | None:
        """The column of what stays together: the given one, else one whose name tells it."""
        group = find(rows, "group", taken=taken) if self.group is None else self.group
        return None if group is None else rows.columns[rows.index(group, "task.group")]

    def column(self, rows: Rows, role: str, taken: Sequence[str] = ()) -> str:
        return choose(rows, role, getattr(self, role), taken=taken)


def name_from(train: object) -> str:
    """What a task without a name is called: its training file, or the folder of `train.csv`."""
    path = expanded(str(train))
    stem = path.name.partition(".")[0]
    if stem.lower() in NAMES and path.absolute().parent.name:
        stem = path.absolute().parent.name
    return re.sub(r"[^\w.+-]+", "_", stem).strip("_.+-")[:60] or "own"


OWN_FORMATS = ("auto", *FORMATS)
ROW_FORMATS = ("auto", "csv", "tsv", "json", "jsonl", "parquet", "dataset")
SPAN_READERS = {"brat": read_brat, "pubtator": read_pubtator_documents, "bioc": read_bioc}


def describe(rows: Rows, kind: str, roles: Mapping[str, str]) -> str:
    """`csv, 120 rows; text is 'sentence', label is 'gold'; not read: 'date'`."""
    read = {name for said in roles.values() for name in (said, *said.split(", "))}
    unread = [repr(name) for name in rows.columns if name not in read]
    said = f"{kind}, {len(rows.rows)} rows" + ("" if rows.named else " without a line of names")
    parts = ", ".join(f"{role} is {column!r}" for role, column in roles.items())
    if unread:
        shown = ", ".join(unread[:6]) + (f" and {len(unread) - 6} more" if len(unread) > 6 else "")
        parts += f"; not read: {shown}"
    return f"{said}; {parts}"


def balance(names: Iterable[str]) -> str:
    """`yes 120, no 80`, the most frequent first."""
    counts = Counter(names)
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    shown = ", ".join(f"{name} {counts[name]}" for name in ordered[:MOST_REPORTED])
    return shown + (
        f" and {len(ordered) - MOST_REPORTED} more" if len(ordered) > MOST_REPORTED else ""
    )


def noted(found: Mapping[Split, tuple[Path, Sequence[str]]]) -> tuple[str, ...]:
    """Sentences about files, each after the name of the file; those about all of them once."""
    files: dict[str, list[str]] = defaultdict(list)
    for split in SPLITS:
        if split in found:
            path, sentences = found[split]
            for sentence in sentences:
                files[sentence].append(path.name)
    return tuple(f"{', '.join(dict.fromkeys(names))}: {said}" for said, names in files.items())


def unknown(name: str, options: Sequence[str], knob: str) -> str:
    return f"task.{knob} is {name!r}" + did_you_mean(name, options)

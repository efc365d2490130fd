"""Own files with a text, or two, per row: a class, several labels, or a number for each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.errors import DataError
from bluestab.core.types import Example, ImageFile, Split
from bluestab.data.formats.base import Rows, is_empty, short
from bluestab.data.formats.columns import find, texts
from bluestab.tasks.base import Corpus, Task
from bluestab.tasks.classification import Classification
from bluestab.tasks.label_names import names_problem
from bluestab.tasks.multi_label import LabelSets
from bluestab.tasks.own import (
    READING,
    ROW_FORMATS,
    OwnFiles,
    describe,
    noted,
)
from bluestab.tasks.own_labels import (
    check_alike,
    check_several,
    check_single,
    label_of,
    labels_in,
    meant,
    missing_in,
)
from bluestab.tasks.pair_regression import PairRegression
from bluestab.tasks.question_answering import QuestionAnswering


@dataclass(frozen=True, kw_only=True)
class OwnTexts(OwnFiles, ABC):
    """Rows of a table: which column is what is said, or told from the columns' names."""

    formats: ClassVar[tuple[str, ...]] = ROW_FORMATS
    pair: ClassVar[bool] = False

    @abstractmethod
    def targets_in(self, rows: Rows, taken: Sequence[str]) -> tuple[list[Any], str]:
        """The target of each row, and the column (or columns) they are in."""

    def read_all(self, paths: Mapping[Split, Path]) -> Corpus:
        splits: dict[Split, list[Example]] = {}
        said: dict[Split, tuple[Path, list[str]]] = {}
        for split, path in paths.items():
            kind = self.format_of(path)
            rows = self.rows(path, kind, self._given())
            if not rows.rows:
                raise DataError(path, f"holds no items, the {split} split would be empty")
            splits[split], notes = self._examples(rows, kind)
            said[split] = (path, [*rows.notes, *notes])
        self.look_over(paths, splits)
        return Corpus(splits, noted(said))

    def look_over(
        self, paths: Mapping[Split, Path], splits: Mapping[Split, Sequence[Example]]
    ) -> None:
        """Raises DataError for targets that make no task."""

    def _given(self) -> list[Any]:
        label = getattr(self, "label", None)
        several = list(label) if isinstance(label, list | tuple) else [label]
        return [self.id, self.group, self.text, getattr(self, "text_pair", None), *several]  # type: ignore[attr-defined]

    def _examples(self, rows: Rows, kind: str) -> tuple[list[Example], list[str]]:
        first = self.column(rows, "text")
        roles = {"text": first}
        if self.pair:
            roles["text_pair"] = self.column(rows, "text_pair", taken=[first])
        elif self.text is None and (other := find(rows, "text_pair", taken=[first])):  # type: ignore[attr-defined]
            raise DataError(
                rows.path,
                f"has columns {first!r} and {other!r}; to read both say task=pair_classification "
                f"(or pair_regression, question_answering), else task.text={first}",
            )
        targets, roles["label"] = self.targets_in(rows, list(roles.values()))
        if len(set(roles.values())) < len(roles):
            raise DataError(
                rows.path,
                f"column {roles['label']!r} would be read twice: "
                + ", ".join(f"task.{role}={column}" for role, column in roles.items()),
            )
        ids, groups, said = self.names_and_groups(rows, roles)
        one = texts(rows, first, "task.text")
        two = texts(rows, roles["text_pair"], "task.text_pair") if self.pair else [None] * len(one)
        shown = self.images_in(rows, roles)
        examples = [
            Example(name, text, pair, target, group=group, image=image)
            for name, text, pair, target, group, image in zip(
                ids, one, two, targets, groups, shown, strict=True
            )
        ]
        return examples, [describe(rows, kind, roles), *said, *self.remarks(targets)]

    def remarks(self, targets: Sequence[Any]) -> list[str]:
        """Notes about the targets of a file."""
        return []

    def images_in(self, rows: Rows, roles: dict[str, str]) -> Sequence[ImageFile | None]:
        """The image of each row; the column that names them goes to `roles`."""
        return [None] * len(rows.rows)


@dataclass(frozen=True, kw_only=True)
class OwnClassification(OwnTexts, Classification):
    """A text and its class."""

    text: str | int | None  # type: ignore[assignment]
    label: str | int | None  # type: ignore[assignment]
    header: bool | None  # type: ignore[assignment]

    formats: ClassVar[tuple[str, ...]] = ROW_FORMATS
    descriptive: ClassVar[frozenset[str]] = READING

    def targets_in(self, rows: Rows, taken: Sequence[str]) -> tuple[list[Any], str]:
        column = self.column(rows, "label", taken)
        listed = self.label_names or ()
        values = rows.column(column, "task.label")
        return [label_of(rows, i, v, column, listed) for i, v in enumerate(values)], column

    def remarks(self, targets: Sequence[Any]) -> list[str]:
        return missing_in(targets, meant(self.label_names, targets))

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        found = sorted({str(e.target) for e in train})
        return tuple(meant(self.label_names, found) or found)

    def look_over(
        self, paths: Mapping[Split, Path], splits: Mapping[Split, Sequence[Example]]
    ) -> None:
        found = [str(e.target) for examples in splits.values() for e in examples]
        listed = meant(self.label_names, found)
        first = next(iter(paths.values()))
        check_alike(first, found, listed, "label")
        check_single(first, found, listed)
        if "train" not in splits:
            return
        check_several(paths["train"], (str(e.target) for e in splits["train"]), "class")
        n = len({str(e.target) for e in splits["train"]})
        if n > 50 and 2 * n > len(splits["train"]):
            raise DataError(
                paths["train"],
                f"has {n} classes for {len(splits['train'])} items: is task.label the right "
                "column? Numbers are predicted by task=pair_regression",
            )

    def problems(
        self, split: Split, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[str]:
        named = replace(self, positive=meant(self.positive, labels))
        return Classification.problems(named, split, examples, labels)

    def settled(self, labels: Sequence[str], items: Sequence[Example]) -> Task:
        return replace(self, label_names=list(labels), positive=meant(self.positive, labels))


@dataclass(frozen=True, kw_only=True)
class OwnPairClassification(OwnClassification):
    """Two texts and the class of the pair."""

    text_pair: str | int | None

    pair: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class OwnQuestionAnswering(OwnTexts, QuestionAnswering):
    """A question, a passage and one of a few answers; the passage is cut where it is too long."""

    text: str | int | None  # type: ignore[assignment]
    text_pair: str | int | None  # type: ignore[assignment]
    label: str | int | None  # type: ignore[assignment]

    formats: ClassVar[tuple[str, ...]] = ROW_FORMATS
    pair: ClassVar[bool] = True

    targets_in = OwnClassification.targets_in
    labels = OwnClassification.labels
    look_over = OwnClassification.look_over

    def settled(self, labels: Sequence[str], items: Sequence[Example]) -> Task:
        return replace(self, label_names=list(labels))


@dataclass(frozen=True, kw_only=True)
class OwnPairRegression(OwnTexts, PairRegression):
    """Two texts and a number."""

    text: str | int | None  # type: ignore[assignment]
    text_pair: str | int | None  # type: ignore[assignment]
    label: str | int | None  # type: ignore[assignment]
    header: bool | None  # type: ignore[assignment]

    formats: ClassVar[tuple[str, ...]] = ROW_FORMATS
    pair: ClassVar[bool] = True

    def targets_in(self, rows: Rows, taken: Sequence[str]) -> tuple[list[Any], str]:
        column = self.column(rows, "label", taken)
        values = rows.column(column, "task.label")
        return [_number(rows, i, value, column) for i, value in enumerate(values)], column

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        return ("score",)

    def look_over(
        self, paths: Mapping[Split, Path], splits: Mapping[Split, Sequence[Example]]
    ) -> None:
        if "train" not in splits:
            return
        for split, examples in splits.items():
            if len({e.target for e in examples}) == 1:
                raise DataError(
                    paths[split],
                    f"holds one score only, {examples[0].target}: nothing could be told apart",
                )


def _number(rows: Rows, i: int, value: object, column: str) -> float:
    if is_empty(value):
        raise rows.empty(i, column, "task.label")
    said = value.strip() if isinstance(value, str) else value
    try:
        if isinstance(said, bool) or not isinstance(said, str | int | float):
            raise ValueError
        number = float(said)
    except (ValueError, OverflowError):
        hint = ""
        if isinstance(said, str) and said.count(",") == 1 and said.replace(",", "").isdecimal():
            hint = "; a decimal point is a point"
        raise rows.fail(i, f"{column} (task.label) is {short(value)}, no number{hint}") from None
    if not math.isfinite(number):
        raise rows.fail(i, f"{column} (task.label) is {short(value)}, no finite number")
    return number


@dataclass(frozen=True, kw_only=True)
class OwnMultiLabel(OwnTexts, LabelSets):
    """A text and any number of labels.

    `label` is a column with a list, or with names between `label_separator`; or a list of columns,
    one per label, each with 0 or 1. No label at all is an empty cell.
    """

    text: str | int | None
    label: str | int | Sequence[str | int] | None
    label_separator: str | None
    label_names: Sequence[str] | None  # type: ignore[assignment]

    formats: ClassVar[tuple[str, ...]] = ROW_FORMATS
    descriptive: ClassVar[frozenset[str]] = READING | {"label_separator"}
    columns: ClassVar[tuple[str, ...]] = ("id", "group", "text")

    def check(self) -> list[str]:
        problems = super().check() + names_problem("task.label_names", self.label_names, null=True)
        label = self.label
        columns: list[Any] = [0, 0 if label is None else label]
        if isinstance(label, list | tuple):
            columns = list(label)
        if len(columns) < 2 or any(
            isinstance(one, bool) or not isinstance(one, str | int) for one in columns
        ):
            problems.append(
                f"task.label is {label!r}: expected a column, or a list of at least two columns, "
                "one per label"
            )
        separator = self.label_separator
        if separator is not None and (not isinstance(separator, str) or not separator):
            problems.append(
                f"task.label_separator is {separator!r}: expected the text between two labels, "
                "such as ';', or null to tell it from the file"
            )
        return problems

    def targets_in(self, rows: Rows, taken: Sequence[str]) -> tuple[list[Any], str]:
        if isinstance(self.label, list | tuple):
            return self._flags(rows, self.label), ", ".join(map(str, self.label))
        column = self.column(rows, "label", taken)
        values = rows.column(column, "task.label")
        separator = self.label_separator or _separator(rows, values)
        found = []
        for i, value in enumerate(values):
            names = _names(rows, i, value, column, separator, self.label_names or ())
            if len(set(names)) < len(names):
                raise rows.fail(i, f"{column} (task.label) names a label twice: {short(value)}")
            found.append(tuple(sorted(names)))
        return found, column

    def _flags(self, rows: Rows, columns: Sequence[str | int]) -> list[tuple[str, ...]]:
        names = [rows.columns[rows.index(column, "task.label")] for column in columns]
        found: list[list[str]] = [[] for _ in rows.rows]
        for column, name in zip(columns, names, strict=True):
            for i, value in enumerate(rows.column(column, "task.label")):
                said = str(value).strip().lower()
                if said not in ("0", "1", "0.0", "1.0", "true", "false"):
                    raise rows.fail(i, f"{name} (task.label) is {short(value)}, neither 0 nor 1")
                if said in ("1", "1.0", "true"):
                    found[i].append(name)
        return [tuple(sorted(labels)) for labels in found]

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        found = sorted({str(name) for e in train for name in e.target})  # type: ignore[union-attr]
        return tuple(meant(self.label_names, found) or found)

    def look_over(
        self, paths: Mapping[Split, Path], splits: Mapping[Split, Sequence[Example]]
    ) -> None:
        found = [str(n) for examples in splits.values() for e in examples for n in e.target]  # type: ignore[union-attr]
        if "train" in splits and not any(e.target for e in splits["train"]):
            raise DataError(paths["train"], "no item has a label: is task.label the right column?")
        first = next(iter(paths.values()))
        check_alike(first, found, meant(self.label_names, found), "label")

    def settled(self, labels: Sequence[str], items: Sequence[Example]) -> Task:
        return replace(self, label_names=list(labels))


def _separator(rows: Rows, values: Sequence[Any]) -> str:
    """What stands between two labels of a cell. Raises DataError if several could."""
    cells = [v for v in values if isinstance(v, str) and not v.strip().startswith("[")]
    found = [sign for sign in ("|", ";", ",") if any(sign in cell for cell in cells)]
    if len(found) > 1:
        said = " and ".join(map(repr, found))
        raise DataError(
            rows.path, f"{said} both occur in labels: say which divides them, task.label_separator="
        )
    return found[0] if found else ","


def _names(
    rows: Rows, i: int, value: Any, column: str, separator: str, listed: Sequence[object]
) -> list[str]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if (several := labels_in(value)) is not None:
        return [label_of(rows, i, one, column, listed) for one in several]
    if isinstance(value, str) and value.strip().startswith("["):
        raise rows.fail(i, f"{column} (task.label) is {short(value)}, no list")
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(separator)]
        if not value.strip() or (value.strip().casefold() == "nan" and "nan" not in listed):
            return []
        if not all(parts):
            raise rows.fail(
                i, f"{column} (task.label) is {short(value)}: nothing between two {separator!r}"
            )
        return parts
    return [label_of(rows, i, value, column, listed)]

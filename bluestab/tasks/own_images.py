"""Own files with a question, an image and an answer per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.types import Example, ImageFile, Split
from bluestab.data.formats.base import Rows, as_text
from bluestab.data.formats.columns import find, texts
from bluestab.tasks.base import Corpus, Task
from bluestab.tasks.own import READING, ROW_FORMATS
from bluestab.tasks.own_labels import check_several
from bluestab.tasks.own_texts import OwnTexts
from bluestab.tasks.visual_question_answering import SeesImages, target_of


@dataclass(frozen=True, kw_only=True)
class OwnVisualQuestionAnswering(OwnTexts, SeesImages):
    """A question, the name of an image's file and an answer; rows with one image stay together."""

    text: str | int | None  # type: ignore[assignment]
    label: str | int | None  # type: ignore[assignment]
    header: bool | None

    formats: ClassVar[tuple[str, ...]] = ROW_FORMATS
    descriptive: ClassVar[frozenset[str]] = READING | {"image", "images", "answer_type"}
    columns: ClassVar[tuple[str, ...]] = ("id", "group", "text", "label", "image", "answer_type")

    def targets_in(self, rows: Rows, taken: Sequence[str]) -> tuple[list[Any], str]:
        column = self.column(rows, "label", taken)
        answers = texts(rows, column, "task.label")
        kinds: Sequence[str | None] = [None] * len(answers)
        if (kind := self._kind(rows)) is not None:
            kinds = [as_text(value) for value in rows.column(kind, "task.answer_type")]
        return [
            target_of(answer, kind) for answer, kind in zip(answers, kinds, strict=True)
        ], column

    def _kind(self, rows: Rows) -> str | None:
        """The column that says which questions are closed, if there is one."""
        if self.answer_type is not None:
            return rows.columns[rows.index(self.answer_type, "task.answer_type")]
        return find(rows, "answer_type", taken=())

    def images_in(self, rows: Rows, roles: dict[str, str]) -> Sequence[ImageFile | None]:
        if (kind := self._kind(rows)) is not None:
            roles["answer_type"] = kind
        roles["image"] = self.column(rows, "image", list(roles.values()))
        names = texts(rows, roles["image"], "task.image")
        return [
            self.image_of(name, rows.path, line)
            for name, line in zip(names, rows.lines, strict=True)
        ]

    def look_over(
        self, paths: Mapping[Split, Path], splits: Mapping[Split, Sequence[Example]]
    ) -> None:
        if "train" in splits:
            check_several(paths["train"], (str(e.target) for e in splits["train"]), "answer")

    def read_all(self, paths: Mapping[Split, Path]) -> Corpus:
        corpus = super().read_all(paths)
        found = {split: [_grouped(e) for e in items] for split, items in corpus.splits.items()}
        return self.finished(found, corpus.notes)

    def settled(self, labels: Sequence[str], items: Sequence[Example]) -> Task:
        return replace(self, label_names=list(labels))


def _grouped(e: Example) -> Example:
    """With its image as what it belongs to, unless the file says otherwise."""
    if e.group is not None or e.image is None:
        return e
    return replace(e, group=e.image.sha256)

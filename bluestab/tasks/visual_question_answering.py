"""Visual question answering: a question about an image, and an answer out of those of training.

The usual protocol for small medical sets: the answers that occur in training are the classes, and
a test question whose answer is none of them cannot be answered right. Closed questions name their
possible answers (yes or no, left or right), open ones do not.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.errors import DataError
from bluestab.core.paths import expanded
from bluestab.core.types import IGNORED, Example, ImageFile, Split
from bluestab.data.images import image_file, others
from bluestab.data.readers import read_json
from bluestab.tasks.base import Corpus, Scores
from bluestab.tasks.classification import OneClass, numbered
from bluestab.tasks.metric import VISUAL_ANSWERS, Compared, Metric

IMAGES_OF = ("own", "other")
YES_NO = ("yes", "no")


class ClosedAnswer(str):
    """The answer to a closed question: the same text, and scored with its kind."""

    __slots__ = ()


def normalised(answer: object) -> str:
    """An answer as it is compared: small letters, single blanks, no full stop at its end."""
    plain = unicodedata.normalize("NFKC", str(answer))
    return " ".join(plain.casefold().split()).rstrip(" .")


def target_of(answer: object, kind: object) -> str:
    """An answer with its kind.

    kind  what the file says of the question, closed or open; None: yes and no are closed
    """
    plain = normalised(answer)
    closed = plain in YES_NO if kind is None else normalised(kind) == "closed"
    return ClosedAnswer(plain) if closed else plain


@dataclass(frozen=True, kw_only=True)
class SeesImages(OneClass):
    """What tasks share whose items are a question and an image.

    image        column (or field) with the name of the file
    images       folder with these files, from the folder of the file that names them
    images_of    own; or other: each item is shown the image of another, drawn by its id
    answer_type  column that says which questions are closed
    """

    image: str | int | None
    images: str
    images_of: str
    answer_type: str | int | None

    metrics: ClassVar[Mapping[str, Metric]] = VISUAL_ANSWERS
    extras: ClassVar[tuple[str, ...]] = ()
    shows_images: ClassVar[bool] = True

    def check(self) -> list[str]:
        problems = super().check()
        if self.images_of not in IMAGES_OF:
            problems.append(
                f"task.images_of is {self.images_of!r}: expected own, or other (the image of "
                "another item: what the questions alone tell)"
            )
        if not isinstance(self.images, str) or not self.images.strip():
            problems.append(
                f"task.images is {self.images!r}: expected the folder with the images, such as "
                "images; . is that of the file which names them"
            )
        return problems

    def image_of(self, name: str, path: Path, line: int | None) -> ImageFile:
        """The file that a row names, checked."""
        return image_file(path.parent / expanded(self.images), name, path, line)

    def finished(self, found: Mapping[Split, list[Example]], notes: tuple[str, ...]) -> Corpus:
        """With other images where these are asked for, and what is to be said of the answers."""
        train, test = found.get("train", []), found.get("test", [])
        known = {str(e.target) for e in train}
        strange = sum(str(e.target) not in known for e in test)
        if known and strange:
            notes += (
                f"{strange} of {len(test)} test questions have an answer that no training item "
                "has: nothing that is predicted can be right there",
            )
        seen = {e.image for e in train}
        if seen and (again := sum(e.image in seen for e in test)):
            notes += (
                f"{again} of {len(test)} test questions are about an image that training shows, "
                "too: test scores say little of images that are new",
            )
        if self.images_of == "other":
            found = {split: _with_others(examples) for split, examples in found.items()}
            notes += ("task.images_of=other: every item is shown the image of another one",)
        return Corpus(dict(found), notes)

    def strata(self, examples: Sequence[Example]) -> list[Hashable]:
        return [e.target if e.target in YES_NO else type(e.target).__name__ for e in examples]

    def problems(
        self, split: Split, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[str]:
        """Answers that training does not have are none: they are scored as wrong."""
        return super().problems(split, examples, labels) if split == "train" else []

    def targets(self, examples: Sequence[Example], labels: Sequence[str]) -> list[int]:
        index = {label: i for i, label in enumerate(labels)}
        return [index.get(str(e.target), IGNORED) for e in examples]

    def calibration(self, logits: Any, targets: Any, labels: Any) -> Scores:
        return {}

    def compared(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Compared:
        predicted, gold, index = numbered(predictions, targets, ())
        closed = [isinstance(target, ClosedAnswer) for target in targets]
        return Compared(predicted, gold, n_classes=len(index), closed=closed)

    def constants(
        self, labels: Sequence[str], items: Sequence[Example]
    ) -> Mapping[str, Sequence[Any]]:
        met = {str(e.target) for e in items}
        return {f"always '{name}'": [name] * len(items) for name in labels if name in met}


def _with_others(examples: Sequence[Example]) -> list[Example]:
    files = [e.image for e in examples if e.image is not None]
    shown = others(files, [e.id for e in examples])
    return [replace(e, image=file) for e, file in zip(examples, shown, strict=True)]


@dataclass(frozen=True, kw_only=True)
class VisualQuestionAnswering(SeesImages):
    """Questions about images in one JSON file, as VQA-RAD has them.

    part  field that says what an item is for: test, if its value begins so, else training
    """

    part: str

    formats: ClassVar[tuple[str, ...]] = ("json",)

    def read_all(self, paths: Mapping[Split, Path]) -> Corpus:
        found = {
            split: [e for e, part in self._items(path) if (part == "test") == (split == "test")]
            for split, path in paths.items()
        }
        return self.finished(found, ())

    def read(self, path: Path) -> list[Example]:
        """Those for test."""
        return self.read_all({"test": path}).splits["test"]

    def _items(self, path: Path) -> list[tuple[Example, str]]:
        """Each item, and whether it is for test or train."""
        table = read_json(path)
        names = ("id", "text", "label", "image", "answer_type", "part")
        columns = [table.column(getattr(self, knob), f"task.{knob}") for knob in names]
        table.ids(self.id, "task.id")
        found = []
        for row in zip(*columns, table.lines, strict=True):
            identifier, question, answer, image, kind, part, line = row
            if not question.strip() or not normalised(answer):
                raise DataError(path, f"question or answer of {identifier!r} is empty", line)
            example = Example(
                identifier,
                question,
                None,
                target_of(answer, kind),
                group=image,
                image=self.image_of(image, path, line),
            )
            found.append((example, "test" if part.startswith("test") else "train"))
        return found

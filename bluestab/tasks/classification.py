"""Classification: one class per text."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import DataError, did_you_mean
from bluestab.core.types import Example, Split
from bluestab.data.readers import read_table
from bluestab.tasks import calibration
from bluestab.tasks.base import Scores
from bluestab.tasks.label_names import label_problems, names_problem
from bluestab.tasks.metric import CLASSES, Compared, Metric
from bluestab.tasks.outputs import ONE_LABEL, Output
from bluestab.tasks.whole_text import WholeText

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, kw_only=True)
class OneClass(WholeText, ABC):
    """What all tasks share whose items have one class each, whatever the input is."""

    id: str | int | None
    text: str | int
    label: str | int
    label_names: Sequence[str] | None

    output: ClassVar[Output] = ONE_LABEL
    extras: ClassVar[tuple[str, ...]] = ("ece", "brier")

    def check(self) -> list[str]:
        return super().check() + names_problem("task.label_names", self.label_names, null=True)

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        if self.label_names is not None:
            return tuple(str(name) for name in self.label_names)
        return tuple(sorted({str(e.target) for e in train}))

    def problems(
        self, split: Split, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[str]:
        found = ((str(e.target), e.id) for e in examples)
        return label_problems(split, found, labels, needed=labels)

    def targets(self, examples: Sequence[Example], labels: Sequence[str]) -> list[int]:
        index = {label: i for i, label in enumerate(labels)}
        return [index[str(e.target)] for e in examples]

    def loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Cross-entropy, mean over the batch."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, batch["labels"])

    def decode(
        self, logits: np.ndarray, rows: Sequence[int], example: Example, labels: Sequence[str]
    ) -> str:
        return labels[int(logits[0].argmax())]

    def calibration(
        self, logits: Sequence[np.ndarray], targets: Sequence[Any], labels: Sequence[str]
    ) -> Scores:
        import numpy as np

        index = {label: i for i, label in enumerate(labels)}
        stacked = np.stack([item[0] for item in logits]).astype(np.float64)
        powers = np.exp(stacked - stacked.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        gold = [index[str(target)] for target in targets]
        if not np.isfinite(probabilities).all():
            return dict.fromkeys(self.extras)
        return {
            "ece": calibration.ece(probabilities, gold),
            "brier": calibration.brier(probabilities, gold),
        }

    def constants(
        self, labels: Sequence[str], items: Sequence[Example]
    ) -> Mapping[str, Sequence[Any]]:
        return {f"always '{label}'": [label] * len(items) for label in labels}


def numbered(
    predictions: Sequence[str], targets: Sequence[str], known: Iterable[object]
) -> tuple[list[int], list[int], dict[str, int]]:
    """Predicted and true classes as numbers, and the number of each class, `known` ones included:
    the number of classes must not depend on what one seed happens to predict."""
    names = sorted({*map(str, known), *targets, *predictions})
    index = {name: i for i, name in enumerate(names)}
    return [index[p] for p in predictions], [index[t] for t in targets], index


@dataclass(frozen=True, kw_only=True)
class Classification(OneClass):
    """A text and a class name.

    `positive_f1` is micro F1 over the `positive` classes only (BLURB's F1 for relations).
    """

    header: bool
    positive: Sequence[str] | None

    formats: ClassVar[tuple[str, ...]] = ("tsv",)
    metrics: ClassVar[Mapping[str, Metric]] = CLASSES

    def check(self) -> list[str]:
        problems = super().check()
        if self.positive is None and self.metric != "positive_f1":
            return problems
        return problems + names_problem("task.positive", self.positive, null=False)

    def read(self, path: Path) -> list[Example]:
        table = read_table(path, header=self.header)
        texts = table.column(self.text, "task.text")
        labels = table.column(self.label, "task.label")
        ids = table.ids(self.id, "task.id")
        for text, label, line in zip(texts, labels, table.lines, strict=True):
            if not text.strip() or not label.strip():
                raise DataError(path, "the text or the label is empty", line)
        return [
            Example(i, text, None, label.strip())
            for i, text, label in zip(ids, texts, labels, strict=True)
        ]

    def problems(
        self, split: Split, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[str]:
        problems = super().problems(split, examples, labels)
        if split == "train":
            problems += [
                f"task.positive names '{name}'" + did_you_mean(name, labels)
                for name in map(str, self.positive or ())
                if name not in labels
            ]
        return problems

    def compared(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Compared:
        known = (*(self.label_names or ()), *(self.positive or ()))
        predicted, gold, index = numbered(predictions, targets, known)
        positive = [index[str(name)] for name in self.positive or ()]
        return Compared(predicted, gold, n_classes=len(index), positive=positive)

"""Classification: one class per text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bluestab import scoring
from bluestab.errors import DataError, did_you_mean
from bluestab.tasks.base import (
    Encoded,
    Scores,
    Task,
    names_problem,
    tokenise,
    whole_text_columns,
)
from bluestab.tasks.readers import read_table
from bluestab.types import Example, Split

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """A text and a class name.

    `positive_f1` is micro F1 over the `positive` classes only (BLURB's F1 for relations).
    """

    header: bool
    id: str | int | None
    text: str | int
    label: str | int
    label_names: Sequence[str] | None
    positive: Sequence[str]

    formats: ClassVar[tuple[str, ...]] = ("tsv",)
    head: ClassVar[Literal["sequence", "token"]] = "sequence"
    metrics: ClassVar[tuple[str, ...]] = ("positive_f1", "accuracy", "macro_f1")

    def check(self) -> list[str]:
        problems = super().check()
        problems += names_problem("task.label_names", self.label_names, null=True)
        problems += names_problem("task.positive", self.positive, null=False)
        return problems

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

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        if self.label_names is not None:
            return tuple(str(name) for name in self.label_names)
        return tuple(sorted({str(e.target) for e in train}))

    def problems(
        self, split: Split, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[str]:
        unseen: dict[str, str] = {}
        for example in examples:
            if example.target not in labels:
                unseen.setdefault(str(example.target), example.id)
        problems = [
            f"label '{label}' (item {where}) is not among the task's labels {list(labels)}"
            for label, where in unseen.items()
        ]
        if split == "train":
            problems += [
                f"task.positive names '{name}'" + did_you_mean(name, labels)
                for name in map(str, self.positive)
                if name not in labels
            ]
        return problems

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> Encoded:
        index = {label: i for i, label in enumerate(labels)}
        encoding, truncated = tokenise(
            tokenizer, [e.text for e in examples], None, max_length=self.max_length
        )
        return whole_text_columns(encoding, [index[str(e.target)] for e in examples], truncated)

    def loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Cross-entropy, mean over the batch."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, batch["labels"])

    def decode(
        self, logits: np.ndarray, rows: Sequence[int], example: Example, labels: Sequence[str]
    ) -> str:
        return labels[int(logits[0].argmax())]

    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Scores:
        names = sorted({*targets, *predictions})
        index = {name: i for i, name in enumerate(names)}
        predicted = [index[p] for p in predictions]
        gold = [index[t] for t in targets]
        positive = [index[name] for name in map(str, self.positive) if name in index]
        return {
            "positive_f1": scoring.positive_f1(predicted, gold, positive),
            "accuracy": scoring.accuracy(predicted, gold),
            "macro_f1": scoring.macro_f1(predicted, gold, len(names)),
        }

"""Pair regression: one number per pair of texts, such as a similarity judged by annotators."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import DataError
from bluestab.core.types import Example
from bluestab.data.readers import read_table
from bluestab.data.stratify import bins
from bluestab.tasks.metric import NUMBERS, Metric
from bluestab.tasks.outputs import NUMBER, Output
from bluestab.tasks.whole_text import WholeText

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, kw_only=True)
class PairRegression(WholeText):
    """Two texts and a number; `pearson` and `spearman` are undefined for a constant prediction."""

    header: bool
    id: str | int | None
    text: str | int
    text_pair: str | int
    label: str | int

    formats: ClassVar[tuple[str, ...]] = ("tsv",)
    pair: ClassVar[bool] = True
    output: ClassVar[Output] = NUMBER
    metrics: ClassVar[Mapping[str, Metric]] = NUMBERS

    def read(self, path: Path) -> list[Example]:
        table = read_table(path, header=self.header)
        first = table.column(self.text, "task.text")
        second = table.column(self.text_pair, "task.text_pair")
        labels = table.column(self.label, "task.label")
        ids = table.ids(self.id, "task.id")
        examples = []
        for row in zip(ids, first, second, labels, table.lines, strict=True):
            identifier, text, text_pair, label, line = row
            if not text.strip() or not text_pair.strip():
                raise DataError(path, "one of the two texts is empty", line)
            try:
                value = float(label)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise DataError(path, f"the score {label!r} is not a number", line)
            examples.append(Example(identifier, text, text_pair, value))
        return examples

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        return (str(self.label),)

    def strata(self, examples: Sequence[Example]) -> list[Hashable]:
        return list(bins([float(e.target) for e in examples]))  # type: ignore[arg-type]

    def targets(self, examples: Sequence[Example], labels: Sequence[str]) -> list[Any]:
        return [float(e.target) for e in examples]  # type: ignore[arg-type]

    def loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Squared error, mean over the batch."""
        from torch.nn.functional import mse_loss

        return mse_loss(logits.squeeze(-1), batch["labels"])

    def decode(
        self, logits: np.ndarray, rows: Sequence[int], example: Example, labels: Sequence[str]
    ) -> float:
        return float(logits[0, 0])

    def constants(
        self, labels: Sequence[str], items: Sequence[Example]
    ) -> Mapping[str, Sequence[Any]]:
        """Mean and median of the targets: what has the least squared and the least absolute error.
        No correlation is defined for them."""
        targets = [float(e.target) for e in items]  # type: ignore[arg-type]
        return {
            f"always {number:.4g}, their {name}": [number] * len(items)
            for name, number in (
                ("mean", statistics.fmean(targets)),
                ("median", statistics.median(targets)),
            )
        }

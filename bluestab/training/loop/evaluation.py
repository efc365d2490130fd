"""Logits by row of a tokenised split -> logits, predictions and scores of its items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchmetrics import Metric

from bluestab.core.types import IGNORED, Example
from bluestab.tasks.base import Scores
from bluestab.tasks.data import TaskData

if TYPE_CHECKING:
    from datasets import Dataset


class ItemLogits(Metric):
    """Logits of every row of a tokenised split, gathered over batches and devices.

    A shell around the pure functions of `tasks/scoring.py`: it collects, they compute. An item
    that arrives twice (padding of a distributed sampler) counts once.
    """

    full_state_update = False
    items: list[torch.Tensor]
    lengths: list[torch.Tensor]
    values: list[torch.Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("items", "lengths", "values"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, logits: torch.Tensor, labels: torch.Tensor, items: torch.Tensor) -> None:
        """logits (B, C) or (B, T, C); labels (B,) or (B, T) with -100 where nothing counts."""
        if logits.ndim == 3:
            counts = labels != IGNORED
            self.lengths.append(counts.sum(dim=1))  # (B,)
            self.values.append(logits[counts])  # (words of the batch, C)
        else:
            self.lengths.append(torch.ones_like(items))
            self.values.append(logits)  # (B, C)
        self.items.append(items)

    def compute(self) -> dict[int, np.ndarray]:
        """Row of the tokenised split -> its logits (words, C), float32: of words that its labels
        count, or one for the whole text."""

        def joined(parts: Any) -> torch.Tensor:
            return torch.cat(list(parts)) if isinstance(parts, list) else parts

        values = joined(self.values).float().cpu().numpy()  # (all words, C)
        ends = np.cumsum(joined(self.lengths).cpu().numpy())  # (rows,), as are starts
        starts = np.concatenate([[0], ends[:-1]])
        items = joined(self.items).cpu().tolist()
        return {item: values[a:b] for item, a, b in zip(items, starts, ends, strict=True)}


Evaluator = Callable[[Mapping[int, np.ndarray]], tuple[list[np.ndarray], list[Any], Scores]]
"""Logits by row of the tokenised split -> logits and prediction of each item, scores."""


def make_evaluator(data: TaskData, examples: Sequence[Example], table: Dataset) -> Evaluator:
    """The evaluator of a split: logits (words, C) by row of `table` -> for each item of `examples`
    logits (words, C) and a prediction, and the scores of all.

    A long item has several rows; their words are those that `Encoded.rows` names. Rows of items
    beyond `examples` are candidates (`Task.candidates`): an item's logits are then what
    `Task.ranked` makes of its vector and theirs. Raises RuntimeError, when it is called, if a row
    has no logits.
    """
    task, targets = data.task, [e.target for e in examples]
    rows_of: list[list[int]] = [[] for _ in examples]  # item -> rows of the table
    parts_of: list[list[int]] = [[] for _ in examples]  # item -> its words, in order
    candidates: list[int] = []  # rows of the table
    for row, (example, parts) in enumerate(zip(table["example"], table["rows"], strict=True)):
        if example >= len(examples):
            candidates.append(row)
            continue
        rows_of[example].append(row)
        parts_of[example] += parts

    def score(by_row: Mapping[int, np.ndarray]) -> tuple[list[np.ndarray], list[Any], Scores]:
        missing = set(range(len(table))) - by_row.keys()
        if missing:
            raise RuntimeError(f"{len(missing)} rows were not evaluated, e.g. {min(missing)}")
        # item -> (words, C)
        logits = [np.concatenate([by_row[row] for row in own]) for own in rows_of]
        if candidates:
            names = np.concatenate([by_row[row] for row in candidates])  # (N, D)
            logits = task.ranked(logits, names, data.labels)
        predictions = [
            task.decode(logits[i], parts_of[i], example, data.labels)
            for i, example in enumerate(examples)
        ]
        scores = task.score(predictions, targets) | task.calibration(logits, targets, data.labels)
        return logits, predictions, scores

    return score

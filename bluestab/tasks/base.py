"""The contract of a task, and all that its kinds share.

A task kind (this class's children) is shared by many yamls; a yaml adds files, labels, the metric
and the bound below which a run counts as failed. The order in which the methods are called:
`read` per split, `problems`, `labels`, `encode` per split, `loss` per step, `decode` per item,
`score` per split.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bluestab.errors import did_you_mean
from bluestab.types import SPLITS, Example, Split

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast

Scores = dict[str, "float | None"]
Encoded = dict[str, list[Any]]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Fields every task yaml has; the yaml's comments explain them to the person who sets them."""

    name: str
    data_dir: str | None
    train: str
    validation: str
    test: str
    sha256: Mapping[str, str | None]
    fetch: Mapping[str, Any] | None
    format: str
    train_size: int | None
    validation_size: int | None
    test_size: int | None
    max_length: int
    metric: str
    failure_score: float
    failed_below: float
    about: Mapping[str, Any]
    recipe: Mapping[str, Any]

    formats: ClassVar[tuple[str, ...]]
    head: ClassVar[Literal["sequence", "token"]]
    metrics: ClassVar[tuple[str, ...]]

    def check(self) -> list[str]:
        """Problems of the yaml itself, one sentence each, before any file is opened."""
        problems = []
        if self.metric not in self.metrics:
            problems.append(
                f"task.metric is '{self.metric}', which {type(self).__name__} does not compute"
                + did_you_mean(self.metric, self.metrics)
            )
        if not isinstance(self.sha256, Mapping) or set(self.sha256) != set(SPLITS):
            problems.append(
                f"task.sha256 is {self.sha256!r}: expected train, validation and test, each the "
                "hash of the file, or null to accept any"
            )
        if self.format not in self.formats:
            problems.append(
                f"task.format is {self.format!r}" + did_you_mean(self.format, self.formats)
            )
        for split in SPLITS:
            size = getattr(self, f"{split}_size")
            if size is not None and (not _is_int(size) or size < 1):
                problems.append(
                    f"task.{split}_size is {size!r}: expected a number of items >= 1, or null"
                )
        if not _is_int(self.max_length) or self.max_length < 3:
            problems.append(f"task.max_length is {self.max_length!r}: expected an integer >= 3")
        for knob in ("failure_score", "failed_below"):
            value = getattr(self, knob)
            if not isinstance(value, int | float) or not math.isfinite(value):
                problems.append(f"task.{knob} is {value!r}: expected a number")
        return problems

    @abstractmethod
    def read(self, path: Path) -> list[Example]:
        """All items of one file. Raises DataError with the line that cannot be understood."""

    @abstractmethod
    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        """Names of the outputs, in the order of the logits."""

    def problems(
        self, split: Split, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[str]:
        """What makes this split unusable, e.g. a label the training part never shows."""
        return []

    @abstractmethod
    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> Encoded:
        """Columns `input_ids`, `labels`, `rows`, `truncated` and what else the model takes.

        `rows` lists, per item, which of its units (word, or 0 for the whole text) the rows of its
        logits stand for; units that are missing got cut off.
        """

    @abstractmethod
    def loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Scalar training loss of a batch; logits are float32."""

    @abstractmethod
    def decode(
        self, logits: np.ndarray, rows: Sequence[int], example: Example, labels: Sequence[str]
    ) -> Any:
        """Prediction for one item from logits (len(rows), n_labels), in the form of its target."""

    @abstractmethod
    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Scores:
        """Every metric in `metrics`; None where it is undefined."""

    def is_degenerate(self, score: float | None) -> bool:
        """No better than a model that ignores its input, by the bound in the yaml."""
        return score is None or score <= self.failed_below


def names_problem(knob: str, value: object, *, null: bool) -> list[str]:
    """A sentence if `value` is no list of names."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if (value is None and null) or (is_list and value):
        return []
    return [f"{knob} is {value!r}: expected a list of names" + (", or null" if null else "")]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def tokenise(
    tokenizer: PreTrainedTokenizerFast,
    first: Sequence[Any],
    second: Sequence[str] | None,
    *,
    max_length: int,
    words: bool = False,
) -> tuple[Any, list[bool]]:
    """Word pieces of each item, cut at `max_length`, and whether anything was cut.

    Pairs are cut from the longer side first. Nothing is padded here: batches are padded to their
    own longest item.
    """
    encoding = tokenizer(
        list(first),
        None if second is None else list(second),
        is_split_into_words=words,
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
    )
    return encoding, [bool(encoding[i].overflowing) for i in range(len(encoding["input_ids"]))]


def whole_text_columns(
    encoding: Mapping[str, list[list[int]]], targets: Sequence[Any], truncated: Sequence[bool]
) -> Encoded:
    """Columns of a task with one prediction per item."""
    columns: Encoded = {name: list(values) for name, values in encoding.items()}
    columns["labels"] = list(targets)
    columns["rows"] = [[0]] * len(targets)
    columns["truncated"] = list(truncated)
    return columns

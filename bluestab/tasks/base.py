"""The contract of a task, and all that its kinds share.

A task kind (this class's children) is shared by many yamls; a yaml adds files, labels, the metric
and the bound below which a run counts as failed. The order in which the methods are called:
`read` per split, `problems`, `labels`, `encode` per split, `loss` per step, `decode` per item,
`score` and `calibration` per split.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import did_you_mean
from bluestab.core.types import SPLITS, Corruption, Example, Split
from bluestab.tasks.encoded import Encoded
from bluestab.tasks.metric import Compared, Metric
from bluestab.tasks.outputs import Output
from bluestab.tasks.shots import shots_problems

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast

Scores = dict[str, "float | None"]

MOST_FOLDS = 10_000
GROUPINGS = ("text", "shared", "document")
"""What items stay together where parts are drawn or folded: those with one document or equal text;
with any text in common, see `tasks.shared_texts`; with one document, where it is known, else with
equal text (mentions, which recur in every document, would all be one group of the first kind)."""


@dataclass(frozen=True)
class Corpus:
    """What the files of a task hold.

    notes   sentences: what was recognised, repaired or left out
    """

    splits: Mapping[Split, list[Example]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Fields every task yaml has; the yaml's comments explain them to the person who sets them."""

    name: str
    data_dir: str | None
    train: str
    validation: str | None
    test: str | None
    sha256: Mapping[str, str | None]
    fetch: Mapping[str, Any] | None
    format: str
    train_size: int | float | None
    validation_size: int | float | None
    test_size: int | float | None
    folds: int | None
    fold: int | None
    split_seed: int
    shots: int | None = None
    grouping: str = "text"  # of yamls from before it: their runs keep their parts and keys
    max_length: int
    metric: str
    failure_score: float
    failed_below: float | None
    about: Mapping[str, Any]
    recipe: Mapping[str, Any]

    formats: ClassVar[tuple[str, ...]]
    output: ClassVar[Output]
    """What is predicted, and all that follows from it outside of `tasks/`."""
    metrics: ClassVar[Mapping[str, Metric]]
    extras: ClassVar[tuple[str, ...]] = ()
    """Names of what `calibration` gives: scores that stand in the record and head no table."""
    unit: ClassVar[str] = "characters"
    """What `size` counts, and what is lost beyond `max_length`."""
    pair: ClassVar[bool] = False
    """An item is two texts."""
    windows: ClassVar[bool] = False
    """A long item takes several rows."""
    shows_images: ClassVar[bool] = False
    """Its items have an image."""
    extra_files: ClassVar[tuple[str, ...]] = ()
    """Fields that name files which are no split; what is in them is part of a run's key."""
    own: ClassVar[bool] = False
    """Files of a person, taken from where the command is given, not from a folder of corpora."""
    descriptive: ClassVar[frozenset[str]] = frozenset()
    """Fields that only say how files are read: the key knows the items themselves instead."""

    @property
    def folder(self) -> str:
        """Name of the folder with its files, in the places of `data.locate.folders`."""
        return self.name

    @property
    def headline(self) -> Metric:
        """The metric that `task.metric` names. Raises KeyError for one that `check` refuses."""
        return self.metrics[self.metric]

    def check(self) -> list[str]:
        """Problems of the yaml itself, one sentence each, before any file is opened."""
        problems = []
        kind = type(self).__name__
        if not isinstance(getattr(self, "output", None), Output):
            problems.append(
                f"{kind} does not say what it predicts: give it an `output` of tasks.outputs"
            )
        if self.metric not in self.metrics:
            problems.append(
                f"task.metric is '{self.metric}', which {kind} does not compute"
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
        if not isinstance(self.train, str) or not self.train.strip():
            problems.append(
                f"task.train is {self.train!r}: expected the file (or folder) with the training "
                "items, e.g. task.train=train.csv"
            )
        for split in ("validation", "test"):
            file = getattr(self, split)
            if file is not None and (not isinstance(file, str) or not file.strip()):
                problems.append(f"task.{split} is {file!r}: expected the name of a file, or null")
        for split in SPLITS:
            size = getattr(self, f"{split}_size")
            if not (size is None or _is_size(size)):
                problems.append(
                    f"task.{split}_size is {size!r}: expected a number of items >= 1, a share "
                    "between 0 and 1, or null"
                )
        problems += shots_problems(self.shots, self.train_size, self.output, self.name)
        problems += self._fold_problems()
        if not _is_int(self.max_length) or self.max_length < 3:
            problems.append(f"task.max_length is {self.max_length!r}: expected an integer >= 3")
        for knob, end in (("failure_score", ""), ("failed_below", ", or null")):
            value = getattr(self, knob)
            known = isinstance(value, int | float) and math.isfinite(value)
            if not (known or (value is None and end)):
                problems.append(f"task.{knob} is {value!r}: expected a number{end}")
        return problems

    def _fold_problems(self) -> list[str]:
        problems = []
        if self.grouping not in GROUPINGS:
            problems.append(
                f"task.grouping is {self.grouping!r}" + did_you_mean(str(self.grouping), GROUPINGS)
            )
        if not _is_int(self.split_seed) or self.split_seed < 0:
            problems.append(f"task.split_seed is {self.split_seed!r}: expected a whole number >= 0")
        folds, fold = self.folds, self.fold
        if folds is None and fold is not None:
            problems.append(
                f"task.fold is {fold!r}, but task.folds is null: say how many there are"
            )
        elif folds is not None and (not _is_int(folds) or not 3 <= folds <= MOST_FOLDS):
            problems.append(
                f"task.folds is {folds!r}: expected a number of folds from 3 to {MOST_FOLDS} (one "
                "tests, one validates, the others train), or null"
            )
        elif folds is not None and (not _is_int(fold) or not 0 <= fold < folds):  # type: ignore[operator]
            every = ",".join(map(str, range(folds)))
            problems.append(
                f"task.fold is {fold!r}: expected one of 0 .. {folds - 1}; for all of them, one "
                f"run each: -m task.folds={folds} task.fold={every}"
            )
        return problems

    def look_at(self, path: Path) -> None:  # noqa: B027  # most kinds take no folders
        """Raises DataError for a folder that cannot be data of this kind, before all that is in it
        is read."""

    def read_all(self, paths: Mapping[Split, Path]) -> Corpus:
        """All items of all files. Raises DataError with the line that cannot be understood."""
        return Corpus({split: self.read(path) for split, path in paths.items()})

    def strata(self, examples: Sequence[Example]) -> list[Hashable]:
        """What of each item is to be spread evenly over parts that are drawn."""
        return [e.target if isinstance(e.target, str) else "" for e in examples]

    def settled(self, labels: Sequence[str], items: Sequence[Example]) -> Task:
        """The task once its data are read: what its yaml left open is filled in."""
        return self

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
        """Items as inputs of the model, nothing padded."""

    def corruption(self, tokenizer: PreTrainedTokenizerFast) -> Corruption | None:
        """What is drawn of every batch before the network sees it; None: it is taken as it is."""
        return None

    def preprocess_logits_for_metrics(
        self, logits: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """What `decode` needs of the logits (B, C) or (B, T, C): held for all items of a split."""
        return logits

    def encode_training(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> Encoded:
        """The same with what a loss needs beside it; for most kinds that is nothing."""
        return self.encode(examples, labels, tokenizer)

    def candidates(
        self, labels: Sequence[str], tokenizer: PreTrainedTokenizerFast
    ) -> Encoded | None:
        """Where `Output.searches`: the texts that an answer is looked for among, one per row."""
        return None

    def ranked(
        self, vectors: Sequence[np.ndarray], candidates: np.ndarray, labels: Sequence[str]
    ) -> list[np.ndarray]:
        """Where `Output.searches`: what `decode` takes of each item, from its vector (1, D) and
        those of `candidates` (N, D)."""
        raise NotImplementedError

    @abstractmethod
    def loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Scalar training loss of a batch; logits are float32."""

    @abstractmethod
    def decode(
        self, logits: np.ndarray, rows: Sequence[int], example: Example, labels: Sequence[str]
    ) -> Any:
        """Prediction for one item from logits (len(rows), n_labels), in the form of its target."""

    def compared(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Compared:
        """Predictions beside targets, as the functions of `metrics` take them."""
        return Compared(predictions, targets)

    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Scores:
        """Every metric in `metrics`; None where it is undefined."""
        compared = self.compared(predictions, targets)
        return {name: metric.function(compared) for name, metric in self.metrics.items()}

    def calibration(
        self, logits: Sequence[np.ndarray], targets: Sequence[Any], labels: Sequence[str]
    ) -> Scores:
        """Every name in `extras`, from the logits of each item; None where it is undefined."""
        return {}

    def size(self, example: Example) -> int:
        """How many units an item has that `max_length` may cut off."""
        return len(str(example.text)) + len(example.text_pair or "")

    def constants(
        self, labels: Sequence[str], items: Sequence[Example]
    ) -> Mapping[str, Sequence[Any]]:
        """Name -> predictions for these items that do not look at them."""
        return {}

    def rivals(self, items: Sequence[Example]) -> Mapping[str, Scores]:
        """Name -> scores on these items of what knows their texts and needs no network."""
        return {}

    def baseline(self, labels: Sequence[str], items: Sequence[Example]) -> tuple[str, float] | None:
        """The best `metric` that one and the same answer for every item gets, and that answer.

        None if no such answer has a score. It is chosen knowing the targets, so no model that
        ignores its input can do better.
        """
        targets = [e.target for e in items]
        known = [
            (name, score)
            for name, predictions in self.constants(labels, items).items()
            if (score := self.score(predictions, targets)[self.metric]) is not None
        ]
        return self.headline.best(known, lambda pair: pair[1]) if known else None

    def is_degenerate(self, score: float | None) -> bool:
        """No better than a model that ignores its input, by the bound in the yaml."""
        assert self.failed_below is not None, "null is replaced when the data are loaded"
        return self.headline.fails(score, self.failed_below)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    """A number of items, or a share of them."""
    return 0 < value < 1 if isinstance(value, float) else _is_int(value) and value >= 1  # type: ignore[operator]


def n_items(size: int | float, n: int) -> int:
    """How many of n items a size asks for; a share is rounded, and at least one."""
    return max(1, round(size * n)) if isinstance(size, float) else size

"""The contract of a task, and all that its kinds share.

A task kind (this class's children) is shared by many yamls; a yaml adds files, labels, the metric
and the bound below which a run counts as failed. The order in which the methods are called:
`read` per split, `problems`, `labels`, `encode` per split, `loss` per step, `decode` per item,
`score` and `calibration` per split.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NotRequired, TypedDict

from bluestab.core.errors import did_you_mean
from bluestab.core.types import SPLITS, Corruption, Example, Split
from bluestab.tasks.metric import Compared, Metric
from bluestab.tasks.outputs import Output
from bluestab.tasks.shots import shots_problems

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast

Scores = dict[str, "float | None"]

MOST_FOLDS = 10_000
GROUPINGS = ("text", "shared")
"""What items stay together where parts are drawn or folded: those with one document or equal text,
or with any text in common, see `tasks.shared_texts`."""


class Encoded(TypedDict):
    """Columns of a tokenised split. A row is one input of the model; a long item may take several.

    input_ids       word pieces of the row, (pieces,)
    token_type_ids  which text of a pair each belongs to, (pieces,); where the tokenizer gives it
    labels          what the loss takes: a label's number per piece (-100 where none counts), or of
                    the item a label's number, a number, or a flag per label
    rows            which parts of the item (word, or 0 for the whole text) the rows of its logits
                    stand for
    example         position of the item the row belongs to; every item in order has one at least
    truncated       parts of the item are in no row; said once per item
    lost            how many of the item's units (`Task.size`) that concerns; counted once per item
    image           (3, size, size) uint8, where the model looks at images
    """

    input_ids: list[list[int]]
    token_type_ids: NotRequired[list[list[int]]]
    labels: list[Any]
    rows: list[list[int]]
    example: list[int]
    truncated: list[bool]
    lost: list[int]
    image: NotRequired[list[bytes]]


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
    own: ClassVar[bool] = False
    """Files of a person, taken from where the command is given, not from a folder of corpora."""
    descriptive: ClassVar[frozenset[str]] = frozenset()
    """Fields that only say how files are read: the key knows the items themselves instead."""

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

    def kept_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What `decode` needs of the logits (B, C) or (B, T, C): held for all items of a split."""
        return logits

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


def names_problem(knob: str, value: object, *, null: bool) -> list[str]:
    """A sentence if `value` is no list of names."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if (value is None and null) or (is_list and value):
        return []
    return [f"{knob} is {value!r}: expected a list of names" + (", or null" if null else "")]


def label_problems(
    split: Split,
    found: Iterable[tuple[str, str]],
    labels: Sequence[str],
    *,
    needed: Sequence[str],
    what: str = "label",
    place: str = "item",
) -> list[str]:
    """Sentences about labels the task does not know, and those that training never shows.

    found   (label, name of the item it is at), in order
    needed  labels that the training part must hold
    """
    seen: dict[str, str] = {}
    for label, where in found:
        seen.setdefault(label, where)
    problems = [
        f"{what} '{label}' ({place} {where}) is not among the task's {what}s {list(labels)}"
        for label, where in seen.items()
        if label not in labels
    ]
    if split == "train":
        problems += [
            f"{what} '{label}' of task.label_names never occurs in the training part"
            for label in needed
            if label not in seen
        ]
    return problems


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    """A number of items, or a share of them."""
    return 0 < value < 1 if isinstance(value, float) else _is_int(value) and value >= 1  # type: ignore[operator]


def n_items(size: int | float, n: int) -> int:
    """How many of n items a size asks for; a share is rounded, and at least one."""
    return max(1, round(size * n)) if isinstance(size, float) else size


@dataclass(frozen=True, kw_only=True)
class WholeText(Task, ABC):
    """Tasks with one prediction per item, which is one text or a pair of them."""

    cut: ClassVar[Literal["longest_first", "only_second"]] = "longest_first"
    """Which text of a pair loses what does not fit: the longer one, piece by piece, or the second
    alone."""

    @abstractmethod
    def targets(self, examples: Sequence[Example], labels: Sequence[str]) -> list[Any]:
        """What the loss takes, per item: a class, a number, or a flag per label."""

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> Encoded:
        """Nothing is padded here: batches are padded to their own longest item."""
        texts_of = [[str(e.text) for e in examples]]
        if examples[0].text_pair is not None:
            texts_of.append([str(e.text_pair) for e in examples])
        encoding: Any = tokenizer(
            *texts_of,
            truncation=self.cut,
            max_length=self.max_length,
            padding=False,
            return_attention_mask=False,
        )
        lost = [
            _characters_lost(encoding[i], texts) if encoding[i].overflowing else 0
            for i, texts in enumerate(zip(*texts_of, strict=True))
        ]
        columns: Encoded = Encoded(
            **{name: list(values) for name, values in encoding.items()},  # type: ignore[typeddict-item]
            labels=self.targets(examples, labels),
            rows=[[0]] * len(examples),
            example=list(range(len(examples))),
            truncated=[n > 0 for n in lost],
            lost=lost,
        )
        return columns


def _characters_lost(encoding: Any, texts: Sequence[str]) -> int:
    """Characters after the last piece of each text, white space at its end left out."""
    ends = [0] * len(texts)
    for sequence, (_, end) in zip(encoding.sequence_ids, encoding.offsets, strict=True):
        if sequence is not None:
            ends[sequence] = max(ends[sequence], end)
    return sum(max(0, len(text.rstrip()) - end) for text, end in zip(texts, ends, strict=True))

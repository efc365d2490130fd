"""Task yaml -> checked examples -> word pieces -> batches.

Reading happens once per content and process, tokenising once per content and machine; every run of
a sweep shares them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab import token_cache
from bluestab.caching import Shared
from bluestab.circumstances import versions
from bluestab.errors import ConfigError, DataError
from bluestab.formats.columnar import parts_of
from bluestab.instantiate import instantiate
from bluestab.keys import TASK_DESCRIPTIVE
from bluestab.parts import arrange
from bluestab.passes import PREFIX
from bluestab.seeding import Seeds, generator, subset
from bluestab.sources import how_to_bring, locate, locate_own, sha256_of
from bluestab.tasks.base import Task, n_items
from bluestab.tasks.metric import failure_bounds
from bluestab.types import IGNORED, SPLITS, Example, Split

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from datasets import Dataset
    from torch.utils.data import DataLoader
    from transformers import PreTrainedTokenizerFast

    from bluestab.models import Model

NOT_ENCODED = TASK_DESCRIPTIVE | {
    *("name", "train_size", "validation_size", "test_size", "folds", "fold", "split_seed"),
    *("metric", "failure_score", "failed_below"),
}
"""Fields of a task that its word pieces do not depend on: the items themselves are looked at."""

EVALUATION_SEED = 0  # validation and test items depend on no seed of a run


@dataclass(frozen=True)
class TaskData:
    """A task with all its items, checked."""

    task: Task
    labels: tuple[str, ...]
    splits: Mapping[Split, Sequence[Example]]
    fingerprint: Mapping[str, str]
    notes: tuple[str, ...] = ()
    """Sentences: what was recognised, repaired or left out, and which parts were drawn."""
    drawn: frozenset[Split] = frozenset()
    """Parts that no file gives: they were drawn, with all items they are to have."""

    @cached_property
    def baseline(self) -> tuple[str, float] | None:
        """What one and the same answer for every test item gets at best (`Task.baseline`)."""
        return self.task.baseline(self.labels, self.splits["test"])

    @cached_property
    def recurring(self) -> dict[Split, int]:
        """Items of validation and test whose text is also that of a training item."""
        known = {(e.text, e.text_pair) for e in self.splits["train"]}
        return {
            split: sum((e.text, e.text_pair) in known for e in self.splits[split])
            for split in SPLITS
            if split != "train"
        }

    def select(self, seeds: Seeds) -> dict[Split, list[Example]]:
        """The items a run uses: subsets where the task asks for them, else everything."""
        chosen = {}
        for split, examples in self.splits.items():
            size = self.size(split)
            seed = seeds.split if split == "train" else EVALUATION_SEED
            chosen[split] = (
                list(examples)
                if size == len(examples)
                else subset(examples, [e.id for e in examples], size, seed, f"subset/{split}")
            )
        return chosen

    def size(self, split: Split) -> int:
        """How many items of a split a run uses."""
        n = len(self.splits[split])
        asked = getattr(self.task, f"{split}_size")
        sized = split in self.drawn and self.task.folds is None and split != "train"
        return n if asked is None or sized else n_items(asked, n)


def load_task(node: Mapping[str, Any]) -> TaskData:
    """Read and check all files of a task. Raises ConfigError or DataError."""
    task = instantiate(node, Task, "task")  # type: ignore[type-abstract]
    problems = task.check()
    if problems:
        raise ConfigError(*problems)
    paths = located(task)
    for split, path in paths.items():
        expected = task.sha256.get(split)
        if expected is not None and (found := sha256_of(path)) != expected:
            problems.append(
                f"{path} has sha256 {found[:16]}..., the published file has "
                f"{expected[:16]}...; if you mean to use this file, say task.sha256.{split}=null"
            )
    if problems:
        raise ConfigError(*problems)
    content = (
        json.dumps(node, sort_keys=True),
        tuple(paths.items()),
        tuple(sha256_of(path) for path in paths.values()),
    )
    return _load(Shared(content, task, paths))


def located(task: Task) -> dict[Split, Path]:
    """Where the files of a task are; parts that it names no file for are left out."""
    paths: dict[Split, Path] = {}
    for split in SPLITS:
        file = getattr(task, split)
        if file is None:
            continue
        if task.own:
            paths[split] = locate_own(file, task.data_dir)
        else:
            hint = how_to_bring(file, task.name, task.data_dir, task.fetch, task.about)
            paths[split] = locate(file, task=task.name, data_dir=task.data_dir, hint=hint)
    train = paths["train"]
    if task.own and train.is_dir() and (parts := parts_of(train)):
        if "train" not in parts:
            raise DataError(train, f"holds {', '.join(parts)}, but no part for training")
        return {**parts, **{split: path for split, path in paths.items() if split != "train"}}
    return paths


@lru_cache(maxsize=16)
def _load(shared: Shared) -> TaskData:
    task, paths = shared.values
    corpus = task.read_all(paths)
    for split, examples in corpus.splits.items():
        if not examples:
            raise DataError(paths[split], f"holds no items, the {split} split would be empty")
    parts = arrange(task, corpus.splits)
    labels = task.labels(parts.splits["train"])
    problems = []
    for split in SPLITS:
        path = paths.get(split, paths["train"])
        for sentence in task.problems(split, parts.splits[split], labels):
            problems.append(f"{path}: {sentence}")
        size = getattr(task, f"{split}_size")
        if isinstance(size, int) and size > len(parts.splits[split]) and split not in parts.drawn:
            problems.append(
                f"task.{split}_size is {size}, but {path} holds {len(parts.splits[split])} items"
            )
    if problems:
        raise ConfigError(*problems)
    if task.own:  # whatever file they came in
        fingerprint = {split: _digest(items) for split, items in corpus.splits.items()}
    else:
        fingerprint = {split: sha256_of(path) for split, path in paths.items()}
    task = task.settled(labels, parts.splits["test"])
    notes = (*corpus.notes, *parts.notes)
    data = TaskData(task, labels, parts.splits, fingerprint, notes, parts.drawn)
    return _with_bounds(data)


def _with_bounds(data: TaskData) -> TaskData:
    """With the failure bound and failure score that fit its metric: what the yaml leaves open, and
    what it holds for a metric of the other direction. Raises ConfigError if they cannot be had."""
    task = data.task
    metric, given = task.headline, (task.failed_below, task.failure_score)
    needed = task.failed_below is None or not metric.higher_is_better
    answer, baseline = (data.baseline if needed else None) or ("", None)
    try:
        bound, failure = failure_bounds(metric, *given, baseline)
    except ValueError:
        raise ConfigError(
            f"task.metric is {task.metric}, of which lower is better, and no constant answer has a "
            "score: say task.failed_below, at or above which a run has failed, and "
            "task.failure_score, no lower than that"
        ) from None
    if (bound, failure) == given:
        return data
    notes = data.notes
    if failure != task.failure_score:
        notes = (
            *notes,
            f"lower {metric.words} is better: a run has failed at {bound:.4g} or above, what one "
            f"and the same answer gets ({answer}), and counts with {failure:.4g} if it has no "
            f"score; task.failed_below={task.failed_below} and task.failure_score="
            f"{task.failure_score} are for a metric that grows with quality",
        )
    return replace(data, task=replace(task, failed_below=bound, failure_score=failure), notes=notes)


def _digest(examples: Sequence[Example]) -> str:
    """SHA-256 of items."""
    digest = hashlib.sha256()
    for e in examples:
        said = [e.id, e.text, e.text_pair, e.target, e.group]
        digest.update(json.dumps(said, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def tokenised(
    data: TaskData, examples: Sequence[Example], model: Model
) -> tuple[Dataset, PreTrainedTokenizerFast]:
    """Examples as word pieces (Arrow), computed once per content: see `token_cache`."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(example).encode())
    task = data.task
    knobs = {k: v for k, v in vars(task).items() if k not in NOT_ENCODED}
    said = json.dumps([knobs, data.labels], sort_keys=True, default=repr)
    parts = {"examples": digest.hexdigest(), "task": [type(task).__name__, said]}
    content = (digest.hexdigest(), said, type(task), model.identity(), model.lower_case)
    return _tokenised(Shared(content, data, examples, model, parts))


@lru_cache(maxsize=32)
def _tokenised(shared: Shared) -> tuple[Dataset, PreTrainedTokenizerFast]:
    from datasets import Dataset

    from bluestab.tokenization import load_tokenizer

    data, examples, model, parts = shared.values
    kind: type[Task] = type(data.task)
    tokenizer = load_tokenizer(model, words=data.task.head == "token")

    def encode() -> pa.Table:
        columns = data.task.encode(examples, data.labels, tokenizer)
        return Dataset.from_dict(columns).data.table

    libraries = {name: versions()[name] for name in ("tokenizers", "transformers")}
    key = token_cache.key_of(
        {
            **parts,
            "code": token_cache.code_of(kind),
            "tokenizer": token_cache.tokenizer_content(tokenizer),
            **libraries,
        }
    )
    table = token_cache.cached(key, encode)
    return Dataset(table, fingerprint=key), tokenizer


Supply = Callable[[Sequence[int], int], "torch.Tensor"]
"""(rows of the tokenised split, width) -> what the frozen blocks give for them, (B, width, H)."""


def collate(
    items: Sequence[Mapping[str, Any]], pad_token_id: int, supply: Supply | None = None
) -> dict[str, torch.Tensor]:
    """Pad items to the longest of the batch.

    Gives input_ids, attention_mask, token_type_ids (B, T) int64; labels (B, T) for pieces, (B, L)
    float for several labels, or (B,); items (B,) rows of the tokenised split; with `supply`, what
    it gives for them.
    """
    import torch

    longest = max(len(item["input_ids"]) for item in items)

    def padded(name: str, fill: int) -> torch.Tensor:
        return torch.tensor(
            [list(item[name]) + [fill] * (longest - len(item[name])) for item in items]
        )

    batch = {
        "input_ids": padded("input_ids", pad_token_id),
        "attention_mask": torch.tensor(
            [
                [1] * len(item["input_ids"]) + [0] * (longest - len(item["input_ids"]))
                for item in items
            ]
        ),
        "items": torch.tensor([item["item"] for item in items]),
    }
    if "token_type_ids" in items[0]:
        batch["token_type_ids"] = padded("token_type_ids", 0)
    labels = items[0]["labels"]
    if isinstance(labels, list) and isinstance(labels[0], int):
        batch["labels"] = padded("labels", IGNORED)
    else:
        batch["labels"] = torch.tensor([item["labels"] for item in items])
    if supply is not None:
        batch[PREFIX] = supply([item["item"] for item in items], longest)
    return batch


def bucketed(
    order: Sequence[int],
    lengths: Sequence[int],
    batch_size: int,
    window: int,
    random: torch.Generator,
) -> list[int]:
    """A shuffled order whose batches hold items of like length, so that little is padded.

    order    rows of an epoch, shuffled
    lengths  word pieces of every row
    window   batches whose items go by length together; then these batches are shuffled

    Items of one length stay as they were drawn. What fills no whole batch ends the epoch as without
    buckets, so that no length is always in the smallest batch.
    """
    import torch

    whole = len(order) - len(order) % batch_size
    found: list[int] = []
    for start in range(0, whole, batch_size * window):
        rows = sorted(
            order[start : min(start + batch_size * window, whole)], key=lengths.__getitem__
        )
        for batch in torch.randperm(len(rows) // batch_size, generator=random).tolist():
            found += rows[batch * batch_size : (batch + 1) * batch_size]
    return [*found, *order[whole:]]


class ShuffledOrder:
    """A fresh permutation per epoch, a pure function of (order seed, epoch).

    rearrange  what becomes of every epoch's permutation, with a generator to draw from
    """

    def __init__(
        self,
        size: int,
        seed: int,
        rearrange: Callable[[list[int], torch.Generator], list[int]] | None = None,
    ) -> None:
        self.size, self.seed, self.epoch = size, seed, 0
        self._rearrange = rearrange
        self._seen = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of every epoch."""
        self.epoch = epoch

    def resume(self, epoch: int, items: int) -> None:
        """Go on in this epoch after its first `items` items; the epochs after it are whole."""
        self.epoch, self._seen = epoch, (epoch, items)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        import torch

        random = generator(self.seed, "order", self.epoch)
        epoch, items = self._seen
        seen = items if epoch == self.epoch else 0
        order: list[int] = torch.randperm(self.size, generator=random).tolist()
        yield from (self._rearrange(order, random) if self._rearrange else order)[seen:]


def training_order(dataset: Dataset, optim: Mapping[str, Any], seed: int) -> ShuffledOrder:
    """In what order `optim` (batch_size, bucket) wants the rows of the tokenised training split."""
    window, size = optim["bucket"], optim["batch_size"]
    if window is None:
        return ShuffledOrder(len(dataset), seed)
    lengths = _lengths(dataset)
    return ShuffledOrder(
        len(dataset), seed, lambda order, random: bucketed(order, lengths, size, window, random)
    )


def evaluation_batches(dataset: Dataset, trainer: Mapping[str, Any]) -> list[list[int]]:
    """Rows of a tokenised split in batches, from the shortest to the longest: little is padded.

    A batch has at most trainer.eval_batch_size items and, padding counted, trainer.eval_tokens word
    pieces (null: any number); an item that is longer than those is a batch by itself.
    """
    most, tokens = trainer["eval_batch_size"], trainer["eval_tokens"]
    lengths = _lengths(dataset)
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        last = len(batches[-1]) if batches else most
        if last == most or (tokens is not None and (last + 1) * lengths[row] > tokens):
            batches.append([])
        batches[-1].append(row)
    return batches


def _lengths(dataset: Dataset) -> list[int]:
    return [len(pieces) for pieces in dataset["input_ids"]]


def loader(
    dataset: Dataset,
    pad_token_id: int,
    workers: int = 0,
    supply: Supply | None = None,
    **batches: Any,
) -> DataLoader[Any]:
    """Batches of a split, made by `workers` processes.

    supply   as in `collate`
    batches  torch's own words for them: `sampler` and `batch_size`, or `batch_sampler`
    """
    from torch.utils.data import DataLoader

    numbered = dataset.add_column("item", list(range(len(dataset))))
    return DataLoader(
        numbered,
        collate_fn=lambda items: collate(items, pad_token_id, supply),
        num_workers=workers,
        **batches,
    )

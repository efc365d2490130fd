"""Task yaml -> files found, read and checked -> the items of each split.

Reading happens once per content and process: every run of a sweep shares it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from bluestab.core.caching import Shared
from bluestab.core.errors import ConfigError, DataError
from bluestab.core.instantiate import instantiate, load_class
from bluestab.core.keys import NEUTRAL
from bluestab.core.seeding import Seeds, subset
from bluestab.core.types import SPLITS, Example, Split
from bluestab.data.formats.columnar import parts_of
from bluestab.data.locate import how_to_bring, locate, locate_own, sha256_of
from bluestab.tasks.base import Task, n_items
from bluestab.tasks.bounds import bound_of, misfits
from bluestab.tasks.metric import failure_bounds
from bluestab.tasks.shots import draw_shots, too_few
from bluestab.tasks.splits import arrange

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
        """What one and the same answer for every test item of a run gets at best
        (`Task.baseline`)."""
        return self.task.baseline(self.labels, self.chosen("test"))

    @cached_property
    def recurring(self) -> dict[Split, int]:
        """Items of validation and test whose text (and image) is also that of a training item."""
        known = {(e.text, e.text_pair, e.image) for e in self.splits["train"]}
        return {
            split: sum((e.text, e.text_pair, e.image) in known for e in self.splits[split])
            for split in SPLITS
            if split != "train"
        }

    def used(self) -> list[str]:
        """Which parts a run uses a share of, in a sentence; none if it uses all items."""
        shares = [
            f"{self.size(split):,} of {len(items):,} for {split} (task.{self._knob(split)})"
            for split, items in self.splits.items()
            if self.size(split) < len(items)
        ]
        found = [f"items that a run uses: {', '.join(shares)}"] if shares else []
        if self.task.shots is not None:
            found.append(
                f"task.shots={self.task.shots}: no validation label has a part in a run, so its "
                "best weights are its last; what a report recommends is still read off validation"
            )
        return found

    def _knob(self, split: Split) -> str:
        """What says how many items of a split a run uses."""
        return "shots" if split == "train" and self.task.shots is not None else f"{split}_size"

    def select(self, seeds: Seeds) -> dict[Split, list[Example]]:
        """The items a run uses: subsets where the task asks for them, else everything."""
        return {
            split: self.chosen(split, seeds.split if split == "train" else EVALUATION_SEED)
            for split in self.splits
        }

    def chosen(self, split: Split, seed: int = EVALUATION_SEED) -> list[Example]:
        """The items of one split that a run uses."""
        examples, shots = self.splits[split], self.task.shots
        if split == "train" and shots is not None:
            return draw_shots(self.task.output, examples, shots, seed)
        size = self.size(split)
        if size == len(examples):
            return list(examples)
        return subset(examples, [e.id for e in examples], size, seed, f"subset/{split}")

    def size(self, split: Split) -> int:
        """How many items of a split a run uses."""
        n = len(self.splits[split])
        if split == "train" and self.task.shots is not None:
            return len(self.chosen(split))
        asked = getattr(self.task, f"{split}_size")
        sized = _is_drawn_size(self.task, self.drawn, split)
        return n if asked is None or sized else n_items(asked, n)


def _is_drawn_size(task: Task, drawn: Collection[Split], split: Split) -> bool:
    """Does the size of a part say how many items are drawn for it, not how many of it are used?"""
    return split in drawn and task.folds is None and split != "train"


def complete_task(node: Mapping[str, Any]) -> dict[str, Any]:
    """The yaml of a task as it was written for an earlier version, or kept by one, with the fields
    added since at the values that change nothing."""
    kind = load_class(node.get("_target_"), Task, "task")  # type: ignore[type-abstract]
    known = inspect.signature(kind).parameters
    fields = {path.partition(".")[2]: v for path, v in NEUTRAL.items() if path.startswith("task.")}
    return {**{name: value for name, value in fields.items() if name in known}, **node}


def task_of(node: Mapping[str, Any]) -> Task:
    """A task without any of its files. Raises ConfigError."""
    task = instantiate(complete_task(node), Task, "task")  # type: ignore[type-abstract]
    if problems := task.check():
        raise ConfigError(*problems)
    return task


def load_task(node: Mapping[str, Any]) -> TaskData:
    """Read and check all files of a task. Raises ConfigError or DataError."""
    task, problems = task_of(node), []
    paths = located(task)
    for split, path in paths.items():
        if path.is_dir():
            task.look_at(path)
        expected = task.sha256.get(split)
        if expected is not None and (found := sha256_of(path)) != expected:
            problems.append(
                f"{path} has sha256 {found[:16]}..., the published file has "
                f"{expected[:16]}...; if you mean to use this file, say task.sha256.{split}=null"
            )
    if problems:
        raise ConfigError(*problems)
    extra = {name: sha256_of(path) for name, path in extra_files(task).items()}
    content = (
        json.dumps(node, sort_keys=True),
        tuple(paths.items()),
        tuple(sha256_of(path) for path in paths.values()),
        tuple(extra.items()),
    )
    return _load(Shared(content, task, paths, extra))


def extra_files(task: Task) -> dict[str, Path]:
    """Where the files are that are no split (`Task.extra_files`). Raises DataError."""
    return {name: getattr(task, f"{name}_file")() for name in task.extra_files}


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
            paths[split] = locate(file, task=task.folder, data_dir=task.data_dir, hint=hint)
    train = paths["train"]
    if task.own and train.is_dir() and (parts := parts_of(train)):
        if "train" not in parts:
            raise DataError(train, f"holds {', '.join(parts)}, but no part for training")
        return {**parts, **{split: path for split, path in paths.items() if split != "train"}}
    return paths


@lru_cache(maxsize=16)
def _load(shared: Shared) -> TaskData:
    task, paths, extra = shared.values
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
        size, n = getattr(task, f"{split}_size"), len(parts.splits[split])
        if isinstance(size, int) and size > n and not _is_drawn_size(task, parts.drawn, split):
            what = "the part that is drawn" if split in parts.drawn else str(path)
            problems.append(
                f"task.{split}_size is {size}, but {what} holds {n} items; say "
                f"task.{split}_size={n} or fewer, or null for all"
            )
    if task.shots is not None and (
        lacking := too_few(task.output, parts.splits["train"], task.shots)
    ):
        said = ", ".join(f"{n} of {name}" for name, n in lacking.items())
        problems.append(
            f"task.shots is {task.shots}, but the training part has only {said}; say "
            f"task.shots={min(lacking.values())} or fewer"
        )
    if problems:
        raise ConfigError(*problems)
    if task.own:  # whatever file they came in
        fingerprint = {split: digest_of(items) for split, items in corpus.splits.items()}
    else:
        fingerprint = {split: sha256_of(path) for split, path in paths.items()}
        if task.shows_images:
            fingerprint["images"] = _digest_of_images(corpus.splits.values())
    fingerprint |= extra
    task = task.settled(labels, parts.splits["test"])
    notes = (*corpus.notes, *parts.notes)
    data = TaskData(task, labels, parts.splits, fingerprint, notes, parts.drawn)
    return _with_bounds(_with_ceiling(data))


def _with_ceiling(data: TaskData) -> TaskData:
    """With a note where not even the right answers get 1: a mean over classes, of which the test
    items lack one."""
    task, items = data.task, data.chosen("test")
    if task.output.numeric or not task.headline.higher_is_better:
        return data
    targets = [e.target for e in items]
    best = task.score(targets, targets)[task.metric]
    if best is None or best >= 1:
        return data
    lacking = set(data.labels) - set(task.output.label_counts(targets))
    named = f" (its items lack {', '.join(map(repr, sorted(lacking)))})" if lacking else ""
    note = (
        f"right answers to all {len(items)} test items get {task.metric} {best:.4f}, no more"
        f"{named}: a class that occurs neither in them nor in the answers counts as 0"
    )
    return replace(data, notes=(*data.notes, note))


def _with_bounds(data: TaskData) -> TaskData:
    """With the failure bound and failure score that fit its metric: what the yaml leaves open, and
    what it holds for a metric of the other direction. Raises ConfigError if they cannot be had."""
    task = data.task
    if changed := misfits(task.name, vars(task)):
        data = _with_computed_bound(data, changed)
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


def _with_computed_bound(data: TaskData, changed: Sequence[str]) -> TaskData:
    """With the bound that the metric and test items of these data have, instead of the yaml's."""
    task, items = data.task, data.chosen("test")
    if not task.headline.higher_is_better:
        return data  # `failure_bounds` puts its own in place
    names, positive = (getattr(task, knob, None) for knob in ("label_names", "positive"))
    bound = bound_of(task.metric, [e.target for e in items], label_names=names, positive=positive)
    if bound is None:
        bound = None if data.baseline is None else data.baseline[1]
    if bound is None or bound == task.failed_below:
        return data
    why = ", ".join(f"task.{knob}={getattr(task, knob)}" for knob in changed)
    note = (
        f"a run has failed at {bound:.4g} or below, what ignoring the input gets on these "
        f"{len(items)} test items; task.failed_below={task.failed_below} is for others ({why})"
    )
    return replace(data, task=replace(task, failed_below=bound), notes=(*data.notes, note))


def _digest_of_images(splits: Iterable[Sequence[Example]]) -> str:
    """SHA-256 of all images of a task, whatever they are called."""
    found = {e.image.sha256 for examples in splits for e in examples if e.image is not None}
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def digest_of(examples: Sequence[Example]) -> str:
    """SHA-256 of items, whatever file they came in: what stands for an own file in a key."""
    digest = hashlib.sha256()
    for e in examples:
        said = [e.id, e.text, e.text_pair, e.target, e.group]
        said += [] if e.image is None else [e.image.sha256]
        digest.update(json.dumps(said, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()

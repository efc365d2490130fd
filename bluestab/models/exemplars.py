"""Which items of earlier tasks a replay buffer keeps: at random, of every class alike, or those
that say most of the weights. All are found from the tasks as they are, the same whenever asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from bluestab.core.types import IGNORED
from bluestab.models.earlier import EarlierTask
from bluestab.models.likelihood import add_square, evaluating, mean_over_batches
from bluestab.models.passes import inputs_of

if TYPE_CHECKING:
    import torch

Row = tuple[int, int]
"""Number of the task, row of its training items."""


def every(tasks: Sequence[EarlierTask]) -> list[Row]:
    """All items of all tasks."""
    return [(number, row) for number, task in enumerate(tasks) for row in range(task.size)]


def reservoir(rows: Sequence[Row], size: int, random: torch.Generator) -> list[Row]:
    """A uniform sample without replacement, in order: what reservoir sampling over them leaves."""
    import torch

    drawn = torch.randperm(len(rows), generator=random)[:size]
    return [rows[i] for i in sorted(drawn.tolist())]


def class_balanced(tasks: Sequence[EarlierTask], size: int, random: torch.Generator) -> list[Row]:
    """As many of each class of each task as there is room for, drawn at random inside, in order.

    An item of several labels or tags is of the rarest of them in its task. Where there is none (a
    number, no label, a concept to link to) all items of a task are one class. What Chrysakis &
    Moens 2020 (ICML) keep of a stream, here of all items at once.
    """
    import torch

    groups: dict[tuple[int, int], list[Row]] = {}
    for number, task in enumerate(tasks):
        for row, label in enumerate(classes(task)):
            groups.setdefault((number, label), []).append((number, row))
    shuffled = []
    for _, rows in sorted(groups.items()):
        order = torch.randperm(len(rows), generator=random).tolist()
        shuffled.append([rows[i] for i in order])
    return sorted(in_turn(shuffled)[:size])


def most_informative(traces: Sequence[Sequence[float]], size: int) -> list[Row]:
    """As many of each task as there is room for, those first whose own Fisher information has the
    largest trace, of equal ones the first; in order.

    traces  task -> row -> as of `trace`

    That exemplars are chosen by Fisher information is from CCFI (Hua et al. 2021, NAACL, arXiv
    2201.01420), whose formula we could not read: this reading of it is ours.
    """
    ranked = [
        [(number, row) for row in sorted(range(len(own)), key=lambda row: -own[row])]
        for number, own in enumerate(traces)
    ]
    return sorted(in_turn(ranked)[:size])


def trace(task: EarlierTask, row: int, names: Sequence[str]) -> float:
    """Of one item's Fisher information of these parameters: the squared length of the gradient of
    the log-likelihood of its labels, dropout off, at the network's weights."""
    parameters = {n: p for n, p in task.network.named_parameters() if n in names}

    def log_likelihood(item: Any) -> torch.Tensor:
        labels = item["labels"]
        n = int((labels != IGNORED).sum()) if labels.ndim == 2 and _is_whole(labels) else 1
        return task.loss(task.network(**inputs_of(item)).logits, item) * n

    with evaluating(task.network, parameters.values()):
        found = mean_over_batches(log_likelihood, parameters, [task.batch([row])], add_square)
    return sum(float(square.double().sum()) for square in found.values())


def classes(task: EarlierTask) -> list[int]:
    """The class of each item: the rarest of its labels, the first of equally rare; -1 without."""
    labels = [_labels(task.batch([row])["labels"][0]) for row in range(task.size)]
    count = Counter(label for own in labels for label in own)
    return [min(own, key=lambda label: (count[label], label), default=-1) for own in labels]


def _labels(value: torch.Tensor) -> list[int]:
    """A class (), tags (T,), or flags (C,) -> the labels that an item has, in order."""
    if _is_whole(value):
        return sorted({*value.flatten().tolist()} - {IGNORED})
    return value.nonzero().flatten().tolist() if value.numel() > 1 else []


def _is_whole(value: torch.Tensor) -> bool:
    return not value.is_floating_point()


def in_turn(groups: Sequence[Sequence[Row]]) -> list[Row]:
    """The first of each group, then the second of each that has one, and so on."""
    return [row for rows in zip_longest(*groups) for row in rows if row is not None]

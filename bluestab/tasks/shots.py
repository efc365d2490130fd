"""A few training items per class: the few-shot protocol's draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bluestab.core.seeding import stream_seed
from bluestab.core.types import Example
from bluestab.tasks.outputs import Output


def shots_problems(shots: object, train_size: object, output: Output, name: str) -> list[str]:
    """What is wrong with `task.shots`, one sentence each."""
    if shots is None:
        return []
    if not isinstance(shots, int) or isinstance(shots, bool) or shots < 1:
        return [f"task.shots is {shots!r}: expected a number of items per class >= 1, or null"]
    if output.numeric:
        return [
            f"task.shots is {shots}, but {name} predicts numbers, which have no classes to draw "
            "items of; say task.train_size"
        ]
    if train_size is not None:
        return [
            f"task.shots={shots} and task.train_size={train_size} both say how many items train; "
            "choose one"
        ]
    return []


NO_LABEL = "no label"


def classes_of(output: Output, example: Example) -> set[str]:
    """Classes that an item shows: its label, its labels, or the types of its mentions; an item
    without any (a sentence without a mention) is of a class of its own."""
    return set(output.label_counts([example.target])) or {NO_LABEL}


def draw_shots(output: Output, examples: Sequence[Example], shots: int, seed: int) -> list[Example]:
    """At least `shots` items of every class, in their original order.

    Items are gone through in the order of a hash of (seed, id); one is taken if a class of it still
    lacks items. Where items have one class each, every class gets exactly `shots`; an item of
    several counts for all of them, so that a class may get more (as in Ding et al. 2021, Few-NERD).
    """
    ranked = sorted(
        range(len(examples)), key=lambda i: (stream_seed(seed, "shots", examples[i].id), i)
    )
    drawn: Counter[str] = Counter()
    taken = []
    for i in ranked:
        own = classes_of(output, examples[i])
        if any(drawn[name] < shots for name in own):
            drawn.update(own)
            taken.append(i)
    return [examples[i] for i in sorted(taken)]


def too_few(output: Output, examples: Sequence[Example], shots: int) -> dict[str, int]:
    """Class -> number of its items, of those that have fewer than `shots`."""
    counts = Counter(name for e in examples for name in classes_of(output, e))
    return {name: n for name, n in sorted(counts.items()) if n < shots}

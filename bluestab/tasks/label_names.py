"""Label names of a yaml beside those of the files: sentences about what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bluestab.core.types import Split


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

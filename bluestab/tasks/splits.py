"""Items of files -> items that train, validate and test: as the files say, or drawn by rule."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bluestab.core.errors import ConfigError
from bluestab.core.types import SPLITS, Example, Split
from bluestab.data.stratify import assign, joined
from bluestab.tasks.base import Task

SHARE = 0.2
"""Of the items for a test part that no file gives; the same share of the rest for validation."""


@dataclass(frozen=True)
class Splits:
    """All items by split. drawn: splits that no file gives."""

    splits: Mapping[Split, list[Example]]
    drawn: frozenset[Split] = frozenset()
    notes: tuple[str, ...] = ()


def arrange(task: Task, found: Mapping[Split, list[Example]]) -> Splits:
    """The splits of a task. What is drawn depends on the items and `task.split_seed` alone.

    Raises ConfigError if a part would be empty.
    """
    if task.folds is not None:
        return _fold(task, found)
    missing = [split for split in SPLITS if split not in found]
    if not missing:
        return Splits(found)
    items = found["train"]
    shares = dict.fromkeys(missing, 0.0)
    rest = 1.0
    for split in ("test", "validation"):
        if split in shares:
            asked = getattr(task, f"{split}_size")
            if asked is None:
                shares[split] = rest * SHARE
            else:
                shares[split] = asked if isinstance(asked, float) else asked / len(items)
            rest -= shares[split]
    if rest <= 0:
        sizes = ", ".join(f"task.{s}_size={getattr(task, f'{s}_size')}" for s in missing)
        raise ConfigError(f"{sizes} of {len(items)} items leave none for training")
    names: list[Split] = ["train", *missing]
    part_of = assign(
        task.strata(items),
        _groups(items),
        [rest, *(shares[split] for split in missing)],
        seed=task.split_seed,
        name="parts",
    )
    drawn = {
        name: [e for e, part in zip(items, part_of, strict=True) if part == number]
        for number, name in enumerate(names)
    }
    _check(drawn, items)
    counts = ", ".join(f"{len(drawn[split])} for {split}" for split in names)
    n = len(items)
    note = (
        f"no file for {' and '.join(missing)}: of {n} items were drawn {counts} "
        f"(task.split_seed={task.split_seed}; labels spread evenly{_together(items)}); "
        "each run keeps the list, split.csv"
    )
    return Splits({**found, **drawn}, frozenset(names), (note,))


def _fold(task: Task, found: Mapping[Split, list[Example]]) -> Splits:
    """All items together, in folds: one tests, the next one validates, the others train."""
    assert task.folds is not None
    assert task.fold is not None
    items = [
        replace(e, id=f"{split}/{e.id}") if len(found) > 1 else e
        for split in SPLITS
        if split in found
        for e in found[split]
    ]
    part_of = assign(
        task.strata(items), _groups(items), [1.0] * task.folds, seed=task.split_seed, name="folds"
    )
    tests, validates = task.fold, (task.fold + 1) % task.folds
    drawn: dict[Split, list[Example]] = {"train": [], "validation": [], "test": []}
    for e, part in zip(items, part_of, strict=True):
        drawn["test" if part == tests else "validation" if part == validates else "train"].append(e)
    _check(drawn, items)
    note = (
        f"fold {task.fold} of {task.folds} tests, fold {validates} validates: of {len(items)} "
        f"items {len(drawn['train'])}, {len(drawn['validation'])} and {len(drawn['test'])} train, "
        f"validate and test (task.split_seed={task.split_seed}; labels spread evenly"
        f"{_together(items)})"
    )
    return Splits(drawn, frozenset(SPLITS), (note,))


def _check(drawn: Mapping[Split, Sequence[Example]], items: Sequence[Example]) -> None:
    empty = [split for split, part in drawn.items() if not part]
    if empty:
        n = len(set(_groups(items)))
        raise ConfigError(
            f"the {' and '.join(empty)} part would be empty: {len(items)} items form {n} groups "
            "that stay together (the same text, or the same task.group); name files for them, or "
            "ask for larger parts"
        )


def _groups(items: Sequence[Example]) -> list[str]:
    """Items of one document, or with the same text, must not be split apart. Named by their first
    item, so that what is drawn does not depend on where in the file it stands."""
    first = joined([_document(e) for e in items], [_plain(e) for e in items])
    return [items[i].id for i in first]


PMID = re.compile(r"(\d{5,9})[._]\S+")
"""Ids such as 10047461.T7.T39: the PubMed id of the abstract, and what in it is meant."""


def _document(e: Example) -> str | None:
    if e.group is not None:
        return e.group
    match = PMID.fullmatch(e.id.rpartition("/")[2])
    return match[1] if match else None


def _plain(e: Example) -> tuple[str, str]:
    words = e.text if isinstance(e.text, str) else " ".join(e.text)
    return " ".join(words.split()).casefold(), " ".join((e.text_pair or "").split()).casefold()


def _together(items: Sequence[Example]) -> str:
    n_groups = len({_document(e) for e in items} - {None})
    said = f", {n_groups} documents or groups kept together" if n_groups else ""
    n_alike = len(items) - len({_plain(e) for e in items})
    return said + (f", {n_alike} repeated texts kept with their likes" if n_alike else "")

"""Items of files -> items that train, validate and test: as the files say, or drawn by rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bluestab.core.errors import ConfigError
from bluestab.core.types import SPLITS, Example, Split
from bluestab.data.stratify import assign, joined
from bluestab.tasks.base import Task
from bluestab.tasks.shared_texts import TEMPLATE, Together, together

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
    groups = _groups(task, items)
    part_of = assign(
        task.strata(items),
        groups.names,
        [rest, *(shares[split] for split in missing)],
        seed=task.split_seed,
        name="parts",
    )
    drawn = {
        name: [e for e, part in zip(items, part_of, strict=True) if part == number]
        for number, name in enumerate(names)
    }
    _check(task, drawn, groups)
    counts = ", ".join(f"{len(drawn[split])} for {split}" for split in names)
    n = len(items)
    note = (
        f"no file for {' and '.join(missing)}: of {n} items were drawn {counts} "
        f"(task.split_seed={task.split_seed}; labels spread evenly{groups.kept}); "
        "each run keeps the list, split.csv"
    )
    return Splits({**found, **drawn}, frozenset(names), (note, *groups.notes))


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
    groups = _groups(task, items)
    if task.folds > (n_groups := len(set(groups.names))):
        raise ConfigError(
            f"task.folds is {task.folds}, but {len(items)} items form {n_groups} groups that stay "
            f"together ({groups.why}); "
            + (f"say task.folds={n_groups} or fewer" if n_groups > 2 else "they cannot be folded")
            + OR_TEXT[task.grouping]
        )
    part_of = assign(
        task.strata(items), groups.names, [1.0] * task.folds, seed=task.split_seed, name="folds"
    )
    tests, validates = task.fold, (task.fold + 1) % task.folds
    drawn: dict[Split, list[Example]] = {"train": [], "validation": [], "test": []}
    for e, part in zip(items, part_of, strict=True):
        drawn["test" if part == tests else "validation" if part == validates else "train"].append(e)
    _check(task, drawn, groups)
    note = (
        f"fold {task.fold} of {task.folds} tests, fold {validates} validates: of {len(items)} "
        f"items {len(drawn['train'])}, {len(drawn['validation'])} and {len(drawn['test'])} train, "
        f"validate and test (task.split_seed={task.split_seed}; labels spread evenly"
        f"{groups.kept})"
    )
    return Splits(drawn, frozenset(SPLITS), (note, *groups.notes))


OR_TEXT = {
    "text": "",
    "document": "",
    "shared": ", or say task.grouping=text (equal texts alone stay together)",
}
"""What helps where groups are too large, by what is asked."""


@dataclass(frozen=True)
class _Groups:
    """names: of the group of each item; why: what keeps items together; kept: how many were, as
    part of a sentence; notes: sentences about what could not be grouped."""

    names: list[str]
    why: str
    kept: str
    notes: tuple[str, ...] = ()


def _check(task: Task, drawn: Mapping[Split, Sequence[Example]], groups: _Groups) -> None:
    empty = [split for split, part in drawn.items() if not part]
    if empty:
        raise ConfigError(
            f"the {' and '.join(empty)} part would be empty: {len(groups.names)} items form "
            f"{len(set(groups.names))} groups that stay together ({groups.why}); name files for "
            "them, or ask for larger parts" + OR_TEXT[task.grouping]
        )


def _groups(task: Task, items: Sequence[Example]) -> _Groups:
    """Items that must not be split apart. Groups are named by their first item, so that what is
    drawn does not depend on where in the file it stands."""
    if task.grouping == "document":
        document_of = [_document(e) for e in items]
        first = joined([d or str(_plain(e)) for d, e in zip(document_of, items, strict=True)])
        kept = f", {len(set(first))} documents, or repeated texts without one, kept together"
        return _Groups([items[i].id for i in first], "one document, or equal text", kept)
    if task.grouping == "text":
        first = joined([_document(e) for e in items], [_plain(e) for e in items])
        names = [items[i].id for i in first]
        return _Groups(names, "the same text, or the same task.group", _together(items))
    found = together(items)
    firsts: dict[int, str] = {}
    names = [firsts.setdefault(g, e.id) for g, e in zip(found.groups, items, strict=True)]
    sizes = Counter(names)
    n_documents = len({*found.documents} - {None})
    kept = f", {n_documents} documents or groups kept together" if n_documents else ""
    n_joined = sum(n for n in sizes.values() if n > 1)
    if n_joined:
        kept += (
            f", {n_joined} items in {sum(n > 1 for n in sizes.values())} groups that share a "
            f"text or document (task.grouping=shared; the largest has {max(sizes.values())})"
        )
    why = "a text in common, or one document or task.group"
    return _Groups(names, why, kept, tuple(_not_grouped(task, items, found)))


def _not_grouped(task: Task, items: Sequence[Example], found: Together) -> Iterator[str]:
    """What a reader of test scores should know of how parts were drawn."""
    n = sum(document is None for document in found.documents)
    if task.output.per_word and n:
        yield (
            f"{n} of {len(items)} items name no document (no -DOCSTART-, no task.group, no id that "
            "tells it): sentences of one document may train and test, which can make test scores "
            "too good; files that keep documents (PubTator, BRAT) do not have this"
        )
    for text in found.templates[:3]:
        yield (
            f"{_shortened(text)} stands in more than {TEMPLATE:.0%} of all items: it is taken as a "
            "question asked of many, and keeps no items together"
        )


def _shortened(text: str, n: int = 60) -> str:
    """A text in quotation marks, cut where it is long."""
    return repr(text if len(text) <= n else f"{text[:n]}...")


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

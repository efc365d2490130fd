"""How much of its data a model never gets to read, because it lies beyond `max_length`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluestab.core.types import SPLITS, Example, Split
from bluestab.tasks.data import TaskData
from bluestab.training.tokenise import tokenised

if TYPE_CHECKING:
    from datasets import Dataset

    from bluestab.core.seeding import Seeds
    from bluestab.models.description import Model
    from bluestab.tasks.base import Task


def truncated_shares(
    task: Task, examples: Mapping[Split, Sequence[Example]], tables: Mapping[Split, Dataset]
) -> dict[Split, float]:
    """Split -> share in [0, 1] of its `task.unit` that no input of the model holds."""
    shares = {}
    for split in SPLITS:
        lost = sum(tables[split]["lost"])
        shares[split] = lost / sum(map(task.size, examples[split])) if lost else 0.0
    return shares


def truncation_note(shares: Mapping[Any, Any], unit: str) -> str | None:
    """`3.10 % of the characters of train and 2.95 % of test lie beyond max_length`, or None."""
    parts = [f"{100 * shares[split]:.2f} % of {split}" for split in SPLITS if shares[split]]
    return f"of the {unit}, {', '.join(parts)} lie beyond task.max_length" if parts else None


def dataset_truncation_note(data: TaskData, model: Model, seeds: Seeds) -> str | None:
    """What this model does not get to read, as a sentence; None if that is nothing.

    Tokenises all items, which the runs then find done.
    """
    examples = data.select(seeds)
    tables = {split: tokenised(data, examples[split], model)[0] for split in SPLITS}
    note = truncation_note(truncated_shares(data.task, examples, tables), data.task.unit)
    return note and f"{data.task.name} with {model.name}: {note}={data.task.max_length}"

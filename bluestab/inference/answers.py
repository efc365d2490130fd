"""From the logits of one or several networks to an answer: prediction, probability, agreement.

One network answers exactly as its evaluation did. Several answer with the mean of their
probabilities (of numbers: the mean), and with how far they disagree, which is the honest confidence
of a model that another seed would have made different. What both mean is said in `tasks.outputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bluestab.core.errors import ConfigError
from bluestab.core.types import Example
from bluestab.tasks.base import Task
from bluestab.tasks.outputs import Answer

if TYPE_CHECKING:
    import numpy as np


def check_threshold(task: Task, threshold: float | None) -> None:
    """Raises ConfigError if this task cannot abstain. (Of links the threshold is a similarity.)"""
    if threshold is not None and task.output.numeric:
        raise ConfigError(
            f"--abstain-below is {threshold:g}, but task '{task.name}' predicts numbers, which "
            "have no probability; several runs give their spread as `disagreement`"
        )


def answer(
    task: Task,
    labels: Sequence[str],
    example: Example,
    rows: Sequence[int],
    logits: Sequence[np.ndarray],
    *,
    threshold: float | None = None,
    truncated: bool = False,
) -> Answer:
    """What networks say of one item.

    rows       which parts of the item the rows of its logits stand for, see `Task.encode`
    logits     one array (len(rows), n_labels) per network
    threshold  probability below which it abstains
    """
    output = task.output
    merged = logits[0] if len(logits) == 1 else output.merged(logits)
    predicted = task.decode(merged, rows, example, labels)
    votes = [task.decode(one, rows, example, labels) for one in logits]
    found = output.answer(labels, predicted, votes, merged, rows, threshold)
    return replace(found, truncated=truncated)

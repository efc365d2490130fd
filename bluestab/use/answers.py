"""From the logits of one or several networks to an answer: prediction, probability, agreement.

One network answers exactly as its evaluation did. Several answer with the mean of their
probabilities (of numbers: the mean), and with how far they disagree, which is the honest confidence
of a model that another seed would have made different.

probability   of a class or tag: softmax; of a label among several: sigmoid; of an entity: that of
              its least certain word. Fine-tuned networks are overconfident: none is calibrated.
disagreement  in [0, 1]. Of a class: share of pairs of networks with different classes; of labels:
              the mean of that over labels; of a word or entity: share of networks that do not have
              exactly it. Of a number: the standard deviation over networks (n - 1), in its unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluestab import scoring
from bluestab.errors import ConfigError
from bluestab.instability import disagreement, over_labels, softmax, yes_or_no
from bluestab.tasks.base import Task
from bluestab.tasks.multi_label import MultiLabel
from bluestab.types import Example

if TYPE_CHECKING:
    import numpy as np

KINDS = ("class", "labels", "number", "tags")


@dataclass(frozen=True)
class Entity:
    """Words `first` to `last` (exclusive)."""

    kind: str
    first: int
    last: int
    probability: float
    disagreement: float | None


@dataclass(frozen=True)
class Answer:
    """What is said of one item.

    prediction    class, tuple of labels, number, or a tag per word; None: it abstains
    probability   of the class, or per word; None for several labels and numbers
    probabilities per class or label
    unsure        labels, or entities, left out because they are below the threshold
    truncated     a part of the item did not fit into the model
    """

    prediction: Any
    probability: Any = None
    probabilities: Mapping[str, float] | None = None
    disagreement: Any = None
    entities: tuple[Entity, ...] = ()
    unsure: tuple[Any, ...] = ()
    truncated: bool = False

    @property
    def of_words(self) -> bool:
        """A tag per word, so that entities are what was asked for."""
        return isinstance(self.prediction, list)


def kind_of(task: Task) -> str:
    """class | labels | number | tags."""
    if task.head == "token":
        return "tags"
    if task.regression:
        return "number"
    return "labels" if isinstance(task, MultiLabel) else "class"


def nothing(task: Task) -> Answer:
    """Of an item without any text."""
    return Answer([], []) if kind_of(task) == "tags" else Answer(None)


def blank_target(task: Task, labels: Sequence[str], text: Any) -> Any:
    """Stands where encoding expects a target; nothing that is answered depends on it."""
    kind = kind_of(task)
    return {"tags": (labels[0],) * len(text), "number": 0.0, "labels": ()}.get(kind, labels[0])


def check_threshold(task: Task, threshold: float | None) -> None:
    """Raises ConfigError if this task cannot abstain."""
    if threshold is not None and kind_of(task) == "number":
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
    kind = kind_of(task)
    merged = logits[0] if len(logits) == 1 else _merged(kind, logits)
    predicted = task.decode(merged, rows, example, labels)
    votes = [task.decode(one, rows, example, labels) for one in logits]
    if kind == "number":
        return Answer(predicted, disagreement=_spread(votes), truncated=truncated)
    if kind == "class":
        return _class(labels, predicted, votes, merged, threshold, truncated)
    if kind == "labels":
        return _labels(labels, predicted, votes, merged, threshold, truncated)
    return _tags(labels, predicted, votes, merged, rows, threshold, truncated)


def _merged(kind: str, logits: Sequence[np.ndarray]) -> np.ndarray:
    """Logits whose probabilities are the mean ones; of numbers the mean."""
    import numpy as np

    stacked = np.stack([np.asarray(one, dtype=np.float64) for one in logits])
    if kind == "number":
        return stacked.mean(axis=0)  # type: ignore[no-any-return]
    tiny = np.finfo(np.float64).tiny
    if kind == "labels":
        mean = yes_or_no(stacked).mean(axis=0)
        yes, no = (np.log(np.maximum(mean[..., i], tiny)) for i in (1, 0))
        return np.asarray(yes - no)
    return np.asarray(np.log(np.maximum(softmax(stacked).mean(axis=0), tiny)))


def _class(
    labels: Sequence[str],
    predicted: str,
    votes: Sequence[str],
    merged: np.ndarray,
    threshold: float | None,
    truncated: bool,
) -> Answer:
    shares = softmax(merged[0])
    found = {label: float(p) for label, p in zip(labels, shares, strict=True)}
    sure = threshold is None or found[predicted] >= threshold
    return Answer(
        predicted if sure else None,
        found[predicted],
        found,
        _pairs([[labels.index(v)] for v in votes]),
        unsure=() if sure else (predicted,),
        truncated=truncated,
    )


def _labels(
    labels: Sequence[str],
    predicted: Sequence[str],
    votes: Sequence[Sequence[str]],
    merged: np.ndarray,
    threshold: float | None,
    truncated: bool,
) -> Answer:
    found = {label: float(p) for label, p in zip(labels, yes_or_no(merged[0])[:, 1], strict=True)}
    bound = 0.0 if threshold is None else threshold
    unsure = tuple(label for label, p in found.items() if max(p, 1 - p) < bound)
    decisions = [[[int(label in vote) for label in labels]] for vote in votes]
    return Answer(
        tuple(label for label in predicted if label not in unsure),
        None,
        found,
        None if len(votes) < 2 else over_labels(disagreement, decisions),
        unsure=unsure,
        truncated=truncated,
    )


def _tags(
    labels: Sequence[str],
    predicted: Sequence[str],
    votes: Sequence[Sequence[str]],
    merged: np.ndarray,
    rows: Sequence[int],
    threshold: float | None,
    truncated: bool,
) -> Answer:
    shares = softmax(merged)
    tags = list(predicted)
    certain: list[float | None] = [None] * len(tags)
    for row, p in zip(rows, shares, strict=True):
        certain[row] = float(p[labels.index(tags[row])])
    # tags of words alone (I- without B-) are entities as they stand
    lenient = not any(label.startswith("B") for label in labels)
    others = [scoring.spans(list(vote), lenient=lenient) for vote in votes]
    entities, unsure = [], []
    for span in sorted(scoring.spans(tags, lenient=lenient), key=lambda s: s[1:]):
        name, first, last = span
        # every word of an entity has a row: a word without one is O
        p = min(float(c) for c in certain[first:last] if c is not None)
        apart = None if len(votes) < 2 else sum(span not in o for o in others) / len(votes)
        entity = Entity(name, first, last, p, apart)
        if threshold is not None and p < threshold:
            unsure.append(entity)
            tags[first:last] = ["O"] * (last - first)
        else:
            entities.append(entity)
    apart_by_word = None
    if len(votes) > 1:
        apart_by_word = [
            sum(vote[i] != predicted[i] for vote in votes) / len(votes) for i in range(len(tags))
        ]
    return Answer(
        tags, certain, None, apart_by_word, tuple(entities), tuple(unsure), truncated=truncated
    )


def _pairs(votes: Sequence[Sequence[int]]) -> float | None:
    return None if len(votes) < 2 else disagreement(votes)


def _spread(votes: Sequence[float]) -> float | None:
    import numpy as np

    return None if len(votes) < 2 else float(np.std(votes, ddof=1))

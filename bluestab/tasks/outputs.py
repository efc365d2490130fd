"""What a task predicts: the one place that knows what follows from the kind of an output.

A task kind names its object as `output`; everybody outside `tasks/` asks that object for the head,
the entry of the exported config, the loss's unit and the answers of networks. A new kind of output
is a new class here.

probability   of a class or tag: softmax; of a label among several: sigmoid; of an entity: that of
              its least certain word. Fine-tuned networks are overconfident: none is calibrated.
disagreement  in [0, 1]. Of a class: share of pairs of networks with different classes; of labels:
              the mean of that over labels; of a word or entity: share of networks that do not have
              exactly it. Of a number: the standard deviation over networks (n - 1), in its unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from bluestab.core.types import DETECTION, MASKED, SEQUENCE, TOKEN, VECTOR, Head
from bluestab.data.formats.schemes import n_entities
from bluestab.stats.instability import disagreement, over_labels, softmax, yes_or_no
from bluestab.tasks import scoring_tags


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


class Output(ABC):
    """A kind of output. It has no state: tasks share the constants below.

    head          what stands on the encoder
    activation    logits -> probabilities; "none": the logits are the answer
    problem_type  what transformers is told in `config.json`, by which its pipelines choose the
                  same activation; None: its head has one activation only
    pipeline      transformers' name of the pipeline
    searches      answers are looked for among texts that pass the same network
                  (`Task.candidates`), and items of a training batch are told from each other
    """

    head: ClassVar[Head] = SEQUENCE
    activation: ClassVar[Literal["softmax", "sigmoid", "none"]]
    problem_type: ClassVar[str | None]
    pipeline: ClassVar[str] = "text-classification"
    searches: ClassVar[bool] = False

    @property
    def per_word(self) -> bool:
        """A target per word: items are lists of words, and the loss is a mean over words."""
        return self.head.per_word

    @property
    def numeric(self) -> bool:
        """Targets are numbers: no labels to choose from, no probability of an answer."""
        return self.activation == "none"

    def n_outputs(self, labels: Sequence[str]) -> int:
        """C, the number of logits per row."""
        return len(labels)

    @abstractmethod
    def blank(self, labels: Sequence[str], text: Any) -> Any:
        """Stands where encoding expects a target; nothing that is answered depends on it."""

    def nothing(self) -> Answer:
        """Of an item without any text."""
        return Answer(None)

    def label_counts(self, targets: Iterable[Any]) -> Counter[str]:
        """Label -> how many items have it; of numbers nothing."""
        return Counter(str(target) for target in targets)

    def merged(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """Logits (R, C) of several networks -> those whose probabilities are the mean ones, float64
        (R, C); where logits are the answer, their mean."""
        stacked = np.stack([np.asarray(one, dtype=np.float64) for one in logits])  # (M, R, C)
        if self.activation == "none":
            return stacked.mean(axis=0)  # type: ignore[no-any-return]
        tiny = np.finfo(np.float64).tiny
        if self.activation == "sigmoid":
            mean = yes_or_no(stacked).mean(axis=0)  # (R, C, 2)
            yes, no = (np.log(np.maximum(mean[..., i], tiny)) for i in (1, 0))
            return np.asarray(yes - no)
        return np.asarray(np.log(np.maximum(softmax(stacked).mean(axis=0), tiny)))

    @abstractmethod
    def answer(
        self,
        labels: Sequence[str],
        predicted: Any,
        votes: Sequence[Any],
        logits: np.ndarray,
        rows: Sequence[int],
        threshold: float | None,
    ) -> Answer:
        """An answer with its confidence.

        predicted  what the task decodes of `logits` (len(rows), C), those of all networks together
        votes      what it decodes of each network's own
        rows       which parts of the item the rows of logits stand for, see `Task.encode`
        threshold  probability below which it abstains
        """


class OneLabel(Output):
    """One of several classes."""

    activation = "softmax"
    problem_type = "single_label_classification"

    def blank(self, labels: Sequence[str], text: Any) -> str:
        return labels[0]

    def answer(
        self,
        labels: Sequence[str],
        predicted: str,
        votes: Sequence[str],
        logits: np.ndarray,
        rows: Sequence[int],
        threshold: float | None,
    ) -> Answer:
        found = {n: float(p) for n, p in zip(labels, softmax(logits[0]), strict=True)}
        sure = threshold is None or found[predicted] >= threshold
        classes = [[labels.index(vote)] for vote in votes]
        return Answer(
            predicted if sure else None,
            found[predicted],
            found,
            None if len(votes) < 2 else disagreement(classes),
            unsure=() if sure else (predicted,),
        )


class LabelSet(Output):
    """Any number of labels: one yes-or-no decision each."""

    activation = "sigmoid"
    problem_type = "multi_label_classification"

    def blank(self, labels: Sequence[str], text: Any) -> tuple[str, ...]:
        return ()

    def label_counts(self, targets: Iterable[Any]) -> Counter[str]:
        return Counter(label for target in targets for label in target)

    def answer(
        self,
        labels: Sequence[str],
        predicted: Sequence[str],
        votes: Sequence[Sequence[str]],
        logits: np.ndarray,
        rows: Sequence[int],
        threshold: float | None,
    ) -> Answer:
        found = {n: float(p) for n, p in zip(labels, yes_or_no(logits[0])[:, 1], strict=True)}
        bound = 0.0 if threshold is None else threshold
        unsure = tuple(label for label, p in found.items() if max(p, 1 - p) < bound)
        decisions = [[[int(label in vote) for label in labels]] for vote in votes]
        return Answer(
            tuple(label for label in predicted if label not in unsure),
            None,
            found,
            None if len(votes) < 2 else over_labels(disagreement, decisions),
            unsure=unsure,
        )


class Number(Output):
    """One number; it has no probability, and cannot abstain."""

    activation = "none"
    problem_type = "regression"

    def blank(self, labels: Sequence[str], text: Any) -> float:
        return 0.0

    def label_counts(self, targets: Iterable[Any]) -> Counter[str]:
        return Counter()

    def answer(
        self,
        labels: Sequence[str],
        predicted: float,
        votes: Sequence[float],
        logits: np.ndarray,
        rows: Sequence[int],
        threshold: float | None,
    ) -> Answer:
        spread = None if len(votes) < 2 else float(np.std(votes, ddof=1))
        return Answer(predicted, disagreement=spread)


class WordLabels(Output):
    """A tag per word; neighbours with one tag are entities."""

    head = TOKEN
    activation = "softmax"
    problem_type = None
    pipeline = "token-classification"

    def blank(self, labels: Sequence[str], text: Any) -> tuple[str, ...]:
        return (labels[0],) * len(text)

    def nothing(self) -> Answer:
        return Answer([], [])

    def label_counts(self, targets: Iterable[Any]) -> Counter[str]:
        """Type -> entities; where words have classes, not entities, class -> words."""
        tagged = [target for target in targets if isinstance(target, tuple)]
        counts = n_entities(tagged)
        return counts or Counter(tag for tags in tagged for tag in tags if tag != "O")

    def answer(
        self,
        labels: Sequence[str],
        predicted: Sequence[str],
        votes: Sequence[Sequence[str]],
        logits: np.ndarray,
        rows: Sequence[int],
        threshold: float | None,
    ) -> Answer:
        tags = list(predicted)
        certain: list[float | None] = [None] * len(tags)  # word -> probability of its tag
        for word, p in zip(rows, softmax(logits), strict=True):
            certain[word] = float(p[labels.index(tags[word])])
        # tags of words alone (I- without B-) are entities as they stand
        lenient = not any(label.startswith("B") for label in labels)
        others = [scoring_tags.spans(list(vote), lenient=lenient) for vote in votes]
        entities, unsure = [], []
        for span in sorted(scoring_tags.spans(tags, lenient=lenient), key=lambda s: s[1:]):
            name, first, last = span
            # every word of an entity has a row: a word without one is O
            p = min(float(c) for c in certain[first:last] if c is not None)
            differ = None if len(votes) < 2 else sum(span not in o for o in others) / len(votes)
            entity = Entity(name, first, last, p, differ)
            if threshold is not None and p < threshold:
                unsure.append(entity)
                tags[first:last] = ["O"] * (last - first)
            else:
                entities.append(entity)
        by_word = None
        if len(votes) > 1:
            by_word = [
                sum(vote[i] != predicted[i] for vote in votes) / len(votes)
                for i in range(len(tags))
            ]
        return Answer(tags, certain, None, by_word, tuple(entities), tuple(unsure))


class MaskedPieces(Number):
    """How surprised a language model is by each masked piece of a text: its negative log-likelihood
    in nats. Nobody asks it for answers."""

    head = MASKED
    problem_type = None  # type: ignore[assignment]
    pipeline = "fill-mask"

    @property
    def per_word(self) -> bool:
        """Items are texts; which of their pieces have a target is drawn anew for every batch."""
        return False


class ReplacedPieces(MaskedPieces):
    """How many replaced pieces of a text were found, wrongly found and missed."""

    head = DETECTION


class Ranking(Output):
    """The concepts of a dictionary, the nearest first.

    The logits of an item are (R, 2): number of a concept and its similarity.
    """

    head = VECTOR
    activation = "softmax"
    problem_type = None
    pipeline = "feature-extraction"
    searches = True

    SHOWN = 5

    def n_outputs(self, labels: Sequence[str]) -> int:
        """Of transformers' layer that the vectors take the place of: any number does."""
        return 2

    def blank(self, labels: Sequence[str], text: Any) -> str:
        return labels[0]

    def merged(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """By mean similarity over networks; a concept that one of them does not rank has, there,
        that of its last."""
        known = [{int(c): float(s) for c, s in one} for one in logits]
        last = [min(one.values()) for one in known]
        mean = {
            concept: sum(one.get(concept, low) for one, low in zip(known, last, strict=True))
            / len(known)
            for one in known
            for concept in one
        }
        ranked = sorted(mean.items(), key=lambda pair: (-pair[1], pair[0]))
        return np.array(ranked[: len(logits[0])], dtype=np.float64)

    def answer(
        self,
        labels: Sequence[str],
        predicted: Sequence[str],
        votes: Sequence[Sequence[str]],
        logits: np.ndarray,
        rows: Sequence[int],
        threshold: float | None,
    ) -> Answer:
        similarity = float(logits[0, 1])
        shown = tuple(predicted[: self.SHOWN])
        sure = threshold is None or similarity >= threshold
        firsts = [[labels.index(vote[0])] for vote in votes]
        return Answer(
            shown if sure else None,
            similarity,
            disagreement=None if len(votes) < 2 else disagreement(firsts),
            unsure=() if sure else shown[:1],
        )


ONE_LABEL, LABEL_SET, NUMBER, WORD_LABELS = OneLabel(), LabelSet(), Number(), WordLabels()
RANKING = Ranking()
MASKED_PIECES, REPLACED_PIECES = MaskedPieces(), ReplacedPieces()

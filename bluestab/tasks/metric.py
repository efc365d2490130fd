"""Metrics: how predictions are scored, which way is better, and how a metric is written.

A metric is declared once, as an entry of a group below; a kind of task names its group. Whoever
compares scores asks the `Metric`: nobody else knows that a correlation grows with quality and an
error does not. Functions over scores alone (`bluestab.stats`) know no metric: callers multiply by
`sign`, or choose words by it.

A kind of task of one's own declares its metrics in its own file; records of a lower-is-better
metric carry the direction (`higher_is_better: false` in the hashed config of the task), so that a
report needs no task to read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

from bluestab.tasks import nearest, scoring, scoring_tags

T = TypeVar("T")

DIRECTION = "higher_is_better"
"""Key in the task of a hashed config, and column of tables; absent from configs where it is so."""


@dataclass(frozen=True)
class Compared:
    """Predictions beside targets, item by item, as a kind of task numbers them.

    predictions, targets  numbers; classes 0 .. n_classes - 1; 0 or 1 per label; IOB2 tags per word
    n_classes             of classes, or concepts, whether or not a seed predicts all of them
    positive              classes that count in positive_f1
    types                 of words, whose F1 are averaged
    closed                per item, whether its question names its possible answers
    """

    predictions: Sequence[Any]
    targets: Sequence[Any]
    n_classes: int = 0
    positive: Sequence[int] = ()
    types: Sequence[str] = ()
    closed: Sequence[bool] = ()

    @cached_property
    def entities(self) -> Mapping[str, float]:
        """`precision`, `recall` and `f1` of entities, strict IOB2: counted once for three
        metrics."""
        return scoring_tags.entity_prf(self.predictions, self.targets)


def _unknown(compared: Compared) -> float | None:
    raise LookupError("this metric is known from a record alone: its function is with its task")


@dataclass(frozen=True)
class Metric:
    """One number that says how good predictions are.

    name              as in `task.metric` and in records
    words             how it is written in a sentence
    function          its value, None where undefined
    higher_is_better  False for an error or a distance
    undefined         the score of a run without one, where `task.failure_score` lies on the better
                      side of the failure bound; None: the bound itself
    least, most       no score lies beyond these; a metric of somebody's own may have any
    """

    name: str
    words: str
    function: Callable[[Compared], float | None] = _unknown
    higher_is_better: bool = True
    undefined: float | None = 0.0
    least: float = -math.inf
    most: float = math.inf

    @property
    def sign(self) -> int:
        """1 or -1: `sign * score` grows with quality."""
        return 1 if self.higher_is_better else -1

    def better(self, a: float, b: float) -> bool:
        """Whether score `a` is better than `b`; equal scores are not."""
        return self.sign * a > self.sign * b

    def best(self, values: Iterable[T], key: Callable[[T], float]) -> T:
        """The first of `values` whose score, `key(value)`, no other beats.

        Raises ValueError if there are none.
        """
        return max(values, key=lambda value: self.sign * key(value))

    def worst(self, values: Iterable[T], key: Callable[[T], float]) -> T:
        """The first of `values` whose score beats no other. Raises ValueError if there are none."""
        return min(values, key=lambda value: self.sign * key(value))

    def fails(self, score: float | None, bound: float) -> bool:
        """Whether a run with this score failed: undefined, or not better than `bound`."""
        return score is None or not self.better(score, bound)

    @property
    def improve(self) -> str:
        """What a better arm does to it, as a verb: `raise` or `lower`."""
        return "raise" if self.higher_is_better else "lower"

    @property
    def worsen(self) -> str:
        """What a worse arm does to it, as a verb."""
        return "lower" if self.higher_is_better else "raise"

    @property
    def top(self) -> str:
        """What the best of several values is: `highest` or `lowest`."""
        return "highest" if self.higher_is_better else "lowest"


def failure_bounds(
    metric: Metric, failed_below: float | None, failure_score: float, baseline: float | None
) -> tuple[float, float]:
    """(bound at which a run has failed, score of a run without one), of a task whose data are read.

    failed_below   of the task; None: what the best constant answer gets, else the failure score
    failure_score  of the task
    baseline       score of the best constant answer; None where none has one

    Both values of a task are made for one direction. For a lower-is-better metric they are taken
    if they fit it, `failure_score >= failed_below`; others belong to a metric that grows with
    quality, and are replaced by the baseline. Raises ValueError if there is none.
    """
    if metric.higher_is_better:
        if failed_below is not None:
            return failed_below, failure_score
        return (failure_score if baseline is None else baseline), failure_score
    if failed_below is not None and not metric.better(failure_score, failed_below):
        return failed_below, failure_score
    if baseline is None:
        raise ValueError(f"{metric.name}: no constant answer has a score")
    known = [baseline, failure_score, *([] if metric.undefined is None else [metric.undefined])]
    return baseline, metric.worst(known, float)


def _group(*metrics: Metric, least: float = 0.0, most: float = 1.0) -> Mapping[str, Metric]:
    """By name, each with this range."""
    return MappingProxyType({m.name: replace(m, least=least, most=most) for m in metrics})


def _entities(name: str) -> Callable[[Compared], float]:
    return lambda c: c.entities[name]


ENTITIES = _group(
    Metric("entity_f1", "entity F1", _entities("f1")),
    Metric("entity_precision", "entity precision", _entities("precision")),
    Metric("entity_recall", "entity recall", _entities("recall")),
    Metric(
        "entity_f1_lenient",
        "entity F1 lenient",
        lambda c: scoring_tags.entity_prf(c.predictions, c.targets, lenient=True)["f1"],
    ),
)
"""Of tagging, compared as IOB2 tags."""

WORDS = _group(
    Metric(
        "word_macro_f1",
        "word macro F1",
        lambda c: scoring_tags.word_macro_f1(c.predictions, c.targets, c.types),
    ),
    Metric(
        "word_accuracy",
        "word accuracy",
        lambda c: scoring_tags.word_accuracy(c.predictions, c.targets),
    ),
)
"""Of word tagging, compared as tags, with their `types`."""

ANSWERS = _group(
    Metric("accuracy", "accuracy", lambda c: scoring.accuracy(c.predictions, c.targets)),
    Metric(
        "macro_f1", "macro F1", lambda c: scoring.macro_f1(c.predictions, c.targets, c.n_classes)
    ),
)
"""Of question answering, compared as classes."""


def _accuracy_where(closed: bool) -> Callable[[Compared], float | None]:
    """Share of right answers to closed questions, or to open ones; None where there are none."""

    def accuracy(c: Compared) -> float | None:
        at = [i for i, flag in enumerate(c.closed) if flag is closed]
        if not at:
            return None
        return scoring.accuracy([c.predictions[i] for i in at], [c.targets[i] for i in at])

    return accuracy


VISUAL_ANSWERS = _group(
    ANSWERS["accuracy"],
    Metric("closed_accuracy", "accuracy on closed questions", _accuracy_where(True)),
    Metric("open_accuracy", "accuracy on open questions", _accuracy_where(False)),
)
"""Of visual question answering, compared as classes, with which questions are `closed`."""

CLASSES = _group(
    Metric(
        "positive_f1",
        "positive F1",
        lambda c: scoring.positive_f1(c.predictions, c.targets, c.positive) if c.positive else None,
    ),
    *ANSWERS.values(),
)
"""Of classification, compared as classes, of which some may be `positive`."""

LABEL_SETS = _group(
    Metric("micro_f1", "micro F1", lambda c: scoring.multilabel_f1(c.predictions, c.targets)),
    Metric("macro_f1", "macro F1", lambda c: scoring.multilabel_macro_f1(c.predictions, c.targets)),
    Metric("exact_match", "exact match", lambda c: scoring.exact_match(c.predictions, c.targets)),
)
"""Of multi-label classification, compared as 0 or 1 per label."""

NUMBERS: Mapping[str, Metric] = MappingProxyType(
    {
        **_group(
            Metric("pearson", "Pearson", lambda c: scoring.pearson(c.predictions, c.targets)),
            Metric("spearman", "Spearman", lambda c: scoring.spearman(c.predictions, c.targets)),
            least=-1.0,
        ),
        **_group(
            Metric(
                "rmse",
                "RMSE",
                lambda c: scoring.rmse(c.predictions, c.targets),
                higher_is_better=False,
                undefined=None,  # in units of the data: no number is bad enough for all of them
            ),
            most=math.inf,
        ),
    }
)
"""Of regression, compared as numbers."""


def _hits(k: int) -> Callable[[Compared], float | None]:
    return lambda c: nearest.hits_at(k, c.predictions, c.targets, c.n_classes)


RANKINGS = _group(
    Metric("accuracy_at_1", "accuracy@1", _hits(1)),
    Metric("accuracy_at_5", "accuracy@5", _hits(5)),
    Metric("recall_at_64", "recall@64", _hits(64)),
)
"""Of linking, compared as ids of concepts, the nearest first."""

PERPLEXITY = _group(
    Metric(
        "perplexity",
        "perplexity",
        lambda c: scoring.perplexity(c.predictions),
        higher_is_better=False,
        undefined=None,  # a guess among all pieces gets their number, which is the vocabulary's
    ),
    least=1.0,
    most=math.inf,
)
"""Of language models, compared as negative log-likelihoods of the right pieces."""

DETECTION = _group(
    Metric("detection_f1", "detection F1", lambda c: scoring.counted_f1(c.predictions)),
)
"""Of detecting replaced pieces, compared as how many were found, wrongly found and missed."""

GROUPS = (
    *(ENTITIES, WORDS, CLASSES, VISUAL_ANSWERS, LABEL_SETS, NUMBERS, RANKINGS),
    *(PERPLEXITY, DETECTION),
)
KNOWN: Mapping[str, Metric] = MappingProxyType(
    {name: metric for group in GROUPS for name, metric in group.items()}
)
"""Every metric above by its name, for what knows no task: direction and words are one for all that
share a name."""


def metric_of(name: object, higher_is_better: object = None) -> Metric:
    """The metric of this name, for those who have no task: a report, a reader of records.

    higher_is_better  as a record says; None: as the metric of this name above, else True

    A metric of somebody's own has its name for words, and no function.
    """
    known = KNOWN.get(str(name))
    if higher_is_better is None or higher_is_better != higher_is_better:  # NaN, in a table
        higher_is_better = known is None or known.higher_is_better
    if known is not None and higher_is_better == known.higher_is_better:
        return known
    words = str(name).replace("_", " ").replace("f1", "F1") if known is None else known.words
    return Metric(str(name), words, higher_is_better=bool(higher_is_better))


def metric_of_row(row: Mapping[str, Any]) -> Metric:
    """The metric of a row of a table of runs or arms (columns `metric`, `higher_is_better`)."""
    return metric_of(row["metric"], row.get(DIRECTION))


def metric_of_result(result: Mapping[str, Any]) -> Metric:
    """The headline metric of a record's `result`."""
    return metric_of(result["metric"], recorded_direction(result))


def recorded_direction(result: Mapping[str, Any]) -> bool | None:
    """What a record says of the direction of its metric; None if nothing."""
    task = (result.get("config") or {}).get("task")
    found = task.get(DIRECTION) if isinstance(task, Mapping) else None
    return found if isinstance(found, bool) else None

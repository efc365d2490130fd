"""What a point is worth: the validation scores of its seeds in one number. Test is never looked at.

    mean, median          of the scores
    mean_minus_std        mean - std (ddof 1): a steady point beats a scattered one of equal mean
    lower_bound           lower end of Student's 95 % interval of the mean
    cvar                  mean of the worst quarter, at least one score (Rockafellar & Uryasev 2000)
    worst                 the worst score
    std, seconds          to be small: spread over seeds (ddof 1), mean wall clock of a run

Of a metric whose lower values are better (an error) every one of them looks the other way: mean +
std, the upper end, the largest quarter and the largest score, all to be small.

Failed runs count with their score, or with the task's `failure_score` where they have none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bluestab import stats
from bluestab.core.types import At, RunRecord
from bluestab.tasks.metric import metric_of_result


@dataclass(frozen=True)
class Outcome:
    """What the search sees of one run: validation score, failed there or not, seconds it took."""

    score: float
    failed: bool
    seconds: float


def outcome(record: RunRecord, at: At) -> Outcome:
    """The outcome of a run that is done or diverged.

    Failed is judged on validation: the `degenerate` of a record looks at test. Raises ValueError
    for a crashed run, which has no result.
    """
    result = record.result
    if record.status == "crashed":
        raise ValueError(f"run {record.key} crashed: it has no score")
    metrics = result["metrics"] or {}
    score = ((metrics.get(at) or {}).get("validation") or {}).get(result["metric"])
    if record.status == "diverged" or score is None:
        score, failed = result["failure_score"], True
    else:
        failed = metric_of_result(result).fails(score, result["failed_below"])
    return Outcome(float(score), failed, float(record.measured["seconds"]["total"]))


def failed_share(outcomes: Sequence[Outcome]) -> float:
    """Share of failed runs, in [0, 1]."""
    return sum(o.failed for o in outcomes) / len(outcomes)


@dataclass(frozen=True)
class Objective:
    """A function of a point's scores.

    of     qualities (n,), n >= 1, scores that grow with quality -> number
    wider  how much wider its error is than the mean's
    """

    name: str
    of: Callable[[Sequence[float]], float]
    maximise: bool = True
    wider: float = 1.0

    def quality(self, qualities: Sequence[float]) -> float:
        """How good a point is, larger is better, of scores that grow with quality."""
        return self.of(qualities) if self.maximise else -self.of(qualities)

    def worth(self, scores: Sequence[float], sign: int = 1) -> float:
        """The objective in the units of the scores. sign: -1 where lower scores are better."""
        found = self.of([sign * score for score in scores])
        return sign * found if self.maximise else found


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


def _std(scores: Sequence[float]) -> float:
    return stats.std(scores) or 0.0


def _lower_bound(scores: Sequence[float]) -> float:
    interval = stats.t_interval(scores)
    return _mean(scores) if interval is None else interval.low


def _cvar(scores: Sequence[float]) -> float:
    return _mean(sorted(scores)[: math.ceil(len(scores) / 4)])


OBJECTIVES: Mapping[str, Objective] = {
    one.name: one
    for one in (
        Objective("mean", _mean),
        # large-sample errors for normal scores, relative to that of the mean
        Objective("median", lambda s: float(stats.median(s) or 0.0), wider=math.sqrt(math.pi / 2)),
        Objective("mean_minus_std", lambda s: _mean(s) - _std(s), wider=math.sqrt(1.5)),
        Objective("lower_bound", _lower_bound, wider=math.sqrt(1.5)),
        Objective("cvar", _cvar, wider=2.0),  # a quarter of the scores: twice the error
        Objective("worst", min, wider=2.0),
        Objective("std", _std, maximise=False),
    )
}
"""Functions of the scores. With one seed, spread is 0 and a bound is the score itself."""

SECONDS = "seconds"


def names() -> tuple[str, ...]:
    """What `search.objective` may hold."""
    return (*OBJECTIVES, SECONDS)


def is_of_scores(name: str) -> bool:
    """Whether the objective grows as scores get better: not a spread, not a time."""
    return name in OBJECTIVES and OBJECTIVES[name].maximise


def maximised(name: str, sign: int = 1) -> bool:
    """Whether larger values of the objective are better. sign: -1 where lower scores are better."""
    return is_of_scores(name) and sign > 0


def range_of(name: str, scores: tuple[float, float]) -> tuple[float, float]:
    """Least and largest value that an axis of the objective needs; scores: range of the metric."""
    return scores if is_of_scores(name) else (0.0, math.inf)


def worth_so_far(name: str, outcomes: Sequence[Outcome], sign: int = 1) -> float | None:
    """`worth` of a point that was given up after these seeds; None where they say nothing: none has
    ended, or one of them has no spread."""
    if not outcomes or (name == "std" and len(outcomes) < 2):
        return None
    return worth(name, outcomes, sign)


def worth(name: str, outcomes: Sequence[Outcome], sign: int = 1) -> float:
    """The objective `name` of a point's outcomes, n >= 1. sign: -1 where lower scores are
    better."""
    if name == SECONDS:
        return _mean([o.seconds for o in outcomes])
    return OBJECTIVES[name].worth([o.score for o in outcomes], sign)

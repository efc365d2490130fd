"""What a trained run says of itself: the canonical half of its record, and its predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from bluestab.checks import CheckedRun
from bluestab.errors import Diverged
from bluestab.types import At, Built, Example, Split

if TYPE_CHECKING:
    import numpy as np

    from bluestab.history import History
    from bluestab.plan import ParamPlan


class Ended(Protocol):
    """A training that has ended, whoever did it."""

    @property
    def examples(self) -> Mapping[Split, Sequence[Example]]: ...

    @property
    def truncated(self) -> Mapping[Split, int]: ...

    @property
    def lost(self) -> Mapping[Split, float]: ...

    @property
    def built(self) -> Built: ...

    @property
    def plan(self) -> ParamPlan: ...

    @property
    def history(self) -> History: ...

    @property
    def steps(self) -> int: ...

    @property
    def warmup_steps(self) -> int: ...


def result_of(
    run: CheckedRun,
    ended: Ended,
    metrics: Mapping[At, Mapping[Split, Any]] | None,
    effects: Mapping[str, Any] | None,
    error: Diverged | None,
) -> dict[str, Any]:
    """The canonical half of the record."""
    task = run.data.task
    ats: tuple[At, ...] = ("last", "best")
    score: dict[str, float] = dict.fromkeys(ats, task.failure_score)
    degenerate = None
    if metrics is not None:
        raw = {at: metrics[at]["test"][task.metric] for at in ats}
        score = {at: task.failure_score if raw[at] is None else raw[at] for at in ats}
        degenerate = {at: task.is_degenerate(raw[at]) for at in ats}
    plan, parameters = ended.plan, dict(ended.built.model.named_parameters())
    return {
        **identity_of(run),
        "status": "done" if error is None else "diverged",
        "metrics": metrics,
        "score": score,
        "degenerate": degenerate,
        "best_step": ended.history.best_step,
        "steps": ended.steps,
        "warmup_steps": min(ended.warmup_steps, ended.steps),
        "items": {split: len(examples) for split, examples in ended.examples.items()},
        "truncated": dict(ended.truncated),
        "lost": {"unit": task.unit, **ended.lost},
        "parameters": {
            "total": sum(p.numel() for p in parameters.values()),
            "trainable": sum(p.numel() for n, p in parameters.items() if plan[n].trainable),
        },
        "effects": effects,
        "censored": ended.history.censored,
        "error": None if error is None else {"type": "Diverged", "message": str(error)},
    }


def prediction_rows(
    at: At,
    examples: Sequence[Example],
    predictions: Sequence[Any],
    logits: Sequence[np.ndarray],
) -> list[dict[str, Any]]:
    """One row per test item, as `artefacts.write_predictions` takes them."""
    return [
        {
            "at": at,
            "id": example.id,
            "prediction": predictions[i],
            "target": _listed(example.target),
            "logits": logits[i].ravel().tolist(),
            **_offsets(example),
        }
        for i, example in enumerate(examples)
    ]


def _offsets(example: Example) -> dict[str, list[int]]:
    """Start and end of every word in the text it comes from, in turn; nothing where only words
    were given."""
    if example.offsets is None:
        return {}
    return {"offsets": [place for word in example.offsets for place in word]}


def _listed(target: Any) -> Any:
    return list(target) if isinstance(target, tuple) else target


def identity_of(run: CheckedRun) -> dict[str, Any]:
    task = run.data.task
    return {
        "key": run.key,
        "cell": run.cell,
        "config": run.hashed,
        "metric": task.metric,
        "failed_below": task.failed_below,
        "failure_score": task.failure_score,
    }


def rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {phase: round(value, 3) for phase, value in seconds.items()}

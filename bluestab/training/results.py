"""What a trained run comes to: both halves of its record, and the files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bluestab.core.errors import Diverged
from bluestab.core.provenance import peak_memory_mb
from bluestab.core.types import At, Example, Split
from bluestab.models.built import Built
from bluestab.store.artefacts import write_curve, write_predictions
from bluestab.store.representations import FILE, write_representations
from bluestab.training.check import Run

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bluestab.models.param_plan import ParamPlan
    from bluestab.training.loop.history import ValidationHistory

Outcome = tuple[dict[str, Any], dict[str, Any]]
"""The two halves of a record: what is the same on every machine, and what was measured on this."""


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
    def history(self) -> ValidationHistory: ...

    @property
    def steps(self) -> int: ...

    @property
    def warmup_steps(self) -> int: ...


def result_of(
    run: Run,
    ended: Ended,
    metrics: Mapping[At, Mapping[Split, Any]] | None,
    effects: Mapping[str, Any] | None,
    error: Diverged | None,
    micro_batch: int | None,
    earlier: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The canonical half of the record.

    micro_batch  items of a forward pass in training; None: the whole batch
    earlier      scores of earlier tasks; none, and the record says nothing of them
    """
    task = run.data.task
    ats: tuple[At, ...] = ("last", "best")
    score: dict[str, float] = dict.fromkeys(ats, task.failure_score)
    degenerate = None
    if metrics is not None:
        raw = {at: metrics[at]["test"][task.metric] for at in ats}
        score = {at: task.failure_score if raw[at] is None else raw[at] for at in ats}
        degenerate = {at: task.is_degenerate(raw[at]) for at in ats}
    built, plan = ended.built, ended.plan
    sizes = {name: built.numel(name) for name, _ in built.model.named_parameters()}
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
            "total": sum(sizes.values()),
            "trainable": sum(size for name, size in sizes.items() if plan[name].trainable),
        },
        "effects": effects,
        "censored": ended.history.censored,
        "error": None if error is None else {"type": "Diverged", "message": str(error)},
        "micro_batch": micro_batch,
        **({"earlier": list(earlier)} if earlier else {}),
    }


def measured_of(
    run: Run,
    device: torch.device,
    *,
    seconds: Mapping[str, float],
    phases: Mapping[str, float],
    pieces: float,
    eval_batch_size: int,
    frozen_prefix: int | None,
    resumed_from: int | None,
    memory: Mapping[str, int],
    group: int | None = None,
) -> dict[str, Any]:
    """The half of the record that differs from machine to machine, as far as training knows it.

    seconds, phases  of all runs that trained as one; each gets its share, so that sums stay true
    pieces           word pieces that this run passed in training
    resumed_from     step of the checkpoint that it went on from
    memory           bytes as `loop/counted_memory.py` counts them, of all that trained as one
    group            how many runs trained as one; None: it trained by itself
    """
    knobs, n = run.cfg["trainer"], group or 1
    share = {phase: value / n for phase, value in seconds.items()}
    measured = {
        "seconds": rounded(share),
        "phases": rounded({phase: value / n for phase, value in phases.items()}),
        "profiled": run.cfg["profile"],
        "tokens_per_second": round(pieces / max(share["fit"], 1e-9)),
        "attention": knobs["attention"][device.type],
        "precision": str(knobs["precision"]),
        "peak_memory_mb": peak_memory_mb(device),
        "eval_batch_size": eval_batch_size,
        "frozen_prefix": frozen_prefix,
        "resumed_from": resumed_from,
        "memory": {part: n_bytes // n for part, n_bytes in memory.items()},
    }
    if group is not None:
        measured["packed"] = {"runs": group, "seconds": round(seconds["total"], 3)}
    return measured


def write_files(
    work: Path,
    rows: list[dict[str, Any]],
    predictions: list[dict[str, Any]],
    vectors: Mapping[str, np.ndarray] | None,
) -> None:
    """Write the curve, the predictions, and unless None the vectors of the test items.

    vectors  "last" and "best" -> as `representations.of_items` gives them
    """
    if vectors is not None:
        write_representations(work / FILE, vectors)
    write_curve(work / "curve.csv", rows)
    write_predictions(work / "predictions.parquet", predictions)


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


def identity_of(run: Run) -> dict[str, Any]:
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

"""A soup as a run: the config that its key is of, and its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bluestab.core.keys import cell_of, key_of
from bluestab.core.provenance import provenance
from bluestab.core.types import RECORD_SCHEMA, At, RunRecord
from bluestab.inference.members import task_name
from bluestab.inference.merging import AVERAGES, How, MergedTask
from bluestab.inference.weights import FinishedRun, Weights

ATS: tuple[At, ...] = ("last", "best")


def config_of(
    own: Sequence[FinishedRun],
    weights: Sequence[Weights],
    others: Sequence[FinishedRun],
    their_weights: Sequence[Weights],
    how: How,
) -> dict[str, Any]:
    """What decides a soup: its members' configuration, their weights, how they are merged.

    own, others  the members of this task, the best first, and those of other tasks

    Soups of different members are one cell, like seeds, unless they are averages of one task.
    """
    config = dict(own[0].record.result["config"])
    knobs: dict[str, Any] = {**how.knobs(), "at": own[0].at}
    members = sorted(one.sha256 for one in (*weights, *their_weights))
    if how.kind in AVERAGES and not others:
        return {
            **config,
            "technique": [*config["technique"], ["soup", {**knobs, "members": members}]],
        }
    if others:
        knobs["with"] = "+".join(sorted({task_name(run.record) for run in others}))
    return {
        **config,
        "technique": [*config["technique"], ["soup", knobs]],
        "members": members,
    }


def record_of(
    merged: MergedTask,
    own: Sequence[FinishedRun],
    chosen: Sequence[int],
    config: dict[str, Any],
    more: Mapping[str, Any],
    seconds: float,
) -> RunRecord:
    """Score the merged weights of one task and describe them as a run.

    own     its members, the best first; chosen: which of them are in
    more    effects beside those
    seconds that merging took
    """
    run = merged.run
    task, first = run.data.task, own[0].record
    scores = merged.finished()
    raw = scores["test"][task.metric]
    score = task.failure_score if raw is None else raw
    effects = {
        "members": [own[i].record.key for i in chosen],
        "left_out": [r.record.key for i, r in enumerate(own) if i not in chosen],
        "member_test": [own[i].record.result["score"][own[i].at] for i in chosen],
        "tried": merged.tried,
        **more,
    }
    result = {
        "key": key_of(config),
        "cell": cell_of(config),
        "config": config,
        "metric": task.metric,
        "failed_below": task.failed_below,
        "failure_score": task.failure_score,
        "status": "done",
        "metrics": dict.fromkeys(ATS, scores),
        "score": dict.fromkeys(ATS, score),
        "degenerate": {at: task.is_degenerate(raw) for at in ATS},
        "best_step": 0,
        "steps": 0,
        "warmup_steps": 0,
        **{name: first.result[name] for name in ("items", "truncated", "lost", "parameters")},
        "effects": {**(first.result["effects"] or {}), "soup": effects},
        "censored": None,
        "micro_batch": None,
        "error": None,
    }
    names = dict(first.measured["names"])
    took = {"prepare": 0.0, "fit": 0.0, "score": round(seconds, 3), "total": round(seconds, 3)}
    measured = {
        "names": {**names, "technique": [*names["technique"], "soup"]},
        "seconds": took,
        "attention": first.measured["attention"],
        "precision": first.measured["precision"],
        **provenance(str(merged.predictor.device)),
    }
    return RunRecord(RECORD_SCHEMA, result, measured)

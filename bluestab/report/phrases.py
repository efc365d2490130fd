"""Runs and their records in a phrase: what tells one from the others, how it ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bluestab.types import RunRecord

if TYPE_CHECKING:
    from bluestab.checks import CheckedRun

SAID = re.compile(r"(task|task\.fold|model|technique)=")
"""Overrides that `describe` says in other words."""


def describe(run: CheckedRun) -> str:
    """Task, model, techniques, what else tells it from others of its sweep, seed."""
    technique = "+".join(run.techniques) or "none"
    fold = run.data.task.fold
    task = run.data.task.name + ("" if fold is None else f" fold {fold}")
    arm = (run.cfg.get("sweep") or {}).get("arm") or ""
    overrides = re.split(r" (?=[+~\w][\w./@]*=)", arm)
    more = "".join(
        f" {override}" for override in overrides if override and not SAID.match(override)
    )
    return f"{task} {run.model.name} {technique}{more} seed {run.cfg['seed']}"


def reason(record: RunRecord) -> str:
    """Why a run crashed: the type of the error and the first line of what it says, if anything."""
    error = record.result["error"]
    return ": ".join([error["type"], *error["message"].splitlines()[:1]])


def verdict(record: RunRecord) -> str:
    """One phrase: the test score at the last step, or what went wrong."""
    result = record.result
    if record.status == "crashed":
        return f"crashed, {reason(record)}"
    if record.status == "diverged":
        return f"diverged, {result['error']['message']}"
    value = result["metrics"]["last"]["test"][result["metric"]]
    said = "undefined" if value is None else f"{value:.4f}"
    return f"{result['metric']} {said}" + (" (failed: degenerate)" if record.failed else "")

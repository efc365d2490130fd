"""What is said in a phrase: which run this is, how it ended, numbers, the first of many lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bluestab.core.types import RunRecord

if TYPE_CHECKING:
    from bluestab.training.check import Run

SAID = re.compile(r"(task|task\.fold|model|technique)=")
"""Overrides that `describe` says in other words."""


def describe(run: Run) -> str:
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


def verdict(record: RunRecord, *, blind: bool = False) -> str:
    """One phrase: the test score at the last step, or what went wrong.

    blind  the validation score in its place
    """
    result = record.result
    if record.status == "crashed":
        return f"crashed, {reason(record)}"
    if record.status == "diverged":
        return f"diverged, {result['error']['message']}"
    value = result["metrics"]["last"]["validation" if blind else "test"][result["metric"]]
    said = "undefined" if value is None else f"{value:.4f}"
    if blind:
        return f"validation {result['metric']} {said}"
    return f"{result['metric']} {said}" + (" (failed: degenerate)" if record.failed else "")


def number(value: float | None, digits: int = 4) -> str:
    """A number as a cell of a table; `-` where there is none."""
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def p_words(p: float) -> str:
    """`p = 0.031`, and never `p = 0.000`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def percent(share: float) -> str:
    """A share, to the percent."""
    return f"{100 * share:.0f} %"


SHOWN = 20
"""Sentences of one kind that are printed; `bluestab store verify` names all damaged records."""


def first_of(what: str, sentences: Sequence[str]) -> Iterator[str]:
    """The first sentences as lines, each after what it is about, and how many more there are."""
    for sentence in sentences[:SHOWN]:
        yield f"  {what}: {sentence}"
    if len(sentences) > SHOWN:
        yield f"  and {len(sentences) - SHOWN} more"

"""What the trials of a study say: which are points, which were stopped, what they scored.

Pure functions of trials; which user attributes they read is told in `trials.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bluestab.sweeps.search.race import Scores

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def points(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: one for each point, the latest. Not those that were passed over, nor
    those whose point was taken up again."""
    again = {t.user_attrs.get("retry_of") for t in trials}
    return [t for t in trials if t.number not in again and _counts(t)]


def _counts(trial: FrozenTrial) -> bool:
    why = trial.user_attrs.get("why")
    if trial.state.name == "FAIL":  # without a reason: its process died once too often
        return why == "crashed" or (why is None and "cell" in trial.user_attrs)
    return trial.state.name in ("COMPLETE", "PRUNED", "RUNNING")


def was_stopped(trial: FrozenTrial) -> bool:
    """Was the point given up before it had all its seeds?"""
    return trial.user_attrs.get("why") in ("stopped", "cut")


def took(job: str, trial: FrozenTrial) -> bool:
    """Did the task `<array>_<index>` of a cluster work on it, at any of its starts?"""
    return str(trial.user_attrs.get("job", "")).partition(".")[0] == job


def scores_of(trial: FrozenTrial) -> Scores:
    """Validation scores at the first seeds, in their order."""
    return [value for _, value in sorted(trial.intermediate_values.items())]


def n_runs(trial: FrozenTrial, n_seeds: int) -> int:
    """Seeds at which a point has a result. n_seeds: of a point that is complete."""
    is_whole = trial.state.name == "COMPLETE" and not was_stopped(trial)
    known = max(len(trial.intermediate_values), int(trial.user_attrs.get("runs", 0)))
    return known or (n_seeds if is_whole else 0)


def rivals(trials: Sequence[FrozenTrial], number: int) -> list[FrozenTrial]:
    """The other points that a point is compared with: finished, stopped, or under way."""
    return [t for t in points(trials) if t.number != number and t.state.name != "FAIL"]


def lineage(trials: Sequence[FrozenTrial], number: int) -> set[int]:
    """A trial and those whose point it is once more."""
    before = {t.number: t.user_attrs.get("retry_of") for t in trials}
    found: set[int] = set()
    current: int | None = number
    while current is not None and current not in found:
        found.add(current)
        current = before.get(current)
    return found


def n_drawn(trials: Sequence[FrozenTrial]) -> int:
    """How many points were drawn before: what seeds the next draw, however often it died."""
    return sum(is_drawn(t) for t in trials if "retry_of" not in t.user_attrs)


def is_drawn(trial: FrozenTrial) -> bool:
    """Accepted or refused: not of a process that died while it drew."""
    return "cell" in trial.user_attrs or "why" in trial.user_attrs

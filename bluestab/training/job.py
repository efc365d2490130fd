"""A job: one run, and all that training it needs to know besides its config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.training.check import Run
from bluestab.training.loop.ranks import Ranks

if TYPE_CHECKING:
    from bluestab.core.types import Progress, Watch


def no_progress(step: int, total: int, loss: float | None, score: float | None) -> None:
    """Takes the state after a step, and does nothing with it."""


def no_watch(rows: Sequence[Mapping[str, Any]]) -> None:
    """Takes the rows of the curve, and does nothing with them."""


@dataclass(frozen=True)
class Job:
    """A run to be trained and scored: where, and who is called meanwhile.

    work      folder in which the files of the run are written
    resume    folder of its checkpoint; a group of jobs has one, in that of the first
    device    as `devices.resolve` gives it
    progress  called after every step and every evaluation
    watch     called with all rows of the curve after every evaluation
    ranks     this process among those of the run
    seconds   phase -> seconds it took; filled while the run goes on, for the record of a crash
    """

    run: Run
    work: Path
    resume: Path
    device: str
    progress: Progress = no_progress
    watch: Watch = no_watch
    ranks: Ranks = field(default_factory=Ranks)
    seconds: dict[str, float] = field(default_factory=dict)

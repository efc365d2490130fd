"""The verb for what runs on a cluster, `bluestab cancel`, and what `bluestab status` says of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bluestab.cli.store import STORE, existing

POLL = 15.0  # seconds between two questions to the scheduler

SWEEP = Annotated[
    str | None, typer.Option("--sweep", help="Name of a sweep; default: all of the store")
]


def cancel(store: STORE = None, sweep: SWEEP = None) -> None:
    """End the SLURM tasks of a store or a sweep; what is finished stays: bluestab cancel runs"""
    from bluestab.core.errors import StoreError
    from bluestab.sweeps.slurm.cancelling import cancel as end
    from bluestab.sweeps.slurm.submission import submissions

    found = existing(store)
    ours = submissions(found, sweep)
    if sweep is not None and not ours:
        found.manifest(sweep)  # raises, naming the sweeps there are
    if not ours:
        what = f"sweep '{sweep}' in " if sweep else ""
        raise StoreError(f"nothing was submitted to SLURM for {what}the store '{found.root}'")
    jobs = end(ours)
    print(f"cancelled: job {', '.join(jobs)}" if jobs else "no task lives; nothing to cancel")


def print_standing(store: Any, sweep: str) -> None:
    """What SLURM says of a sweep's tasks; nothing if none were submitted."""
    from bluestab.sweeps.slurm.status import TaskStatus, of_interest
    from bluestab.sweeps.slurm.submission import submissions

    ours = of_interest(submissions(store, sweep))
    if not ours:
        return
    status = TaskStatus(ours)
    status.refresh()
    for line in (f"  {status.line}", *status.ends()):
        print(line)


def standing_note(store: Any, sweep: str) -> Callable[[], str]:
    """What SLURM says of a sweep's tasks, now and again: asked at most four times a minute."""
    from bluestab.sweeps.slurm.status import TaskStatus, of_interest
    from bluestab.sweeps.slurm.submission import root_of, submissions

    asked_at, said = -math.inf, ""

    def note() -> str:
        nonlocal asked_at, said
        if time.monotonic() - asked_at >= POLL and root_of(store).is_dir():
            ours = of_interest(submissions(store, sweep))
            status = TaskStatus(ours)
            if ours:
                status.refresh()
            asked_at, said = time.monotonic(), status.line if ours else ""
        return said

    return note

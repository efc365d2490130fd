"""The verb for what runs on a cluster, `bluestab cancel`, and what `bluestab status` says of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bluestab.cli.store import STORE, existing

POLL = 15.0  # seconds between two questions to the scheduler
SILENT = 60.0  # the same where it gave no answer

SWEEP = Annotated[
    str | None, typer.Option("--sweep", help="Name of a sweep; default: all of the store")
]


def cancel(store: STORE = None, sweep: SWEEP = None) -> None:
    """End the SLURM tasks of a store or a sweep.

    What is finished stays. Example: bluestab cancel runs
    """
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
    from bluestab.sweeps.slurm.status import TaskStatus
    from bluestab.sweeps.slurm.submission import submissions

    ours = submissions(store, sweep)
    if not ours:
        return
    status = TaskStatus(ours, narrow=True)
    status.refresh()
    for line in (f"  {status.line}", *status.ends()):
        print(line)


def standing_note(store: Any, sweep: str) -> Callable[[], str]:
    """What SLURM says of a sweep's tasks, now and again: one question, four times a minute at most.

    A SLURM that is silent is asked once a minute.
    """
    from bluestab.sweeps.slurm.status import TaskStatus
    from bluestab.sweeps.slurm.submission import root_of, submissions

    ask_at, said = -math.inf, ""
    status = TaskStatus([])

    def note() -> str:
        nonlocal ask_at, said, status
        if time.monotonic() < ask_at or not root_of(store).is_dir():
            return said
        ours = submissions(store, sweep)
        if not ours:
            return said
        if status.latest != ours[-1].comment:
            status = TaskStatus(ours, narrow=True)
        status.refresh()
        ask_at = time.monotonic() + (POLL if status.known else SILENT)
        said = status.line
        return said

    return note

"""Ends what was submitted, and takes the claims of what was ended away."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bluestab.store.claims import Claims
from bluestab.store.store import Store
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.submission import Submission

WAIT = 90.0  # seconds that tasks may take to give their runs back; SLURM kills them after KillWait
LOOK = 1.0  # seconds between two questions to the scheduler


def cancel(submissions: Sequence[Submission]) -> list[str]:
    """Cancel all their arrays and wait until no task lives; the arrays that were cancelled.

    Runs that can are given back with a checkpoint. Raises SchedulerError if SLURM does not answer,
    or if tasks live on.
    """
    jobs = {job: one for one in submissions for job in one.jobs()}
    live = _live(list(jobs))
    scheduler.cancel(live)
    end = time.monotonic() + WAIT
    while _live(live):
        if time.monotonic() > end:
            raise scheduler.SchedulerError(
                f"jobs {', '.join(live)} were cancelled {WAIT:.0f} seconds ago and still live; "
                "`squeue` shows them"
            )
        time.sleep(LOOK)
    for one in submissions:
        store = Store(one.content["store"])
        for claims in (store.claims, Claims(store.root / "searches" / one.sweep)):
            claims.release_jobs(live)
    return live


def _live(jobs: Sequence[str]) -> list[str]:
    tasks = scheduler.queued(jobs)
    if tasks is None:
        raise scheduler.SchedulerError("SLURM does not answer; try again when `squeue` does")
    return sorted({task.array for task in tasks if task.live}, key=int)

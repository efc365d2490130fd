"""Ends what was submitted, and takes the claims of what was ended away."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from bluestab.store.claims import Claims
from bluestab.store.store import Store
from bluestab.sweeps.slurm import own_tasks, scheduler
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.submission import Submission

WAIT = 90.0  # seconds that tasks may take to give their runs back; SLURM kills them after KillWait
LOOK = 1.0  # seconds between two questions to the scheduler


def cancel(submissions: Sequence[Submission]) -> list[str]:
    """Cancel all their arrays and wait until no task lives; the arrays that were cancelled.

    Runs that can are given back with a checkpoint. Raises SchedulerError if SLURM does not answer,
    or if tasks live on.
    """
    live = _live(submissions)
    for cluster in sorted({task.cluster for task in live}):
        arrays = _arrays(task for task in live if task.cluster == cluster)
        scheduler.cancel(arrays, cluster=cluster)
    mine = {task.comment for task in live}
    asked = [one for one in submissions if one.comment in mine]
    end = time.monotonic() + WAIT
    while _live(asked):
        if time.monotonic() > end:
            raise scheduler.SchedulerError(
                f"jobs {', '.join(_arrays(live))} were cancelled {WAIT:.0f} seconds ago and still "
                "live; `squeue` shows them"
            )
        time.sleep(LOOK)
    for one in asked:
        store = Store(one.content["store"])
        arrays = _arrays(task for task in live if task.comment == one.comment)
        for claims in (store.claims, Claims(store.root / "searches" / one.sweep)):
            claims.release_jobs(arrays)
    return _arrays(live)


def _live(submissions: Sequence[Submission]) -> list[ArrayTask]:
    """Their tasks that live; no task of anybody else, whatever ids are written down."""
    tasks = own_tasks.queued(submissions)
    if tasks is None:
        raise scheduler.SchedulerError("SLURM does not answer; try again when `squeue` does")
    for said in sorted({f"{t.array}: {t.reason}" for t in tasks if t.state == own_tasks.ELSEWHERE}):
        print(f"not cancelled: job {said}")
    return [task for task in tasks if task.live]


def _arrays(tasks: Iterable[ArrayTask]) -> list[str]:
    return sorted({task.array for task in tasks}, key=int)

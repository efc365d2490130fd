"""How the tasks of submissions stand, by SLURM's word: squeue first, then accounting if any.

The store says how the runs stand; this says what is pending, and why, and where the rest went.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from bluestab.core.errors import BluestabError
from bluestab.store.store import Store
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.failures import said_in
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.submission import Submission

LOOK = 1.0  # seconds between two looks at the store
POLL = 15.0  # seconds between two questions to the scheduler
LAG = 10.0  # seconds that a shared disk may take to show what a task wrote before it ended
SHOWN = 5  # nodes, or ended tasks, that are named


class TasksEnded(BluestabError):
    """All tasks are gone, and work is left."""

    exit_code = 1


class TaskStatus:
    """Tasks of some submissions; `refresh` asks again: one squeue, at most one sacct.

    tasks  job -> ArrayTask, as SLURM last said; known: whether it answered
    """

    def __init__(self, submissions: Sequence[Submission]) -> None:
        self.submissions = list(submissions)
        self.tasks: dict[str, ArrayTask] = {}
        self.known = False
        self._unaccounted: set[str] = set()

    def refresh(self) -> None:
        jobs = [job for one in self.submissions for job in one.jobs()]
        queued = scheduler.queued(jobs)
        self.known = queued is not None
        if queued is None:
            return
        now = {task.job: task for task in queued}
        gone = {job for job in self._expected() | set(self.tasks) if job not in now}
        unclear = {job for job in gone if job not in self.tasks or self.tasks[job].live}
        if unclear - self._unaccounted:
            arrays = {job.partition("_")[0] for job in unclear}
            accounted = {task.job: task for task in scheduler.accounted(arrays)}
            for job in unclear:
                # forgotten by squeue, so it has ended, whatever accounting has or has not heard
                task = accounted.get(job)
                ended = task is not None and not task.live
                self.tasks[job] = task if task and ended else ArrayTask(job, "ENDED")
                self._unaccounted |= set() if ended else {job}
        self.tasks.update(now)

    def _expected(self) -> set[str]:
        return {
            f"{array.job}_{index}"
            for one in self.submissions
            for array in one.arrays()
            for index in range(array.tasks)
        }

    @property
    def live(self) -> list[ArrayTask]:
        return [task for task in self.tasks.values() if task.live]

    @property
    def running(self) -> int:
        return sum(task.live and task.state != "PENDING" for task in self.tasks.values())

    @property
    def idle(self) -> bool:
        """No task is at work, whether others wait or not."""
        return self.known and not self.running

    @property
    def line(self) -> str:
        """`SLURM: 3 running (n1, n2), 12 pending (Priority), 1 FAILED`."""
        if not self.known:
            return "SLURM does not answer"
        parts = []
        states = Counter(task.state for task in self.tasks.values())
        for state in sorted(states, key=lambda s: (s != "RUNNING", s != "PENDING", s)):
            ours = [task for task in self.tasks.values() if task.state == state]
            word = state.lower() if state in ("RUNNING", "PENDING", "COMPLETED") else state
            parts.append(f"{states[state]} {word}{_detail(ours, state)}")
        return "SLURM: " + (", ".join(parts) or "no task")

    def ends(self) -> list[str]:
        """The tasks that did not end well: what SLURM says, and where they printed to."""
        bad = [t for t in self.tasks.values() if not t.live and t.state != "COMPLETED"]
        lines = []
        for task in sorted(bad, key=lambda task: task.job)[:SHOWN]:
            log = next(self._logs(task.job), None)
            where = f" on {task.node}" if task.node else ""
            code = f" {task.exit}" if task.exit else ""
            why = f" ({said})" if log and (said := said_in(log)) else ""
            lines.append(f"  task {task.job}: {task.state}{code}{where}{why}")
            lines += [f"    log: {log}"] if log else []
        if len(bad) > SHOWN:
            lines.append(f"  and {len(bad) - SHOWN} more")
        return lines

    def _logs(self, job: str) -> Iterator[Path]:
        return (log for one in self.submissions if (log := one.log_of(job)).is_file())

    def cancel_pending(self) -> None:
        """Tasks that would begin only to find nothing left."""
        arrays = sorted({t.array for t in self.live if t.state == "PENDING"})
        with suppress(scheduler.SchedulerError):
            scheduler.cancel(arrays, state="PENDING")


def _detail(tasks: Sequence[ArrayTask], state: str) -> str:
    if state == "PENDING":
        reasons = sorted({t.reason for t in tasks} - {"", "None"})
        again = sum(t.restarts > 0 for t in tasks)
        said = [*reasons[:SHOWN], *([f"{again} of them requeued"] if again else [])]
        return f" ({', '.join(said)})" if said else ""
    if state == "RUNNING":
        nodes = sorted({t.node for t in tasks} - {""})
        more = [f"{len(nodes) - SHOWN} more"] if len(nodes) > SHOWN else []
        return f" ({', '.join([*nodes[:SHOWN], *more])})" if nodes else ""
    return ""


def of_interest(submissions: Sequence[Submission]) -> list[Submission]:
    """Those with tasks that live; if none has, the latest."""
    jobs = {job: one for one in submissions for job in one.jobs()}
    live = {task.array for task in scheduler.queued(jobs) or [] if task.live}
    working = [one for one in submissions if live & set(one.jobs())]
    return working or list(submissions[-1:])


def status_line(store: Store, sweep: str, *, is_search: bool = False) -> str:
    """The command that shows a sweep, or a search, from any shell."""
    if is_search:
        return shlex.join(["bluestab", "search", str(store.root.absolute()), "--name", sweep])
    return shlex.join(["bluestab", "status", str(store.root.absolute()), "--sweep", sweep])

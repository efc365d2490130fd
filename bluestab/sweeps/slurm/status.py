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
from bluestab.sweeps.slurm import own_tasks, scheduler
from bluestab.sweeps.slurm.failures import is_memory, more_memory, said_in
from bluestab.sweeps.slurm.own_tasks import ELSEWHERE
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.submission import Submission

LOOK = 1.0  # seconds between two looks at the store
POLL = 15.0  # seconds between two questions to the scheduler
LAG = 10.0  # seconds that a shared disk may take to show what a task wrote before it ended
NO_OUTPUT = ":53"  # how the exit code ends of a job whose output file slurmd could not open
OUT_OF_MEMORY = "OUT_OF_MEMORY"  # a state
SHOWN = 5  # nodes, or ended tasks, that are named


class TasksEnded(BluestabError):
    """All tasks are gone, and work is left."""

    exit_code = 1


class TaskStatus:
    """Tasks of some submissions; `refresh` asks again: one squeue, at most one sacct.

    tasks   label -> ArrayTask, as SLURM last said; known: whether it answered
    narrow  of these submissions, only those with tasks that live; if none has, the latest
    latest  comment of the last of those that it was made for
    """

    def __init__(self, submissions: Sequence[Submission], *, narrow: bool = False) -> None:
        self.submissions, self._narrow = list(submissions), narrow
        self.latest = submissions[-1].comment if submissions else ""
        self.tasks: dict[str, ArrayTask] = {}
        self.known = False
        self._unaccounted: set[str] = set()

    def refresh(self) -> None:
        queued = own_tasks.queued(self.submissions)
        self.known = queued is not None
        if queued is None:
            return
        if self._narrow:
            self._keep_those_of_interest(queued)
        now = {task.label: task for task in queued if task.comment in self._comments()}
        self.known = not any(task.state == ELSEWHERE for task in now.values())
        known = {**{task.label: task for task in self._expected()}, **self.tasks}
        unclear = [
            task
            for label, task in known.items()
            if label not in now and (label not in self.tasks or task.live)
        ]
        if {task.label for task in unclear} - self._unaccounted:
            accounted = own_tasks.accounted(self.submissions, unclear)
            for old in unclear:
                # forgotten by squeue, so it has ended, whatever accounting has or has not heard
                task = accounted.get(old.label)
                ended = task is not None and not task.live
                gone = ArrayTask(old.job, "ENDED", cluster=old.cluster)
                self.tasks[old.label] = task if task and ended else gone
                self._unaccounted |= set() if ended else {old.label}
        self.tasks.update(now)

    def _keep_those_of_interest(self, queued: Sequence[ArrayTask]) -> None:
        """Submissions with tasks that live; if none has, the latest."""
        live = {task.comment for task in queued if task.live}
        working = [one for one in self.submissions if one.comment in live]
        self.submissions = working or self.submissions[-1:]

    def _comments(self) -> set[str]:
        return {one.comment for one in self.submissions}

    def _expected(self) -> list[ArrayTask]:
        return [
            ArrayTask(f"{array.job}_{index}", "PENDING", cluster=cluster)
            for one in self.submissions
            for array in one.arrays()
            for cluster in [own_tasks.other_cluster(array.cluster)]
            for index in range(array.tasks)
        ]

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
        elsewhere = sorted({t.reason for t in self.tasks.values() if t.state == ELSEWHERE})
        if not self.known:
            return f"SLURM: {', '.join(elsewhere)}" if elsewhere else "SLURM does not answer"
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
            log, known = next(self._logs(task.job), None), self._of(task)
            where = f" on {task.node}" if task.node else ""
            code = f" {task.exit}" if task.exit else ""
            said = said_in(log) if log else ""
            if log is None and task.exit.endswith(NO_OUTPUT) and known is not None:
                said = (
                    f"{task.node or 'its node'} cannot write to {known.folder}: the store must be "
                    "on a disk that the nodes share with this machine"
                )
            if known is not None and (task.state == OUT_OF_MEMORY or is_memory(said)):
                said = "; ".join(filter(None, (said, more_memory(known))))
            why = f" ({said})" if said else ""
            lines.append(f"  task {task.label}: {task.state}{code}{where}{why}")
            lines += [f"    log: {log}"] if log else []
        if len(bad) > SHOWN:
            lines.append(f"  and {len(bad) - SHOWN} more")
        return lines

    def _of(self, task: ArrayTask) -> Submission | None:
        """The submission that it is a task of."""
        arrays = {array.job: one for one in self.submissions for array in one.arrays()}
        return arrays.get(task.array)

    def _logs(self, job: str) -> Iterator[Path]:
        return (log for one in self.submissions if (log := one.log_of(job)).is_file())

    def cancel_pending(self) -> None:
        """Tasks that would begin only to find nothing left."""
        pending = [task for task in self.live if task.state == "PENDING"]
        for cluster in sorted({task.cluster for task in pending}):
            arrays = sorted({task.array for task in pending if task.cluster == cluster})
            with suppress(scheduler.SchedulerError):
                scheduler.cancel(arrays, state="PENDING", cluster=cluster)


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


def status_line(store: Store, sweep: str, *, is_search: bool = False) -> str:
    """The command that shows a sweep, or a search, from any shell."""
    if is_search:
        return shlex.join(["bluestab", "search", str(store.root.absolute()), "--name", sweep])
    return shlex.join(["bluestab", "status", str(store.root.absolute()), "--sweep", sweep])

"""The tasks of submissions, by SLURM's word: a job is ours only if its comment is.

Ids are given out again where a controller is set up anew, and two clusters give out the same: what
is attached to, counted or cancelled is therefore known by the comment, the folder of its orders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bluestab.core.errors import ConfigError
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.scheduler import ArrayTask, SchedulerError
from bluestab.sweeps.slurm.submission import Submission

ELSEWHERE = "ELSEWHERE"
"""State of a task on a cluster that cannot be asked from here."""


def queued(submissions: Sequence[Submission]) -> list[ArrayTask] | None:
    """Their tasks that squeue knows, by one question to each cluster; None if SLURM is silent.

    Tasks on another cluster that does not answer are ELSEWHERE.
    """
    comments = {one.comment for one in submissions}
    found: list[ArrayTask] = []
    try:
        wanted = jobs_by_cluster(submissions)
    except SchedulerError:
        return None
    for cluster, jobs in wanted.items():
        tasks = scheduler.queued(jobs, comments, cluster)
        if tasks is not None:
            found += [task for task in tasks if task.comment in comments]
        elif not cluster or not scheduler.here():
            return None
        else:
            found += _elsewhere(submissions, cluster)
    return found


def jobs_by_cluster(submissions: Sequence[Submission]) -> dict[str, list[str]]:
    """Ids of their arrays; "" is the cluster that needs no name.

    Raises SchedulerError if SLURM would have to be asked and is silent.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for one in submissions:
        arrays = one.arrays()
        for array in arrays:
            wanted[other_cluster(array.cluster)].append(array.job)
        known = {array.job for array in arrays}
        if new := [job for job in one.find_jobs() if job not in known]:
            wanted[""] += new
    return wanted


def other_cluster(name: str) -> str:
    """The name of a cluster if it must be named; "" if it is the one that is asked anyway."""
    return "" if not name or name == scheduler.here() else name


def _elsewhere(submissions: Sequence[Submission], cluster: str) -> list[ArrayTask]:
    reason = f"cluster {cluster} cannot be asked from here"
    return [
        ArrayTask(f"{array.job}_{index}", ELSEWHERE, reason, comment=one.comment, cluster=cluster)
        for one in submissions
        for array in one.arrays()
        if array.cluster == cluster
        for index in range(array.tasks)
    ]


def accounted(
    submissions: Sequence[Submission], tasks: Sequence[ArrayTask]
) -> dict[str, ArrayTask]:
    """Label -> what accounting knows of these tasks."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for task in tasks:
        wanted[task.cluster].add(task.array)
    return {
        task.label: task
        for cluster, arrays in wanted.items()
        for task in scheduler.accounted(arrays, cluster=cluster)
        if any(one.may_own(task.comment, task.name) for one in submissions)
    }


def live(submission: Submission, question: str) -> bool:
    """Does a task of this submission live? `question` is what is not known where SLURM is silent.

    Raises ConfigError then: submitting twice would be worse than waiting.
    """
    tasks = queued([submission])
    if tasks is None:
        raise ConfigError(
            f"SLURM does not answer, so it is not known whether {question}; try again when "
            "`squeue` does"
        )
    if other := sorted({task.array for task in tasks if task.state == ELSEWHERE}):
        print(
            f"job {', '.join(other)}: {tasks[0].reason}; if its tasks live, they and new ones "
            "share what is left through the store"
        )
    return any(task.live for task in tasks)

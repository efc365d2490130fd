"""Job arrays: how many a submission takes, and how much of them SLURM does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bluestab.store.files import write_text
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.script import SUBMIT_LIMIT, refused
from bluestab.sweeps.slurm.submission import Array, Submission

LARGEST = 1000  # tasks of an array where the cluster does not tell its limit
PAUSES = (1, 2, 5, 10, 20)  # seconds between looks for an array that sbatch gave no answer about


@dataclass(frozen=True)
class PlannedArray:
    """Tasks `first` ... `first + tasks - 1` of a submission, `at_once` of which may run at once
    (None: as many as the cluster gives)."""

    first: int
    tasks: int
    at_once: int | None


def split(tasks: int, at_once: int | None = None) -> list[PlannedArray]:
    """The arrays of so many tasks, under the cluster's `MaxArraySize`.

    at_once  shared out among them. There are no more arrays than that, since each runs a task at
             least: the tasks beyond are left out, for work is pulled by those that are there
    """
    said = scheduler.settings().get("MaxArraySize", "")
    size = max(1, int(said) - 1) if said.isdigit() and int(said) > 1 else LARGEST
    starts = range(0, tasks, size)[:at_once]
    return [
        PlannedArray(
            first,
            min(size, tasks - first),
            None if at_once is None else at_once // len(starts) + (i < at_once % len(starts)),
        )
        for i, first in enumerate(starts)
    ]


def hand_over(
    submission: Submission,
    arrays: Sequence[PlannedArray],
    script_of: Callable[[PlannedArray], str],
) -> None:
    """Submit the arrays. Raises ConfigError if SLURM takes no task, NoAnswerError if it does not
    say whether it took them.

    Where it takes fewer than asked, these do all the work, and nobody waits for the others.
    """
    local = _cluster_here()
    for number, array in enumerate(arrays):
        path = submission.folder / f"script-{number}.sh"
        job, taken, refusal = _submit(submission, path, array, script_of)
        if taken:
            name, _, cluster = job.partition(";")
            submission.write_array(number, Array(name, array.first, taken, cluster or local))
        if refusal:
            in_all = array.first + taken
            if not in_all:
                error = refused(refusal, path.read_text())
                submission.withdraw()
                raise error
            if not taken:
                path.unlink()
            print(f"only {in_all} of {submission.tasks} tasks were taken: {refusal}")
            submission.refuse(submission.tasks - in_all)
            break


def _submit(
    submission: Submission,
    path: Path,
    array: PlannedArray,
    script_of: Callable[[PlannedArray], str],
) -> tuple[str, int, str]:
    """Submit an array, or one of half its tasks where a limit forbids it, and so on.

    Its id, its tasks (0 if SLURM takes none), and why there are not more.
    """
    tasks, refusal = array.tasks, ""
    while tasks:
        write_text(path, script_of(replace(array, tasks=tasks)))
        try:
            return scheduler.submit(str(path)), tasks, refusal
        except scheduler.NoAnswerError as error:
            return _taken_without_answer(submission, error), tasks, refusal
        except scheduler.SchedulerError as error:
            refusal = str(error)
        tasks = tasks // 2 if SUBMIT_LIMIT.search(refusal) else 0
    return "", 0, refusal


def _taken_without_answer(submission: Submission, error: scheduler.NoAnswerError) -> str:
    """The id of the array that a silent sbatch handed over all the same, by its comment.

    The orders stay where it is not seen, for its tasks may come yet.
    """
    known = {array.job for array in submission.arrays()}
    for pause in PAUSES:
        time.sleep(pause)
        if new := set(scheduler.jobs_with_comment(submission.comment) or []) - known:
            return max(new, key=int)
    raise scheduler.NoAnswerError(
        f"{error}, and in {sum(PAUSES)} seconds more no job of {submission.folder} was seen; type "
        "the same command again once squeue answers: it finds the job if SLURM took it"
    ) from error


def _cluster_here() -> str:
    with suppress(scheduler.SchedulerError):
        return scheduler.here()
    return ""

"""Why a process died that nobody saw dying: from the log of its task, from the scheduler."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bluestab.sweeps.failures import NodeFailed, OutOfMemoryKilled, TimeLimitReached, WorkerDied
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.submission import Submission

MANY = 3
"""Deaths after which a run counts as crashed."""

TAIL = 2**16  # bytes at the end of a log that are looked at

HEADER = "bluestab task "
"""How the line begins that a task prints at every start: `bluestab task 12_3.0 ...`."""

IN_LOG: Sequence[tuple[re.Pattern[str], type[WorkerDied]]] = (
    # what slurmstepd writes, and what a task says that was told of its limit (see slurm/task.py)
    (re.compile(r"exceeded memory limit|oom.kill|out.of.memory", re.I), OutOfMemoryKilled),
    (re.compile(r"DUE TO TIME LIMIT|the time limit is near"), TimeLimitReached),
    (re.compile(r"DUE TO NODE FAILURE"), NodeFailed),
)
NO_INTERPRETER = re.compile(r"execve\(\): (.*)")
"""What slurmstepd writes where it cannot start the command of a task."""

STATES: Mapping[str, type[WorkerDied]] = {
    "OUT_OF_MEMORY": OutOfMemoryKilled,
    "NODE_FAIL": NodeFailed,
    "BOOT_FAIL": NodeFailed,
    "TIMEOUT": TimeLimitReached,
    "DEADLINE": TimeLimitReached,
}


def counted(submission: Submission, deaths: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Deaths that may be a run's own doing: not those of tasks that were told to stop."""
    return [d for d in deaths if not submission.is_excused(str(d.get("job", "")))]


def cause(submission: Submission, deaths: Sequence[Mapping[str, Any]]) -> WorkerDied:
    """One sentence about several deaths at one run; its type is that of the last known cause."""
    kinds = [_cause(submission, death) for death in deaths]
    told = [f"{_where(d)} ({said})" for d, (_, said) in zip(deaths, kinds, strict=True)]
    known = [kind for kind, _ in kinds if kind is not WorkerDied]
    kind = known[-1] if known else WorkerDied
    said = f"the process that did it died {len(deaths)} times: " + ", ".join(told)
    return kind(f"{said}; {more_memory(submission)}" if kind is OutOfMemoryKilled else said)


def more_memory(submission: Submission) -> str:
    """Which knob asks for more memory, and what it stood at."""
    mem = submission.content["launcher"].get("mem")
    if mem is None:
        return "hydra.launcher.mem, which is not set, asks for more memory"
    return f"hydra.launcher.mem={mem} asks for memory, and more can be asked for"


def is_memory(said: str) -> bool:
    """Do the words of a log tell of a limit of memory?"""
    return IN_LOG[0][0].search(said) is not None


def _where(death: Mapping[str, Any]) -> str:
    job, host = str(death.get("job", "")), str(death.get("host", "unknown host"))
    return f"in task {job.partition('.')[0]} on {host}" if job else f"on {host}"


def _cause(submission: Submission, death: Mapping[str, Any]) -> tuple[type[WorkerDied], str]:
    job = str(death.get("job", ""))
    said = own_part(submission.log_of(job.partition(".")[0]), job)
    for pattern, kind in IN_LOG:
        if found := pattern.search(said):
            return kind, f"its log says: {found.group()}"
    array = job.partition("_")[0]
    if not array.isdigit():
        return WorkerDied, "no task of this submission"
    name, _, restart = job.partition(".")
    runs = [
        task
        for task in scheduler.accounted([array], every=True)
        if task.job == name and submission.may_own(task.comment, task.name)
    ]
    runs = runs or [
        task
        for task in scheduler.queued([array], [submission.comment]) or []
        if task.job == name and task.comment == submission.comment
    ]
    if not runs:
        return WorkerDied, "SLURM knows nothing of it any more"
    which = int(restart) if restart.isdigit() else 0
    task = runs[min(which, len(runs) - 1)]
    return STATES.get(task.state, WorkerDied), f"{task.state} {task.exit}".strip()


def own_part(log: Path, job: str) -> str:
    """Of the end of a task's log, what was written from its start as `<array>_<index>.<restart>`
    until the next one."""
    own = [part for part in _starts(log) if part.startswith(f"{HEADER}{job} ")]
    return own[-1] if own else ""


def said_in(log: Path) -> str:
    """Why a task ended, in the words of its log; "" if it does not say."""
    last = (_starts(log) or [""])[-1]
    if not_begun := NO_INTERPRETER.search(last):
        return (
            f"{not_begun.group(1)}; the interpreter must be on a disk that the nodes share: "
            "hydra.launcher.python names another"
        )
    found = re.findall(r"^bluestab: (.*)", last, flags=re.MULTILINE)
    found = found or [match.group() for pattern, _ in IN_LOG if (match := pattern.search(last))]
    return found[-1][:400] if found else ""


def _starts(log: Path) -> list[str]:
    """The end of a task's log, cut where the task began anew."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return re.split(rf"^(?={HEADER})", text, flags=re.MULTILINE)

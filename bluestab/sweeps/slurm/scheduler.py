"""What SLURM says of jobs, and the few things it is asked to do. Nothing else talks to it.

Jobs are named as SLURM names the tasks of an array: `<array>_<index>`. What cannot be asked now
(a controller that is restarted, a cluster without accounting) is None or missing, never guessed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bluestab.core.errors import BluestabError, ConfigError

PATIENCE = 60  # seconds a command of SLURM may take
LIVE = frozenset(
    (
        *("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING"),
        *("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SIGNALING", "STAGE_OUT"),
    )
)
"""States from which a job goes on by itself, or may."""


class SchedulerError(BluestabError):
    """SLURM refused, or could not be asked."""


@dataclass(frozen=True)
class ArrayTask:
    """One task of an array (or a plain job), as SLURM sees it.

    state   PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT, NODE_FAIL, OUT_OF_MEMORY, ...
    reason  why it is pending, in SLURM's word; exit: `code:signal`, where it has ended
    """

    job: str
    state: str
    reason: str = ""
    node: str = ""
    exit: str = ""
    restarts: int = 0

    @property
    def array(self) -> str:
        return self.job.partition("_")[0]

    @property
    def live(self) -> bool:
        return self.state in LIVE


def installed() -> bool:
    """Is this a machine that can submit?"""
    return shutil.which("sbatch") is not None and shutil.which("squeue") is not None


def ask(*command: str) -> str:
    """The answer of a command of SLURM. Raises SchedulerError with what it says."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except FileNotFoundError as error:
        raise SchedulerError(f"there is no {command[0]} on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise SchedulerError(f"{command[0]} gave no answer in {PATIENCE} seconds") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise SchedulerError(f"{command[0]} says: {said or f'exit code {done.returncode}'}")
    return done.stdout


def submit(script: str) -> str:
    """Hand a batch script to SLURM; the id of its array. Raises SchedulerError."""
    said = ask("sbatch", "--parsable", script)
    match = re.match(r"\d+", said.strip())
    if match is None:
        raise SchedulerError(f"sbatch gave no job id but: {said.strip()[:200]}")
    return match.group()


def queued(arrays: Iterable[str]) -> list[ArrayTask] | None:
    """Tasks of these arrays that squeue knows: live ones, and for some minutes those that ended.

    None if the controller cannot be asked now.
    """
    wanted = sorted(set(arrays), key=int)
    if not wanted:
        return []
    try:
        lines = ask(
            *("squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(wanted)}"),
            "--Format=ArrayJobID:12|,ArrayTaskID:12|,JobID:12|,State:20|,Reason:80|,NodeList:80|,"
            "exit_code:12|,RestartCnt:12|",
        ).splitlines()
    except SchedulerError as error:
        return [] if "Invalid job id" in str(error) else None
    found = []
    for line in lines:
        fields = [field.strip() for field in line.split("|")]
        if len(fields) < 8:
            continue
        array, index, plain, state, reason, node, code, restarts = fields[:8]
        job = f"{array}_{index}" if index.isdigit() else plain
        found.append(ArrayTask(job, state, reason, node, _code(code), _number(restarts)))
    return found


def lives(arrays: Sequence[str], question: str) -> bool:
    """Does a task of these arrays live? `question` is what is not known where SLURM is silent.

    Raises ConfigError then: submitting twice would be worse than waiting.
    """
    tasks = queued(arrays)
    if tasks is None:
        raise ConfigError(
            f"SLURM does not answer, so it is not known whether {question}; try again when "
            "`squeue` does"
        )
    return any(task.live for task in tasks)


def accounted(arrays: Iterable[str], every: bool = False) -> list[ArrayTask]:
    """Tasks of these arrays as accounting knows them; [] where there is none, or none answers.

    every  what was requeued, too: one ArrayTask for each time it ran
    """
    wanted = sorted(set(arrays), key=int)
    if not wanted:
        return []
    with suppress(SchedulerError):
        command = ["sacct", "--noheader", "--parsable2", "--allocations", "--starttime=now-30days"]
        command += ["--duplicates"] if every else []
        command += ["--format=JobID,State,ExitCode,NodeList", f"--jobs={','.join(wanted)}"]
        return [_accounted(line) for line in ask(*command).splitlines() if line.count("|") >= 3]
    return []


def _accounted(line: str) -> ArrayTask:
    job, state, code, node = line.split("|")[:4]
    return ArrayTask(job, (state.split() or [""])[0], "", node, code)  # "CANCELLED by 1000"


def jobs_with_comment(comment: str) -> list[str] | None:
    """Arrays of this user that were submitted with this comment; None if nobody can be asked."""
    try:
        said = ask("squeue", "--me", "--noheader", "--states=all", "--format=%F|%k")
    except SchedulerError:
        return None
    pairs = [line.partition("|") for line in said.splitlines()]
    return sorted({array.strip() for array, _, said in pairs if said.strip() == comment})


def cancel(arrays: Sequence[str], state: str | None = None) -> None:
    """Cancel arrays; state: only their tasks in it. Raises SchedulerError."""
    if arrays:
        ask("scancel", *([f"--state={state}"] if state else []), *arrays)


def requeue(job: str) -> None:
    """Put a running task of this user back into the queue. Raises SchedulerError."""
    ask("scontrol", "requeue", job)


def settings() -> Mapping[str, str]:
    """The cluster's configuration: `MaxArraySize`, `KillWait`, ...; {} if it cannot be asked."""
    with suppress(SchedulerError):
        lines = ask("scontrol", "show", "config").splitlines()
        pairs = [line.partition("=") for line in lines]
        return {name.strip(): value.strip() for name, _, value in pairs}
    return {}


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _code(text: str) -> str:
    """squeue's exit code is that of wait(2): 256 is `1:0`, 9 is `0:9`."""
    code = _number(text)
    return f"{code >> 8}:{code & 127}" if code else ""

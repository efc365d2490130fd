"""What SLURM says of jobs, and the few things it is asked to do. Nothing else talks to it.

Jobs are named as SLURM names the tasks of an array: `<array>_<index>`. What cannot be asked now
(a controller that is restarted, a cluster without accounting) is None or missing, never guessed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bluestab.core.errors import BluestabError
from bluestab.sweeps.slurm.environment import cleaned

PATIENCE = 60  # seconds a command of SLURM may take that changes something
LOOKING = 15  # seconds for one that only looks: a person waits for its answer
TIMED_OUT = "Socket timed out"  # what SLURM's commands say of a controller that did not answer them
LOOKS = (("squeue",), ("sacct",), ("scontrol", "show"))
LIVE = frozenset(
    (
        *("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING"),
        *("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SIGNALING", "STAGE_OUT"),
    )
)
"""States from which a job goes on by itself, or may."""


class SchedulerError(BluestabError):
    """SLURM refused, or could not be asked."""


class NoAnswerError(SchedulerError):
    """A command of SLURM gave no answer in time: what it was asked for may have happened."""


@dataclass(frozen=True)
class ArrayTask:
    """One task of an array (or a plain job), as SLURM sees it.

    state   PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT, NODE_FAIL, OUT_OF_MEMORY, ...
    reason  why it is pending, in SLURM's word; exit: `code:signal`, where it has ended
    comment, name  as it was submitted; "" where SLURM does not say
    cluster  where it is, if not on the cluster that is asked unless one is named
    """

    job: str
    state: str
    reason: str = ""
    node: str = ""
    exit: str = ""
    restarts: int = 0
    comment: str = ""
    name: str = ""
    cluster: str = ""

    @property
    def label(self) -> str:
        """Its id, unique over all clusters."""
        return f"{self.job} on {self.cluster}" if self.cluster else self.job

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
    """The answer of a command of SLURM, in an environment that changes nothing about it.

    Raises SchedulerError with what it says.
    """
    patience = LOOKING if command[:1] in LOOKS or command[:2] in LOOKS else PATIENCE
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=patience, env=cleaned(os.environ)
        )
    except FileNotFoundError as error:
        raise SchedulerError(f"there is no {command[0]} on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswerError(f"{command[0]} gave no answer in {patience} seconds") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        kind = NoAnswerError if TIMED_OUT in said else SchedulerError
        raise kind(f"{command[0]} says: {said or f'exit code {done.returncode}'}")
    return done.stdout


def submit(script: str) -> str:
    """Hand a batch script to SLURM; the id of its array, `12`, or `12;cluster` where SLURM names
    the cluster that took it. Raises SchedulerError, NoAnswerError where it may have taken it.

    Some sites' sbatch says more before it: the id is a line of its own.
    """
    said = ask("sbatch", "--parsable", script)
    ids = re.findall(r"^\d+(?:;\S+)?$", said, flags=re.MULTILINE)
    if not ids:
        raise NoAnswerError(f"sbatch gave no job id but: {said.strip()[:200]}")
    return str(ids[-1])


def here() -> str:
    """The cluster that is asked unless another is named; "" if it does not say.

    Raises SchedulerError if SLURM does not answer. What it said once holds while this process
    lives.
    """
    of = os.environ.get("SLURM_CONF", "")
    if of not in _HERE:
        _HERE[of] = _pairs(ask("scontrol", "show", "config")).get("ClusterName", "")
    return _HERE[of]


_HERE: dict[str, str] = {}


def queued(
    arrays: Iterable[str], comments: Iterable[str] = (), cluster: str = ""
) -> list[ArrayTask] | None:
    """Tasks of these arrays that squeue knows: live ones, and for some minutes those that ended.

    comments  those that are of interest: longer ones are cut

    None if the controller cannot be asked now.
    """
    wanted = sorted(set(arrays), key=int)
    if not wanted:
        return []
    width = max(map(len, comments), default=0) + 2  # a longer one stays unlike all of them
    try:
        lines = ask(
            *("squeue", *_on(cluster), "--noheader", "--array", "--states=all"),
            *(f"--jobs={','.join(wanted)}", f"--Format={FIELDS},Comment:{width}|"),
        ).splitlines()
    except SchedulerError as error:
        return [] if "Invalid job id" in str(error) else None
    found = []
    for line in lines:
        fields = [field.strip() for field in line.split("|", 8)]
        if len(fields) < 8:
            continue
        array, index, plain, state, reason, node, code, restarts = fields[:8]
        job = f"{array}_{index}" if index.isdigit() else plain
        said = fields[8].removesuffix("|").strip() if len(fields) > 8 else ""
        found.append(
            ArrayTask(
                *(job, state, reason, node, _code(code), _number(restarts)),
                comment=said,
                cluster=cluster,
            )
        )
    return found


FIELDS = (
    "ArrayJobID:12|,ArrayTaskID:12|,JobID:12|,State:20|,Reason:80|,NodeList:80|,exit_code:12|,"
    "RestartCnt:12|"
)


def _on(cluster: str) -> list[str]:
    return [f"--clusters={cluster}"] if cluster else []


def accounted(arrays: Iterable[str], every: bool = False, cluster: str = "") -> list[ArrayTask]:
    """Tasks of these arrays as accounting knows them; [] where there is none, or none answers.

    every  what was requeued, too: one ArrayTask for each time it ran
    """
    wanted = sorted(set(arrays), key=int)
    if not wanted:
        return []
    with suppress(SchedulerError):
        command = ["sacct", "--noheader", "--parsable2", "--allocations", "--starttime=now-30days"]
        command += ["--duplicates"] if every else []
        command += [*_on(cluster), f"--jobs={','.join(wanted)}"]
        command += ["--format=JobID,State,ExitCode,NodeList,JobName,Comment"]
        lines = [line for line in ask(*command).splitlines() if line.count("|") >= 3]
        return [_accounted(line, cluster) for line in lines]
    return []


def _accounted(line: str, cluster: str) -> ArrayTask:
    job, state, code, node, *more = line.split("|", 5)
    name, comment = (*more, "", "")[:2]
    return ArrayTask(
        *(job, (state.split() or [""])[0], "", node, code),  # "CANCELLED by 1000"
        comment=comment,
        name=name,
        cluster=cluster,
    )


def jobs_with_comment(comment: str, user: int | None = None) -> list[str] | None:
    """Arrays that were submitted with this comment; None if nobody can be asked.

    user  who submitted them, by number; None: this one
    """
    whose = "--me" if user is None else f"--user={user}"
    try:
        said = ask("squeue", whose, "--noheader", "--states=all", "--format=%F|%k")
    except SchedulerError:
        return None
    pairs = [line.partition("|") for line in said.splitlines()]
    return sorted({array.strip() for array, _, said in pairs if said.strip() == comment})


def cancel(arrays: Sequence[str], state: str | None = None, cluster: str = "") -> None:
    """Cancel arrays; state: only their tasks in it. Raises SchedulerError."""
    if arrays:
        ask("scancel", *_on(cluster), *([f"--state={state}"] if state else []), *arrays)


def requeue(job: str) -> None:
    """Put a running task of this user back into the queue. Raises SchedulerError."""
    ask("scontrol", "requeue", job)


def settings() -> Mapping[str, str]:
    """The cluster's configuration: `MaxArraySize`, `KillWait`, ...; {} if it cannot be asked."""
    with suppress(SchedulerError):
        return _pairs(ask("scontrol", "show", "config"))
    return {}


def partitions(names: str | None) -> dict[str, dict[str, str]]:
    """Partition -> its settings: `DefaultTime`, `MaxTime`, ...; {} if SLURM does not say.

    names  as sbatch takes them, with commas; None: the one that jobs go to unless they name one
    """
    try:
        lines = ask("scontrol", "show", "partition", "--oneliner").splitlines()
    except SchedulerError:
        return {}
    settings = [dict(p.split("=", 1) for p in line.split() if "=" in p) for line in lines]
    known = {one["PartitionName"]: one for one in settings if "PartitionName" in one}
    if names is None:
        return {name: one for name, one in known.items() if one.get("Default") == "YES"}
    return {name: known[name] for name in names.split(",") if name in known}


def _pairs(said: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in said.splitlines()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _code(text: str) -> str:
    """squeue's exit code is that of wait(2): 256 is `1:0`, 9 is `0:9`."""
    code = _number(text)
    return f"{code >> 8}:{code & 127}" if code else ""

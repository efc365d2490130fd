"""A task of an array, from inside: take the next run that nobody works on, until none is left.

    python -m bluestab.sweeps.slurm.task FOLDER --first=N

Exit codes: 0 its runs are done, or its time was up and it put itself back into the queue; 1 one of
its runs crashed, or the database of its search stayed away; 2 it could not work at all; 143 it was
told to stop (SLURM says PREEMPTED, CANCELLED, ...), 130 by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from bluestab.core import devices
from bluestab.core.errors import BluestabError, Interrupted
from bluestab.core.preemption import WARNING
from bluestab.core.printable import counted
from bluestab.report.terminal.progress import SweepDisplay
from bluestab.store.store import Store
from bluestab.sweeps.attempt import Execute, Together
from bluestab.sweeps.pool import assign_devices, work_off
from bluestab.sweeps.queue import LOOK_AGAIN
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.failures import HEADER
from bluestab.sweeps.slurm.queue import SharedQueue, StandbySlot
from bluestab.sweeps.slurm.submission import Submission
from bluestab.sweeps.stopping import Stop

if TYPE_CHECKING:
    from bluestab.sweeps.search.trials import Trials

KILL_WAIT = 25.0  # seconds after SIGTERM until what runs is cut off; SLURM's own KillWait is 30
IN_VAIN = 3  # starts in a row that get nowhere before their time limit; then a task stays away
SPARE = 20.0  # seconds before the time limit at which what runs is cut off: to requeue, and leave


class PreemptionNotice(Stop):
    """SLURM says that the task will end: what runs is given back in the time that is left.

    Near the time limit, runs that end soon are awaited first.
    """

    def __init__(self, say: Callable[[str], None], submission: Submission, job: str) -> None:
        super().__init__(say)
        self.submission, self.job = submission, job
        self.time_is_up = self.told = False

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, WARNING):
            signal.signal(number, self._noticed)
        return super().__enter__()

    def _noticed(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == WARNING:
            self.time_is_up, why = True, "the time limit is near"
            delay = float(self.submission.content["launcher"]["signal_delay"])
            order_at, until = now + 0.4 * delay, now + max(delay - SPARE, 0.75 * delay)
        else:
            self.told, why = True, "SLURM ends this task"
            order_at, until = now, now + KILL_WAIT
            self.submission.excuse(self.job)
        self.until = until if self.until is None else min(self.until, until)
        self.order_at = order_at if not self.asked else min(self.order_at, order_at)
        if not self.asked:
            self.asked = True
            self._say(f"{why}: what does not end by itself is given back, with a checkpoint")


def work(
    submission: Submission,
    index: int,
    job: str,
    execute: Execute | None = None,
    together: Together | None = None,
) -> int:
    """Do what this task can; its exit code.

    index  of the task, among those of the submission; job: `<array>_<index>.<restart>`
    """
    store, knobs = Store(submission.content["store"]), submission.content["launcher"]
    store.make_writable()
    submission.begin(index)
    if submission.is_search:
        return search_on(submission, job, execute)
    queue = SharedQueue(
        *(submission, store, knobs["runs_per_task"], partial(print, flush=True)),
        seconds=knobs.get("task_seconds"),  # a submission of before may lack it
    )
    if not len(queue):
        print("nothing is left to do here", flush=True)
        return 0
    configs = submission.content["configs"]
    where = _devices(knobs, configs)[: knobs["runs_per_task"]]
    budget_mb = 0.8 * _memory_mb() / len(where)
    keys = list(queue.orders)
    with (
        SweepDisplay(submission.sweep, keys, store, workers=len(where)) as display,
        PreemptionNotice(display.say, submission, job) as notice,
    ):
        try:
            group = knobs.get("group", 1)  # a submission of before may lack it
            work_off(queue, where, budget_mb, display, notice, execute, together, group)
        finally:
            queue.close()
    crashed = [key for key in queue.crashed_here if not store.has(key)]
    for key in sorted(queue.cut):
        print(f"run {key} did not stop in time and was cut off", flush=True)
    if crashed:
        print(f"{counted(len(crashed), 'run')} crashed here: {', '.join(crashed)}", flush=True)
    return _end(notice, crashed=bool(crashed), is_left=queue.is_left, got_on=queue.got_on)


def search_on(submission: Submission, job: str, execute: Execute | None = None) -> int:
    """Work on the points of a search until there are enough; the exit code of this task."""
    from bluestab.sweeps.search.patience import StoragePatience
    from bluestab.sweeps.search.plan import first_run
    from bluestab.sweeps.search.pool import in_processes
    from bluestab.sweeps.search.progress import ProgressPrinter
    from bluestab.sweeps.search.saved import read_search
    from bluestab.sweeps.search.told import took
    from bluestab.sweeps.search.trials import Trials

    store, knobs = Store(submission.content["store"]), submission.content["launcher"]
    search = read_search(store.root, submission.sweep)
    where, name, ended = _devices(knobs, [first_run(search).cfg]), job.partition(".")[0], ""
    standby, patience = StandbySlot(submission), StoragePatience(partial(print, flush=True))
    with PreemptionNotice(print, submission, job) as notice:
        patience.asked = lambda: notice.asked
        try:
            trials = Trials.open(search, patience=patience)
            before, printer = _far(trials, store), ProgressPrinter(trials, name)
            while ended not in ("exhausted", "crashed") and not notice.asked:
                if trials.left() > 0 or trials.dead():
                    standby.at_work()
                    ended = in_processes(search, where, notice, printer, execute)
                elif not trials.under_way() or not standby.stays():
                    break
                time.sleep(LOOK_AGAIN)
                printer.print_new()
            crashed = [t for t in trials.crashed() if took(name, t)]
            is_left = trials.left() > 0 or bool(trials.under_way())
        except Interrupted as stopped:  # while its database was away, or by a second Ctrl-C
            print(f"bluestab: {stopped}", flush=True)
            return _end(notice, crashed=False, is_left=True, got_on=lambda: True)
        finally:
            standby.leave()
    if ended == "exhausted":
        submission.exhaust()
    if crashed:
        print(f"{len(crashed)} points crashed here", flush=True)
    return _end(
        notice,
        crashed=bool(crashed) or ended == "crashed",
        is_left=is_left,
        got_on=lambda: _far(trials, store) != before,
    )


def _far(trials: Trials, store: Store) -> tuple[int, set[tuple[str, int]]]:
    """How far a search is: runs that are done, and checkpoints that are kept."""
    saved = set()
    with suppress(OSError):
        saved = {(e.name, e.stat().st_mtime_ns) for e in os.scandir(store.root / ".resume")}
    return sum(len(t.intermediate_values) for t in trials.all()), saved


def _end(
    notice: PreemptionNotice, *, crashed: bool, is_left: bool, got_on: Callable[[], bool]
) -> int:
    """The exit code of a task that does nothing more; it may put itself back into the queue.

    is_left  is there work that it gave back, or did not begin? got_on: has anything been done?
    """
    if notice.told:
        return 128 + signal.SIGTERM
    if notice.asked and not notice.time_is_up:
        return 128 + signal.SIGINT
    if not notice.time_is_up or not is_left:
        return 1 if crashed else 0
    name = notice.job.partition(".")[0]
    if notice.submission.count_vain(name, got_on=got_on()) >= IN_VAIN:
        print(
            f"bluestab: started {IN_VAIN} times in a row, this task finished no run and saved no "
            f"checkpoint before its time was up; {_longer(notice.submission)}",
            flush=True,
        )
        return 1
    try:
        scheduler.requeue(name)
    except BluestabError as error:
        print(f"bluestab: this task cannot put itself back into the queue: {error}", flush=True)
        return 1
    print("put back into the queue: what is left goes on there", flush=True)
    return 1 if crashed else 0


def _longer(submission: Submission) -> str:
    """Which limit was too short, and which knob asks for another."""
    said = submission.content["launcher"].get("limit", "")
    if said.startswith("hydra.launcher.time"):
        return f"{said} is too short: hydra.launcher.time must be longer"
    partition = os.environ.get("SLURM_JOB_PARTITION", "")
    said = said or f"the time limit of partition {partition}".rstrip()
    return (
        f"{said} is too short, and hydra.launcher.time is not set: set it, if the partition "
        "allows more, or name another with hydra.launcher.partition"
    )


def _devices(knobs: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The device of each worker of this task. Raises BluestabError if GPUs cannot be used."""
    _need_gpus(knobs, {cfg["device"] for cfg in configs})
    if knobs.get("needs_bf16") and not devices.kind_of("auto").bf16:  # settled, not asked for
        raise BluestabError(
            "this sweep settled for trainer.precision=bf16 because its tasks have GPUs, but a GPU "
            "of this node has no bf16 arithmetic: its runs are left to tasks on other nodes; "
            "hydra.launcher.constraint asks for such nodes, trainer.precision=32 for none"
        )
    return assign_devices(configs, knobs["workers_per_task"], knobs["per_gpu"], _cores())


def _need_gpus(knobs: Mapping[str, Any], asked: set[str]) -> None:
    if knobs["gpus"] and asked & {"auto", "cuda"} and not devices.cuda_devices():
        raise BluestabError(
            "this task has GPUs from SLURM, but torch can use none of them on this node (a CPU "
            "build of torch, or a driver that is too old); device=cpu would be slow here"
        )


def _cores() -> int | None:
    """CPU cores of this task by SLURM's word: not every site binds processes to them."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if os.environ.get(name, "").isdigit():
            return min(int(os.environ[name]), devices.cores())
    return None


def _memory_mb() -> int:
    """Memory of this task by SLURM's word (`--mem`, or `--mem-per-cpu` and what sites have for it),
    else by the machine's."""
    per_node, per_cpu, cpus = (
        int(said) if (said := os.environ.get(f"SLURM_{name}", "")).isdigit() else 0
        for name in ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE")
    )
    return per_node or per_cpu * cpus or devices.memory_mb()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of a task."""
    parser = argparse.ArgumentParser(prog="python -m bluestab.sweeps.slurm.task")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args(arguments)
    env = os.environ
    index = int(env.get("SLURM_ARRAY_TASK_ID", "0"))
    name = env.get("SLURM_JOB_ID", "0")
    if "SLURM_ARRAY_JOB_ID" in env:
        name = f"{env['SLURM_ARRAY_JOB_ID']}_{index}"
    job = f"{name}.{env.get('SLURM_RESTART_COUNT', '0')}"
    node = env.get("SLURMD_NODENAME", "an unknown node")
    print(f"{HEADER}{job} on {node}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)
    try:
        submission = Submission(asked.folder)
        env.update(submission.content["environment"])
        env.update(BLUESTAB_JOB=job, BLUESTAB_COMMAND=submission.content["command"])
        env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        env.setdefault("TOKENIZERS_PARALLELISM", "false")
        with suppress(OSError):  # relative paths are those of the command
            os.chdir(submission.content["folder"])
        return work(submission, asked.first + index, job)
    except BluestabError as error:
        print(f"bluestab: {error}", flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

"""Warm worker processes on this machine: one per GPU, or one per CPU core.

Each does one run at a time, or one group of siblings, and keeps tokenised data and base weights
from run to run. Its death costs its run alone, which is tried once more in a fresh worker and then
recorded as crashed; those of a group each by itself.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bluestab.core import devices
from bluestab.core.errors import DiskFull, Interrupted, StoreError
from bluestab.core.printable import counted
from bluestab.report.terminal.progress import SweepDisplay
from bluestab.report.words.phrases import describe
from bluestab.sweeps.attempt import Execute, Failures, Together
from bluestab.sweeps.failures import OutOfMemoryKilled, WorkerDied, record_death
from bluestab.sweeps.grouping import PackSizer, in_blocks, next_group
from bluestab.sweeps.plan import PlannedRun, Sweep
from bluestab.sweeps.processes import LIBRARIES, WorkerPool, WorkerProcess, start_process
from bluestab.sweeps.queue import Queue, Source
from bluestab.sweeps.stages import still_to_do
from bluestab.sweeps.stopping import Stop, pause_until_room, tell_waiting

GRACE = 60.0  # seconds over its `timeout` after which a run that does not stop itself is killed
OUTPUT_TAIL = 2**16  # bytes of a dead worker's output that are kept


def assign_devices(
    configs: Iterable[Mapping[str, Any]],
    workers: int | None,
    per_gpu: int,
    cores: int | None = None,
) -> list[str]:
    """The device of each worker, for runs with these configs.

    workers  how many; None: one per GPU, or as many as the cores have room for
    cores    CPU cores to use; None: all that this process may use
    """
    configs = list(configs)
    asked = {cfg["device"] for cfg in configs}
    wanted = {devices.resolve(device) for device in asked}
    each = max(cfg["trainer"]["devices"] for cfg in configs)
    if asked <= {"auto", "cuda"} and wanted == {"cuda:0"}:
        # a run on several devices begins with that of its worker
        gpus = [f"cuda:{i}" for i in range(0, devices.cuda_devices() - each + 1, each)]
        if not gpus:
            devices.of_ranks("cuda:0", each)  # raises
        every = [gpu for _ in range(per_gpu) for gpu in gpus]
    elif wanted == {"cpu"}:
        threads = max(cfg["trainer"]["threads"] for cfg in configs)
        every = ["cpu"] * max(1, (cores or devices.cores()) // (threads * each))
    else:
        every = sorted(wanted) * per_gpu
    if workers is None:
        return every
    return [every[i % len(every)] for i in range(workers)]


@dataclass
class RunProcess(WorkerProcess):
    """A worker process and the runs it was given, most often one."""

    group: list[PlannedRun] = field(default_factory=list)
    since: float = 0.0
    killed: str = ""

    def assign(self, group: list[PlannedRun], failures: Mapping[str, Failures]) -> None:
        """failures: as `Source` has them."""
        self.group, self.since = group, time.monotonic()
        orders = []
        for planned in group:
            device = planned.run.cfg["device"]
            own = self.device if device in ("auto", "cuda") else device
            orders.append((planned.run.key, {**planned.run.cfg, "device": own}))
        known = {key: failures[key] for key, _ in orders if key in failures}
        self.connection.send((orders, known))

    def release(self) -> list[PlannedRun]:
        """Its runs, which it has no more."""
        group, self.group = self.group, []
        return group

    def overdue(self) -> bool:
        limit = self.group[0].run.cfg["timeout"] if self.group else None
        return limit is not None and time.monotonic() - self.since > limit + GRACE


class RunPool(WorkerPool[RunProcess]):
    """The workers of one queue: kept at their number, given runs, their ends said and recorded."""

    worker_class = RunProcess

    def __init__(
        self,
        queue: Source,
        worker_devices: list[str],
        budget_mb: float,
        display: SweepDisplay,
        stop: Stop,
        *,
        execute: Execute | None,
        together: Together | None,
        group: int | None,
    ) -> None:
        self.queue, self.budget_mb, self.display, self.stop = queue, budget_mb, display, stop
        self.execute, self.together = execute, together
        self.sizer = PackSizer(group, of=max(Counter(worker_devices).values()))
        self.oom_kills = devices.oom_kills()
        n = min(len(worker_devices), max(1, len(queue)))
        super().__init__(
            queue.store,
            worker_devices[:n],
            preload=[
                "bluestab.sweeps.pool_worker",
                "bluestab.training.assemble",
                "bluestab.training.execute",
                *LIBRARIES,
            ],
        )

    def start(self, device: str | None, connection: Connection, output: Path) -> BaseProcess:
        from bluestab.sweeps.pool_worker import serve

        return start_process(
            self.context,
            serve,
            *(connection, str(self.store.root.absolute()), str(output), dict(os.environ)),
            budget_mb=self.budget_mb,
            execute=self.execute,
            together=self.together,
        )

    def is_busy(self, worker: RunProcess) -> bool:
        return bool(worker.group)

    def give_work(self) -> None:
        """Runs for every worker that is ready and has none."""
        for worker in self.workers:
            if worker.ready and not worker.group:
                group = self._next()
                if not group:
                    break
                worker.assign(group, self.queue.failures)
        if self.busy():
            self.display.note = ""
        elif len(self.queue) and all(worker.ready for worker in self.workers):
            tell_waiting(self.display, self.queue)

    def _next(self) -> list[PlannedRun]:
        """What a worker should do next; nothing if there is nothing now."""
        most = self.queue.portion(sum(not worker.group for worker in self.workers))
        return next_group(self.queue, lambda run: min(most, self.sizer.size(run)))

    def silent(self, worker: RunProcess) -> None:
        if worker.overdue():
            worker.killed = "it did not stop at its timeout and was killed"
            worker.process.kill()

    def cut_off(self, worker: RunProcess) -> None:
        worker.kill()
        for planned in reversed(worker.release()):
            self.queue.cut_off(planned)

    def answered(self, worker: RunProcess, answer: Mapping[str, Any]) -> None:
        group, what = worker.release(), answer["what"]
        if what == "ended":
            ends = list(zip(group, answer["ends"], strict=True))
            # those without an end are done elsewhere
            self.queue.put_all_back([planned for planned, end in ends if end is None])
            self._note_ends([(planned, end) for planned, end in ends if end is not None])
        elif what == "given back":
            self.queue.put_all_back(group)
            if not self.is_giving_back:
                self.replace(worker)
            return
        elif what == "full":
            self.queue.put_all_back(group)
            error = DiskFull(answer["said"], answer["needed"])
            pause_until_room(self.store, self.stop, self.display.say, error)
        elif what == "too large":
            self.queue.put_all_back(group)
            self.display.say(self.sizer.too_large(group[0].run, len(group), answer["said"]))
        elif what == "error":
            raise StoreError(answer["said"])
        elif what == "refused" and len(group) > 1:  # one of them: each says it by itself
            self.queue.run_alone.update(planned.run.key for planned in group)
            self.queue.put_all_back(group)
        elif what == "refused":
            self._record_death(group[0], how=WorkerDied(answer["said"]))
            self.queue.crashed(group[0])
        if answer["memory_mb"] > self.budget_mb:
            self.replace(worker)

    def _note_ends(self, ends: list[tuple[PlannedRun, str]]) -> None:
        records = []
        for planned, end in ends:
            key = planned.run.key
            crash = self.store.crash(key) if end == "crashed" else None
            records.append(crash or self.store.read(key))
            self.display.end(records[-1], describe(planned.run))
            if end == "crashed":
                self.queue.crashed(planned)
        if ends:
            self.sizer.measured(ends[0][0].run, records)

    def died(self, worker: RunProcess) -> None:
        """Its runs once more in a fresh worker, or recorded as crashed."""
        group = worker.release()
        worker.kill()
        kills, self.oom_kills = self.oom_kills, devices.oom_kills()
        how = _how(worker, self.oom_kills > kills, self.queue.memory_hint)
        said, pid = worker.output_tail(OUTPUT_TAIL), worker.process.pid or 0
        seconds = time.monotonic() - worker.since
        if not group:
            self.count_early_death(worker, f" {how}\n{said}")
        for planned in reversed(group):
            self.store.claims.is_free(planned.run.key)  # takes the dead worker's claim away
            if self.store.has(planned.run.key):
                self.display.end(self.store.read(planned.run.key), describe(planned.run))
            elif not worker.killed and self.queue.died(planned):
                self.display.say(f"{describe(planned.run)}: {how}; once more in a fresh worker")
            else:
                self._record_death(planned, pid=pid, how=how, said=said, seconds=seconds)
        self.replace(worker)

    def _record_death(self, planned: PlannedRun, **known: Any) -> None:
        """`record_death`, as soon as the disk has room for it."""
        while True:
            try:
                record = record_death(planned.run, self.store, **known)
            except DiskFull as error:
                small = DiskFull(str(error))  # nothing is trained for it: it can be waited for
                pause_until_room(self.store, self.stop, self.display.say, small)
                if self.stop.asked:
                    raise
            else:
                self.display.end(record, describe(planned.run))
                return


def run_in_pool(
    sweep: Sweep,
    worker_devices: list[str],
    budget_mb: float,
    execute: Execute | None = None,
    together: Together | None = None,
    group: int | None = 1,
) -> bool:
    """Do what is missing on these devices at once. Did a person stop it?

    execute, together  what does a run, and several of them; functions that a worker can import
    group              runs that train as one at most; None: what memory is expected to hold
    """
    keys = [planned.run.key for planned in sweep.runs]
    if not still_to_do(sweep.runs, sweep.store):
        worker_devices = []
    with (
        SweepDisplay(
            sweep.name, keys, sweep.store, workers=len(worker_devices), blind=sweep.blind
        ) as display,
        Stop(display.say, sweep.deadline) as stop,
    ):
        if worker_devices:
            queue = Queue(in_blocks(sweep.runs, group), sweep.store)
            work_off(queue, worker_devices, budget_mb, display, stop, execute, together, group)
        return stop.asked


def work_off(
    queue: Source,
    worker_devices: list[str],
    budget_mb: float,
    display: SweepDisplay,
    stop: Stop,
    execute: Execute | None = None,
    together: Together | None = None,
    group: int | None = 1,
) -> None:
    """Do what the queue holds, on these devices at once, until it is empty or a stop is asked."""
    pool = RunPool(
        queue,
        worker_devices,
        budget_mb,
        display,
        stop,
        execute=execute,
        together=together,
        group=group,
    )
    try:
        while pool.busy() or (len(queue) and not stop.asked):
            if not stop.asked:
                pool.give_work()
            elif stop.until is not None and time.monotonic() >= stop.order_at:
                pool.give_back(stop.until)
            pool.hear(seconds=0.2)
    except KeyboardInterrupt as error:
        n = sum(len(worker.group) for worker in pool.busy())
        raise Interrupted(
            f"stopped; {counted(n, 'run was', 'runs were')} cut off, the same command goes on"
        ) from error
    finally:
        pool.dismiss()


def _how(worker: RunProcess, out_of_memory: bool, memory_hint: str) -> WorkerDied:
    code = worker.process.exitcode
    if worker.killed:
        return WorkerDied(worker.killed)
    if code is None or code >= 0:
        return WorkerDied(f"the worker process ended with exit code {code}")
    name = signal.Signals(-code).name
    said = f"the worker process was killed by {name}"
    if name != "SIGKILL":
        return WorkerDied(said)
    hint = f"; {memory_hint}" if memory_hint else ""
    if out_of_memory:
        return OutOfMemoryKilled(f"{said}, out of memory: its limit was reached{hint}")
    return WorkerDied(f"{said} (out of memory?{hint})")

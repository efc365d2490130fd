"""Warm worker processes on this machine: one per GPU, or one per CPU core.

Each does one run at a time, or one group of siblings.

A server process imports the libraries once and forks the workers, so that one that dies is replaced
in no time. Each worker keeps tokenised data and base weights from run to run. Its death costs its
run alone, which is tried once more in a fresh worker and then recorded as crashed; those of a group
each by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from bluestab import devices, rules
from bluestab.errors import BluestabError, ConfigError, DiskFull, Interrupted, StoreError
from bluestab.launchers.base import Backend
from bluestab.packing import GROUP, Room, in_blocks, next_group
from bluestab.planning import PlannedRun, Sweep
from bluestab.report.progress import SweepDisplay
from bluestab.report.terminal import describe
from bluestab.run import is_done
from bluestab.store import Store
from bluestab.workers import (
    LIBRARIES,
    Execute,
    Hired,
    OutOfMemoryKilled,
    Queue,
    Source,
    Stop,
    Together,
    WorkerDied,
    begin,
    close,
    pause_until_room,
    record_death,
    start_process,
    tell_waiting,
)

if TYPE_CHECKING:
    from bluestab.search.spec import Search

GRACE = 60.0  # seconds over its `timeout` after which a run that does not stop itself is killed
LAST_WORDS = 2**16  # bytes of a dead worker's output that are kept
HOPELESS = 5  # workers in a row that die before they could do anything


class Pool(Backend):
    """workers: how many, null: one per GPU or CPU core; per_gpu; memory: GiB a worker may keep;
    group: as any launcher has it."""

    def __init__(
        self, *, workers: int | None, per_gpu: int, memory: float | None, group: int | None
    ) -> None:
        self.workers, self.per_gpu, self.memory = workers, per_gpu, memory
        self.group = group

    def launch(self, sweep: Sweep) -> None:
        self._check()
        begin(sweep)
        places = self.places(sweep)
        stopped = run_in_pool(sweep, places, self.budget_mb(len(places)), group=self.group)
        close(sweep, stopped)

    def search(self, search: Search) -> None:
        from bluestab.sweepers.optuna import first_run, run_search

        self._check()
        search = replace(search, group=self.group)
        run = PlannedRun(first_run(search), ())
        if search.workers is not None:
            self.workers = search.workers
        places = self.places(Sweep(search.name, Store(search.root), (run,)))
        run_search(search, places, self.launch)

    def _check(self) -> None:
        wrong = rules.problems(
            {
                "hydra.launcher.workers": (self.workers, rules.whole(1, null=True)),
                "hydra.launcher.per_gpu": (self.per_gpu, rules.whole(1)),
                "hydra.launcher.memory": (self.memory, rules.above(0, null=True, of=" of GiB")),
                "hydra.launcher.group": (self.group, GROUP),
            }
        )
        if wrong:
            raise ConfigError(*wrong)

    def places(self, sweep: Sweep) -> list[str]:
        """The device of each worker."""
        return places([p.run.cfg for p in sweep.runs], self.workers, self.per_gpu)

    def budget_mb(self, workers: int) -> float:
        """What a worker may hold after a run; above it, a fresh one takes its place."""
        if self.memory is not None:
            return self.memory * 1024
        return 0.8 * devices.memory_mb() / workers


def places(
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
class Worker(Hired):
    """A worker process and the runs it was given, most often one."""

    group: list[PlannedRun] = field(default_factory=list)
    since: float = 0.0
    killed: str = ""

    def start(self, group: list[PlannedRun], deaths: Mapping[str, int]) -> None:
        """deaths: as `Source` has them."""
        self.group, self.since = group, time.monotonic()
        orders = []
        for planned in group:
            device = planned.run.cfg["device"]
            place = self.place if device in ("auto", "cuda") else device
            orders.append((planned.run.key, {**planned.run.cfg, "device": place}))
        known = {key: deaths[key] for key, _ in orders if key in deaths}
        self.connection.send((orders, known))

    def release(self) -> list[PlannedRun]:
        """Its runs, which it has no more."""
        group, self.group = self.group, []
        return group

    def overdue(self) -> bool:
        limit = self.group[0].run.cfg["timeout"] if self.group else None
        return limit is not None and time.monotonic() - self.since > limit + GRACE


class Crew:
    """The workers of one queue: kept at their number, told what to do."""

    def __init__(
        self,
        queue: Source,
        places: list[str],
        budget_mb: float,
        execute: Execute | None,
        together: Together | None,
        group: int | None,
    ) -> None:
        self.budget_mb, self.execute, self.together = budget_mb, execute, together
        self.room = Room(group, of=max(Counter(places).values()))
        self.store, self.queue = queue.store, queue
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            ["bluestab.pool_worker", "bluestab.assemble", "bluestab.run", *LIBRARIES]
        )
        self.early_deaths = 0
        self.oom_kills = devices.oom_kills()
        self.leaving = False
        for left in self.store.abandoned("worker-*"):
            left.unlink(missing_ok=True)
        n = min(len(places), max(1, len(self.queue)))
        self.workers = [self.hire(place) for place in places[:n]]

    def hire(self, place: str | None) -> Worker:
        from bluestab.pool_worker import serve

        ours, theirs = self.context.Pipe()
        output = self.store.work_path(f"worker-{time.monotonic_ns()}")
        process = start_process(
            self.context,
            serve,
            *(theirs, str(self.store.root.absolute()), str(output), dict(os.environ)),
            budget_mb=self.budget_mb,
            execute=self.execute,
            together=self.together,
        )
        theirs.close()
        return Worker(place, process, ours, output)

    def replace(self, worker: Worker) -> None:
        worker.end()
        self.workers[self.workers.index(worker)] = self.hire(worker.place)

    def busy(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.group]

    def next(self) -> list[PlannedRun]:
        """What a worker should do next; nothing if there is nothing now."""
        most = self.queue.portion(sum(not worker.group for worker in self.workers))
        return next_group(self.queue, lambda run: min(most, self.room.size(run)))

    def give_back(self, until: float) -> None:
        """Tell the workers to give their runs back, at once; from `until` on, cut them off."""
        if not self.leaving:
            self.leaving = True
            for worker in self.busy():
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid or 0, signal.SIGUSR1)
        if time.monotonic() < until:
            return
        for worker in self.busy():
            worker.process.kill()
            worker.process.join()
            for planned in reversed(worker.release()):
                self.queue.cut_off(planned)

    def dismiss(self) -> None:
        for worker in self.workers:
            worker.end()


def run_in_pool(
    sweep: Sweep,
    places: list[str],
    budget_mb: float,
    execute: Execute | None = None,
    together: Together | None = None,
    group: int | None = 1,
) -> bool:
    """Do what is missing in `places` at once. Did a person stop it?

    execute, together  what does a run, and several of them; functions that a worker can import
    group              runs that train as one at most; None: what memory is expected to hold
    """
    keys = [planned.run.key for planned in sweep.runs]
    if all(is_done(planned.run, sweep.store) for planned in sweep.runs):
        places = []
    with (
        SweepDisplay(sweep.name, keys, sweep.store, workers=len(places)) as display,
        Stop(display.say) as stop,
    ):
        if places:
            queue = Queue(in_blocks(sweep.runs, group), sweep.store)
            work_off(queue, places, budget_mb, display, stop, execute, together, group)
        return stop.asked


def work_off(
    queue: Source,
    places: list[str],
    budget_mb: float,
    display: SweepDisplay,
    stop: Stop,
    execute: Execute | None = None,
    together: Together | None = None,
    group: int | None = 1,
) -> None:
    """Do what the queue holds, in `places` at once, until it is empty or `stop` is asked for."""
    crew = Crew(queue, places, budget_mb, execute, together, group)
    try:
        while crew.busy() or (len(crew.queue) and not stop.asked):
            if not stop.asked:
                _give_work(crew, display)
            elif stop.until is not None and time.monotonic() >= stop.order_at:
                crew.give_back(stop.until)
            _hear(crew, display, stop)
    except KeyboardInterrupt as error:
        n = sum(len(worker.group) for worker in crew.busy())
        raise Interrupted(f"stopped; {n} runs were cut off, the same command goes on") from error
    finally:
        crew.dismiss()


def _give_work(crew: Crew, display: SweepDisplay) -> None:
    for worker in crew.workers:
        if worker.ready and not worker.group:
            group = crew.next()
            if not group:
                break
            worker.start(group, crew.queue.deaths)
    if crew.busy():
        display.note = ""
    elif len(crew.queue) and all(worker.ready for worker in crew.workers):
        tell_waiting(display, crew.queue)


def _hear(crew: Crew, display: SweepDisplay, stop: Stop) -> None:
    """Wait a little for answers, deaths and runs that take too long, and act on them."""
    heard: list[Any] = wait(
        [w.connection for w in crew.workers] + [w.process.sentinel for w in crew.workers],
        timeout=0.2,
    )
    for worker in list(crew.workers):
        if worker.connection in heard:
            try:
                answer = worker.connection.recv()
            except (EOFError, OSError):
                _after_death(crew, worker, display, stop)
                continue
            if answer["what"] == "ready":
                worker.ready, crew.early_deaths = True, 0
            else:
                _after_answer(crew, worker, answer, display, stop)
        elif worker.process.sentinel in heard:
            _after_death(crew, worker, display, stop)
        elif worker.overdue():
            worker.killed = "it did not stop at its timeout and was killed"
            worker.process.kill()


def _after_answer(
    crew: Crew, worker: Worker, answer: Mapping[str, Any], display: SweepDisplay, stop: Stop
) -> None:
    group, what = worker.release(), answer["what"]
    if what == "ended":
        ends = list(zip(group, answer["ends"], strict=True))
        crew.queue.put_all_back([planned for planned, end in ends if end is None])  # elsewhere
        _note_ends(crew, [(planned, end) for planned, end in ends if end is not None], display)
    elif what == "given back":
        crew.queue.put_all_back(group)
        if not crew.leaving:
            crew.replace(worker)
        return
    elif what == "full":
        crew.queue.put_all_back(group)
        pause_until_room(crew.store, stop, display.say)
    elif what == "too large":
        crew.queue.put_all_back(group)
        display.say(crew.room.too_large(group[0].run, len(group), answer["said"]))
    elif what == "error":
        raise StoreError(answer["said"])
    elif what == "refused" and len(group) > 1:  # one of them: each says it by itself
        crew.queue.apart.update(planned.run.key for planned in group)
        crew.queue.put_all_back(group)
    elif what == "refused":
        _record_death(crew, group[0], display, stop, how=WorkerDied(answer["said"]))
        crew.queue.crashed(group[0])
    if answer["memory_mb"] > crew.budget_mb:
        crew.replace(worker)


def _note_ends(crew: Crew, ends: list[tuple[PlannedRun, str]], display: SweepDisplay) -> None:
    records = []
    for planned, end in ends:
        key = planned.run.key
        crash = crew.store.crash(key) if end == "crashed" else None
        records.append(crash or crew.store.read(key))
        display.end(records[-1], describe(planned.run))
        if end == "crashed":
            crew.queue.crashed(planned)
    if ends:
        crew.room.measured(ends[0][0].run, records)


def _after_death(crew: Crew, worker: Worker, display: SweepDisplay, stop: Stop) -> None:
    """Its runs once more in a fresh worker, or recorded as crashed."""
    group = worker.release()
    worker.process.kill()
    worker.process.join()
    kills, crew.oom_kills = crew.oom_kills, devices.oom_kills()
    how = _how(worker, out_of_memory=crew.oom_kills > kills)
    said, pid = worker.last_words(LAST_WORDS), worker.process.pid or 0
    seconds = time.monotonic() - worker.since
    if not group:
        crew.early_deaths += not worker.ready
        if crew.early_deaths >= HOPELESS:
            raise BluestabError(f"worker processes die before they can start: {how}\n{said}")
    for planned in reversed(group):
        crew.store.claims.is_free(planned.run.key)  # takes the dead worker's claim away
        if crew.store.has(planned.run.key):
            display.end(crew.store.read(planned.run.key), describe(planned.run))
        elif not worker.killed and crew.queue.died(planned):
            display.say(f"{describe(planned.run)}: {how}; once more in a fresh worker")
        else:
            known = {"pid": pid, "how": how, "said": said, "seconds": seconds}
            _record_death(crew, planned, display, stop, **known)
    crew.replace(worker)


def _record_death(
    crew: Crew, planned: PlannedRun, display: SweepDisplay, stop: Stop, **known: Any
) -> None:
    """`record_death`, as soon as the disk has room for it."""
    while True:
        try:
            record = record_death(planned.run, crew.store, **known)
        except DiskFull:
            pause_until_room(crew.store, stop, display.say)
            if stop.asked:
                raise
        else:
            display.end(record, describe(planned.run))
            return


def _how(worker: Worker, out_of_memory: bool) -> WorkerDied:
    code = worker.process.exitcode
    if worker.killed:
        return WorkerDied(worker.killed)
    if code is None or code >= 0:
        return WorkerDied(f"the worker process ended with exit code {code}")
    name = signal.Signals(-code).name
    said = f"the worker process was killed by {name}"
    if name != "SIGKILL":
        return WorkerDied(said)
    if out_of_memory:
        return OutOfMemoryKilled(f"{said}, out of memory: its limit was reached")
    return WorkerDied(f"{said} (out of memory?)")

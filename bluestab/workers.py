"""The engine of every launcher: which run is next, one attempt at it, and what comes of it.

A launcher decides where attempts happen (in this process, in several, on a cluster). What is to be
done is in the store and nowhere else: a run that is there is skipped, a run that a live process has
claimed is looked at again later, so any number of launchers can share one sweep.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, Self

from bluestab import devices
from bluestab.artefacts import write_config
from bluestab.checks import CheckedRun
from bluestab.circumstances import circumstances
from bluestab.claims import Claim
from bluestab.errors import BluestabError, Interrupted, StoreError, is_disk_full
from bluestab.files import write_text
from bluestab.interruption import held_back
from bluestab.planning import PlannedRun, Sweep
from bluestab.report.outcome import print_outcome
from bluestab.report.progress import SweepDisplay
from bluestab.report.terminal import describe, reason
from bluestab.report.write import write_report
from bluestab.run import crashed, is_done, names, no_room
from bluestab.schedules import updates
from bluestab.store import Store
from bluestab.types import RECORD_SCHEMA, RunRecord

LOOK_AGAIN = 1.0  # seconds between two looks at runs that other processes are working on
ROOM = 8 * 2**20  # bytes that must be free before a sweep that ran out of room goes on

Execute = Callable[[CheckedRun, Store, Callable[..., None]], RunRecord]
"""What does a run: `bluestab.run.execute`."""

Together = Callable[[Sequence[CheckedRun], Store, Sequence[Callable[..., None]]], list[RunRecord]]
"""What does siblings as one: `bluestab.group.execute_together`."""


@dataclass
class Hired:
    """A worker process, seen from the parent.

    place   device that it works on; None: as each config has it
    output  file that its terminal is
    """

    place: str | None
    process: BaseProcess
    connection: Connection
    output: Path
    ready: bool = False

    def last_words(self, n_bytes: int) -> str:
        """The end of what it wrote to its terminal: a segmentation fault, the memory killer."""
        try:
            return self.output.read_bytes()[-n_bytes:].decode(errors="replace")
        except OSError:
            return ""

    def end(self) -> None:
        """Kill it if it lives, and clear up after it."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.output.unlink(missing_ok=True)


def start_process(
    context: ForkServerContext, target: Callable[..., None], *args: Any, **kwargs: Any
) -> ForkServerProcess:
    """Begin a worker process that hears signals to the whole group only if it says so
    (`interruption.obey`); the servers behind it never do."""
    process = context.Process(target=target, args=args, kwargs=kwargs)
    with held_back():
        resource_tracker.ensure_running()
    with held_back():  # again: at its start, the tracker lets some of them through
        process.start()
    return process


class RunsCrashed(BluestabError):
    """Something ran and crashed; what else ran is recorded."""

    exit_code = 1


class Source(ABC):
    """Where workers take their runs from; `len` is how many they may yet be asked to do.

    apart   keys of runs that train in no group: they may have killed a process
    deaths  key -> processes that had died at a run when it was handed out, where that counts
    """

    store: Store

    def __init__(self) -> None:
        self.apart: set[str] = set()
        self.deaths: dict[str, int] = {}

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def next(self) -> PlannedRun | None:
        """A run that nobody is working on; None if there is none now (look again if `len`)."""

    @abstractmethod
    def put_back(self, planned: PlannedRun) -> None:
        """It was not started after all, or was given back."""

    def put_all_back(self, group: Sequence[PlannedRun]) -> None:
        """The same for several, in their order."""
        for planned in reversed(group):
            self.put_back(planned)

    @abstractmethod
    def portion(self, workers: int) -> int:
        """How many runs one of so many idle workers may take, and leave the others their part."""

    def cut_off(self, planned: PlannedRun) -> None:
        """It was told to give itself back, did not in time, and was killed."""
        self.put_back(planned)

    @abstractmethod
    def crashed(self, planned: PlannedRun) -> None:
        """After an exception, which is recorded: is it tried again?"""

    @abstractmethod
    def died(self, planned: PlannedRun) -> bool:
        """After the death of the process that did it: it is done once more. Was it so?"""


class Queue(Source):
    """The runs of a sweep that are still to be started, in order, and how often they may be."""

    def __init__(self, runs: Iterable[PlannedRun], store: Store) -> None:
        super().__init__()
        runs = list(runs)
        self.store = store
        self.ready = deque(p for p in runs if not is_done(p.run, store))
        self.elsewhere: deque[PlannedRun] = deque()
        policy = str(runs[0].run.cfg["on_crash"]) if runs else "continue"
        self._stops = policy == "stop"
        self._retries = int(policy.partition(":")[2] or 0)
        self._crashes: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._look_again = 0.0

    def __len__(self) -> int:
        """Runs that are not started, those of other processes included."""
        return len(self.ready) + len(self.elsewhere)

    def next(self) -> PlannedRun | None:
        """A run that nobody is working on; None if there is none now (look again if `len`)."""
        for _ in range(len(self.ready)):
            planned = self.ready.popleft()
            if is_done(planned.run, self.store):
                continue
            if self.store.claims.is_free(planned.run.key):
                return planned
            self.elsewhere.append(planned)
        if self.elsewhere and time.monotonic() > self._look_again:
            self._look_again = time.monotonic() + LOOK_AGAIN
            self.ready, self.elsewhere = self.elsewhere, self.ready
            return self.next()
        return None

    def put_back(self, planned: PlannedRun) -> None:
        """It was not started after all."""
        self.ready.appendleft(planned)

    def portion(self, workers: int) -> int:
        """An equal part of those that nobody works on."""
        return max(1, math.ceil(len(self.ready) / workers))

    def crashed(self, planned: PlannedRun) -> None:
        """After an exception: again at the end if `on_crash` says so, or nothing more at all."""
        self._crashes[planned.run.key] += 1
        if self._stops:
            self.clear()
        elif self._crashes[planned.run.key] <= self._retries:
            self.ready.append(planned)

    def died(self, planned: PlannedRun) -> bool:
        """After the death of the process that did it: once more, before the others. Was it so?"""
        self._deaths[planned.run.key] += 1
        self.apart.add(planned.run.key)
        if self._deaths[planned.run.key] > 1:
            return False
        self.ready.appendleft(planned)
        return True

    def clear(self) -> None:
        """Nothing more is started."""
        self.ready.clear()
        self.elsewhere.clear()


def attempt(
    run: CheckedRun,
    store: Store,
    progress: Callable[..., None] | None = None,
    execute: Execute | None = None,
    deaths: int | None = None,
) -> RunRecord | None:
    """Do a run under its claim; None if another live process is at it.

    progress  told of every step, as the claim is
    execute   what does the run; None: `bluestab.run.execute`
    deaths    None is also returned if more processes than these have died at it

    Raises StoreError as `execute` does; DiskFull also if there is no room for the claim or for the
    folder of the run.
    """
    try:
        return _claimed(run, store, progress, execute, deaths)
    except OSError as error:
        if is_disk_full(error):
            raise no_room(store, run.key) from error
        raise


def _claimed(
    run: CheckedRun,
    store: Store,
    progress: Callable[..., None] | None,
    execute: Execute | None,
    deaths: int | None,
) -> RunRecord | None:
    if execute is None:
        from bluestab.run import execute as of_a_run  # looked up now: tests put others there

        execute = of_a_run
    claim = _take(run, store, deaths)
    if claim is None:
        return None
    _tell_epochs(claim, run)
    with claim:

        def told(*state: Any) -> None:
            claim.progress(*state)
            if progress is not None:
                progress(*state)

        return execute(run, store, told)


def _take(run: CheckedRun, store: Store, deaths: int | None) -> Claim | None:
    """The claim on a run, unless a live process has it, or more than `deaths` have died at it."""
    claim = store.claims.take(run.key, describe(run))
    if claim is None or deaths is None or len(store.claims.deaths(run.key)) <= deaths:
        return claim
    with claim:
        return None


def _tell_epochs(claim: Claim | None, run: CheckedRun) -> None:
    """Kept in the claim: how many steps an epoch has."""
    if claim is not None:
        items = run.data.size("train")
        claim.content["epoch_steps"] = updates(items, run.cfg["optim"]["batch_size"], 1, None)


def attempt_together(
    runs: Sequence[CheckedRun],
    store: Store,
    progress: Callable[..., None] | None = None,
    execute: Execute | None = None,
    together: Together | None = None,
    deaths: Mapping[str, int] | None = None,
) -> list[RunRecord | None]:
    """Do siblings as one, each under its claim; None for those that `attempt` would return it for.

    progress, execute  of a run that is alone, as `attempt` has them
    together           what does several; None: `bluestab.group.execute_together`
    deaths             key -> `attempt`'s

    Raises what `group.execute_together` raises; DiskFull also as `attempt` does.
    """
    known = deaths or {}
    if len(runs) == 1:
        return [attempt(runs[0], store, progress, execute, known.get(runs[0].key))]
    if together is None:
        from bluestab.group import execute_together  # looked up now: tests put others there

        together = execute_together
    try:
        with ExitStack() as stack:
            claims = {run.key: _take(run, store, known.get(run.key)) for run in runs}
            for claim in claims.values():
                if claim is not None:
                    stack.enter_context(claim)
            ours = [run for run in runs if claims[run.key] is not None and not is_done(run, store)]
            told = [claim.progress for run in ours if (claim := claims[run.key]) is not None]
            for run in ours:
                _tell_epochs(claims[run.key], run)
            done = together(ours, store, told) if ours else []
    except OSError as error:
        if is_disk_full(error):
            raise no_room(store, runs[0].key) from error
        raise
    found = {record.key: record for record in done}
    return [found.get(run.key) for run in runs]


class Stop:
    """Ctrl-C once: `asked` is true, what runs is finished. Twice: KeyboardInterrupt, at once.

    until     when what runs is cut off (`time.monotonic`); None: it is finished
    order_at  when it is told to give itself back, before that
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.asked = False
        self.until: float | None = None
        self.order_at = 0.0
        self._say = say

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._say("stopping: what runs is finished first; Ctrl-C again stops it too")


def tell_waiting(display: SweepDisplay, queue: Source) -> None:
    """Nothing can be started: what is missing is being done by others."""
    if not display.note:
        display.note = f"waiting for {len(queue)} runs of other processes"
        display.say(display.note)


def pause_until_room(store: Store, stop: Stop, say: Callable[[str], None]) -> None:
    """Wait for room on a full disk: better than one crash after the other."""
    say(
        f"paused: the disk of '{store.root}' is full; make room (at least {ROOM // 2**20} MiB) and "
        "the sweep goes on by itself; Ctrl-C leaves, the same command goes on later"
    )
    time.sleep(LOOK_AGAIN)
    while store.free_bytes() < ROOM and not stop.asked:
        time.sleep(LOOK_AGAIN)
    if not stop.asked:
        say("there is room again: going on")


def record_death(
    run: CheckedRun,
    store: Store,
    *,
    how: WorkerDied,
    pid: int = 0,
    said: str = "",
    seconds: float = 0,
) -> RunRecord:
    """Keep what is known of a run whose process died: its log so far, and what the process said.

    Raises DiskFull if there is no room for that.
    """
    try:
        return _death(run, store, how, pid, said, seconds)
    except OSError as error:
        if is_disk_full(error):
            raise no_room(store, run.key) from error
        raise


def _death(
    run: CheckedRun, store: Store, how: WorkerDied, pid: int, said: str, seconds: float
) -> RunRecord:
    log = ""
    for folder in store.abandoned(run.key):
        if folder.name.endswith(f".{pid}") and (folder / "log.txt").is_file():
            log = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    measured = {
        "seconds": {"total": round(seconds, 3)},
        "names": names(run),
        **circumstances(run.cfg["device"]),
    }
    record = RunRecord(RECORD_SCHEMA, crashed(run, how), measured)
    with store.building(run.key) as work:
        write_text(work / "log.txt", f"{log}{how}\n{said}")
        write_config(work / "config.yaml", run.cfg)
        store.keep_crash(work, record)
    return record


class WorkerDied(Exception):
    """The process that did a run is gone."""


class OutOfMemoryKilled(WorkerDied):
    """Killed because a limit of memory was reached."""


class NodeFailed(WorkerDied):
    """The machine went away under it."""


class TimeLimitReached(WorkerDied):
    """A scheduler's time limit ended it."""


def make_ready(runs: Iterable[CheckedRun], store: Store, *, here: bool = True) -> None:
    """What a check leaves out, before anything is written: the device, and weights that are here.

    here  runs will be done on this machine; False: on others, which have devices of their own

    Raises ConfigError if a run that is missing in the store cannot start on this machine.
    """
    missing = [run for run in runs if not is_done(run, store)]
    asked = ((run.cfg["device"], run.cfg["trainer"]["devices"]) for run in missing if here)
    for device, n in dict.fromkeys(asked):
        devices.of_ranks(devices.resolve(device), n)
    for run in {run.hashed["model"]: run for run in missing}.values():
        run.model.folder()
    store.make_writable()


def tell_damaged(store: Store, runs: Iterable[CheckedRun]) -> None:
    """Set damaged records aside, and say so: their runs are missing now."""
    for run in runs:
        aside = store.set_aside_damaged(run.key)
        if aside is not None:
            print(f"the record of run {run.key} was damaged: kept as {aside}, done again")


def begin(sweep: Sweep) -> None:
    """Everything that must hold before the first run starts; then the manifest is written."""
    make_ready((planned.run for planned in sweep.runs), sweep.store)
    tell_damaged(sweep.store, (planned.run for planned in sweep.runs))
    sweep.store.write_manifest(sweep.name, sweep.manifest())


def close(sweep: Sweep, stopped: bool = False) -> None:
    """The closing table and files. Raises RunsCrashed naming every run that crashed.

    stopped  a person stopped the sweep: raises Interrupted instead if runs are missing
    """
    from bluestab.report.results import read_results

    manifest = sweep.manifest()
    results = read_results(sweep.store, manifest)
    print_outcome(results)
    try:
        written = write_report(results, store=sweep.store, manifest=manifest)
        print("wrote " + ", ".join(str(path) for path in written))
    except StoreError as error:  # the runs are safe, which is what counts
        print(f"no report: {error}")
    missing = [p for p in sweep.runs if not sweep.store.has(p.run.key)]
    if stopped and missing:
        raise Interrupted(
            f"stopped: {len(sweep.runs) - len(missing)} of {len(sweep.runs)} runs are finished and "
            "kept; the same command goes on"
        )
    ended = [
        (planned, record)
        for planned in missing
        if (record := sweep.store.crash(planned.run.key)) is not None
    ]
    if ended:
        lines = [f"{len(ended)} of {len(sweep.runs)} runs crashed:"]
        for planned, record in ended:
            log = sweep.store.crash_folder(record.key) / "log.txt"
            lines.append(f"  {reason(record)[:200]}")
            lines.append(f"    again: {planned.command}")
            lines.append(f"    log:   {log}")
        never = len(missing) - len(ended)
        if never:
            lines.append(f"{never} more were not started (on_crash=stop)")
        raise RunsCrashed("\n".join(lines))

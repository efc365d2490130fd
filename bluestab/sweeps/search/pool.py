"""The workers of a search on this machine: one in this process, or several in their own.

The parent begins them, replaces the dead, and says what has been told. It decides nothing: the
study and the store do, so that it can be killed at any time, and any number of commands can share a
search.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bluestab.core.errors import BluestabError, Interrupted, RunsCrashed
from bluestab.store.store import Store
from bluestab.sweeps.attempt import Execute
from bluestab.sweeps.processes import LIBRARIES, WorkerPool, WorkerProcess, start_process
from bluestab.sweeps.queue import LOOK_AGAIN
from bluestab.sweeps.search.patience import StorageAway, StoragePatience
from bluestab.sweeps.search.progress import ProgressPrinter
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.trials import Trials
from bluestab.sweeps.search.worker import Ended, Worker, serve
from bluestab.sweeps.stopping import Stop

OUTPUT_TAIL = 2**14  # bytes of a dead worker's output that are shown


def see_through(
    search: Search, worker_devices: Sequence[str | None], execute: Execute | None = None
) -> bool:
    """Work on a search until all its points are told. Did a person stop it?

    worker_devices  the device of each worker; one: in this process
    execute         what does a run; a function that a worker can import

    Raises RunsCrashed if on_crash=stop and a run crashed.
    """
    trials = Trials.open(search, patience=StoragePatience())
    again = trials.begin()
    printer = ProgressPrinter(trials)
    if again:
        printer.say(f"{again} points that crashed are tried again")
    with Stop(print) as stop:
        trials.patience.asked = lambda: stop.asked
        while (trials.left() > 0 or trials.under_way()) and not stop.asked:
            if len(worker_devices) == 1:
                ended = _here(search, worker_devices[0], stop, printer, execute)
            else:
                ended = in_processes(search, worker_devices, stop, printer, execute)
            printer.print_new()
            if ended == "crashed":
                raise RunsCrashed("a run crashed, and on_crash=stop: the search stops")
            if ended == "interrupted":
                return True
            if ended == "exhausted":
                return False
            _wait_for_others(trials, stop, printer)
        return stop.asked


def _here(
    search: Search,
    device: str | None,
    stop: Stop,
    printer: ProgressPrinter,
    execute: Execute | None,
) -> Ended:
    worker = Worker(search, device=device, asked=lambda: stop.asked, execute=execute)
    return worker.work(after_each=printer.print_new)


def _wait_for_others(trials: Trials, stop: Stop, printer: ProgressPrinter) -> None:
    """Points of other commands: if their process dies, there is one more to be asked for."""
    said = False
    while trials.under_way() and not stop.asked:
        if trials.dead():
            return
        if not said:
            printer.say(f"waiting for {len(trials.under_way())} points of other processes")
            said = True
        time.sleep(LOOK_AGAIN)
        printer.print_new()


@dataclass
class SearchProcess(WorkerProcess):
    """A worker process and why it ended."""

    ended: str = ""


class SearchPool(WorkerPool[SearchProcess]):
    """The workers of a search: each asks the study for points by itself, until there are enough."""

    worker_class = SearchProcess

    def __init__(
        self,
        search: Search,
        worker_devices: Sequence[str | None],
        stop: Stop,
        printer: ProgressPrinter,
        execute: Execute | None,
    ) -> None:
        self.search, self.worker_devices, self.execute = search, worker_devices, execute
        self.stop, self.printer = stop, printer
        self._told_to_stop = False
        super().__init__(
            Store(search.root),
            worker_devices,
            preload=[
                "bluestab.sweeps.search.worker",
                "bluestab.training.assemble",
                "bluestab.training.execute",
                *LIBRARIES,
            ],
        )

    def start(self, device: str | None, connection: Connection, output: Path) -> BaseProcess:
        return start_process(
            self.context,
            serve,
            *(connection, self.search, str(output)),
            environment=dict(os.environ),
            device=device,
            execute=self.execute,
            of=self.worker_devices.count(device),
            limit=self.printer.trials.patience.limit,
        )

    def is_heard(self, worker: SearchProcess) -> bool:
        return not worker.ended

    def is_busy(self, worker: SearchProcess) -> bool:
        return not worker.ended and worker.process.is_alive()

    def answered(self, worker: SearchProcess, answer: Mapping[str, Any]) -> None:
        """Raises BluestabError if it cannot go on."""
        if answer["what"] == "line":
            self.printer.say(answer["said"])
        elif answer["what"] == "ended":
            worker.ended = answer["said"]
        elif answer["what"] == StorageAway.__name__:
            raise StorageAway(answer["said"])
        else:
            raise BluestabError(answer["said"])

    def died(self, worker: SearchProcess) -> None:
        """It is replaced by `replace_dead`."""
        worker.process.join(1.0)

    def ask_to_stop(self) -> None:
        """Ask the workers, once, to end after the run that they are at."""
        if self._told_to_stop:
            return
        self._told_to_stop = True
        for worker in self.workers:
            try:
                worker.connection.send("stop")
            except OSError:  # it is dead, or about to be
                continue

    def replace_dead(self) -> None:
        """A new worker for each that died, and for each that a signal to it alone has ended."""
        for worker in list(self.workers):
            alone_told = worker.ended == "interrupted" and not self.stop.asked
            if (worker.ended and not alone_told) or worker.process.is_alive():
                continue
            self.count_early_death(worker, f"\n{worker.output_tail(OUTPUT_TAIL)}")
            if self.stop.asked:
                worker.ended = "interrupted"
            else:
                self.replace(worker)

    def outcome(self) -> Ended:
        """Why its workers have ended: the worst of their reasons."""
        ends = {worker.ended for worker in self.workers}
        worst: tuple[Ended, ...] = ("crashed", "interrupted", "exhausted")
        return next((end for end in worst if end in ends), "enough")


def in_processes(
    search: Search,
    worker_devices: Sequence[str | None],
    stop: Stop,
    printer: ProgressPrinter,
    execute: Execute | None,
) -> Ended:
    """A worker on each of these devices, the dead replaced, until all of them have ended.

    Where `stop` says when, they are told to give their runs back, and are cut off.

    Raises BluestabError if a worker cannot go on, Interrupted at a second Ctrl-C.
    """
    pool = SearchPool(search, worker_devices, stop, printer, execute)
    try:
        while any(not worker.ended for worker in pool.workers):
            if stop.asked:
                pool.ask_to_stop()
            if stop.asked and stop.until is not None and time.monotonic() >= stop.order_at:
                pool.give_back(stop.until)
            pool.hear(seconds=0.3)
            printer.look()
            pool.replace_dead()
        return pool.outcome()
    except KeyboardInterrupt as error:
        raise Interrupted("stopped; what ran was cut off, the same command goes on") from error
    finally:
        pool.dismiss()

"""Worker processes: one (`WorkerProcess`), and as many as there are devices (`WorkerPool`).

A server process imports the libraries once and forks the workers, so that one that dies is replaced
in no time. Parent and worker exchange messages through a pipe. A worker sends dicts, the first of
them `{"what": "ready"}`; the other messages, and what workers are given, are the pool's own.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

from bluestab.core import preemption
from bluestab.core.errors import BluestabError
from bluestab.core.preemption import signals_blocked
from bluestab.store.store import Store

MAX_START_FAILURES = 5  # workers in a row that die before they could do anything
LIBRARIES = ("transformers.modeling_layers",)  # a second that no worker should spend anew


@dataclass
class WorkerProcess:
    """A worker process, seen from the parent.

    device  that it works on; None: as each config has it
    output  file that its terminal is
    ready   has it said that it can work?
    """

    device: str | None
    process: BaseProcess
    connection: Connection
    output: Path
    ready: bool = False

    def output_tail(self, n_bytes: int) -> str:
        """The end of what it wrote to its terminal: a segmentation fault, the memory killer."""
        try:
            return self.output.read_bytes()[-n_bytes:].decode(errors="replace")
        except OSError:
            return ""

    def give_back(self) -> None:
        """Preempt it: a signal has it save a checkpoint and leave its run (`core.preemption`)."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid or 0, signal.SIGUSR1)

    def kill(self) -> None:
        """Kill it if it lives, and wait until it is gone."""
        self.process.kill()
        self.process.join()

    def end(self) -> None:
        """Kill it if it lives, and clear up after it."""
        self.connection.close()
        self.kill()
        self.output.unlink(missing_ok=True)


Process = TypeVar("Process", bound=WorkerProcess)


class WorkerPool(ABC, Generic[Process]):
    """Worker processes, kept at their number: what every engine does with them.

    worker_class    what a worker is, seen from the parent
    workers         one for each device that was asked for
    early_deaths    of workers in a row that had not said that they are ready
    is_giving_back  whether the workers have been preempted
    """

    worker_class: type[Process]

    def __init__(self, store: Store, devices: Sequence[str | None], preload: Sequence[str]) -> None:
        """preload: modules that the server process imports before it forks a worker."""
        self.store = store
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([*preload])
        self.early_deaths = 0
        self.is_giving_back = False
        for left in store.abandoned("worker-*"):
            left.unlink(missing_ok=True)
        self.workers = [self.spawn(device) for device in devices]

    # --- what an engine decides ---

    @abstractmethod
    def start(self, device: str | None, connection: Connection, output: Path) -> BaseProcess:
        """Begin a worker at its end of the pipe, by `start_process`."""

    @abstractmethod
    def is_busy(self, worker: Process) -> bool:
        """Has it work that it can give back?"""

    @abstractmethod
    def answered(self, worker: Process, answer: Mapping[str, Any]) -> None:
        """A message has come from it, other than that it is ready."""

    @abstractmethod
    def died(self, worker: Process) -> None:
        """Its end of the pipe is closed, or its process is dead."""

    def is_heard(self, worker: Process) -> bool:
        """Whether messages of this worker are still waited for."""
        return True

    def silent(self, worker: Process) -> None:
        """No message has come from it this time: an engine may check a time limit."""
        return

    def cut_off(self, worker: Process) -> None:
        """It was preempted and did not end in time."""
        worker.kill()

    # --- the same for all ---

    def spawn(self, device: str | None) -> Process:
        """A new worker, which will say when it is ready."""
        ours, theirs = self.context.Pipe()
        output = self.store.work_path(f"worker-{time.monotonic_ns()}")
        process = self.start(device, theirs, output)
        theirs.close()
        return self.worker_class(device, process, ours, output)

    def replace(self, worker: Process) -> None:
        """A new worker in the place of this one, which is ended."""
        worker.end()
        self.workers[self.workers.index(worker)] = self.spawn(worker.device)

    def busy(self) -> list[Process]:
        return [worker for worker in self.workers if self.is_busy(worker)]

    def hear(self, seconds: float) -> None:
        """Wait at most `seconds` for messages and deaths of workers, and call the methods above."""
        workers = [worker for worker in self.workers if self.is_heard(worker)]
        ready: list[Any] = wait(
            [w.connection for w in workers] + [w.process.sentinel for w in workers],
            timeout=seconds,
        )
        for worker in workers:
            if worker.connection in ready:
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    self.died(worker)
                    continue
                if answer["what"] == "ready":
                    worker.ready, self.early_deaths = True, 0
                else:
                    self.answered(worker, answer)
            elif worker.process.sentinel in ready:
                self.died(worker)
            else:
                self.silent(worker)

    def count_early_death(self, worker: Process, why: str) -> None:
        """Raises BluestabError if workers die one after the other before they can do anything."""
        self.early_deaths += not worker.ready
        if self.early_deaths >= MAX_START_FAILURES:
            raise BluestabError(f"worker processes die before they can start:{why}")

    def give_back(self, until: float) -> None:
        """Preempt the workers, once; from `until` on (`time.monotonic`), cut off those at work."""
        if not self.is_giving_back:
            self.is_giving_back = True
            for worker in self.busy():
                worker.give_back()
        if time.monotonic() < until:
            return
        for worker in self.busy():
            self.cut_off(worker)

    def dismiss(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.end()


def start_process(
    context: ForkServerContext, target: Callable[..., None], *args: Any, **kwargs: Any
) -> ForkServerProcess:
    """Start a worker process with the signals of preemption blocked until it calls
    `install_handlers`; the server processes behind it never do."""
    process = context.Process(target=target, args=args, kwargs=kwargs)
    with signals_blocked():
        resource_tracker.ensure_running()
    with signals_blocked():  # again: at its start, the tracker lets some of them through
        process.start()
    return process


# --- from inside --------------------------------------------------------------------------------


def enter(connection: Connection, output: str, environment: Mapping[str, str]) -> None:
    """What a worker does before anything else: signals, environment, the end with its parent.

    output       file for what libraries print and for the traceback of a crash in native code
    environment  of the parent: that of the server it was forked from may be older
    """
    # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preemption.install_handlers()
    os.environ.clear()
    os.environ.update(environment)
    die_with_parent(connection)
    write_to(output)


def die_with_parent(connection: Connection) -> None:
    """A worker without a parent would go on unseen, and hold its claim."""
    hung_up = select.poll()
    hung_up.register(connection.fileno(), getattr(select, "POLLRDHUP", 0))  # POLLHUP always counts

    def watch() -> None:
        hung_up.poll()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def write_to(path: str) -> None:
    """Send what libraries print, and the traceback of a crash in native code, to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable()

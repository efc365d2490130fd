"""A worker process: how it begins, how it ends, and what it writes before it does."""

from __future__ import annotations

import faulthandler
import os
import select
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bluestab.interruption import held_back


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


def die_with_parent(connection: Connection) -> None:
    """A worker without a parent would go on unseen, and hold its claim."""
    hung_up = select.poll()
    hung_up.register(connection.fileno(), getattr(select, "POLLRDHUP", 0))  # POLLHUP always counts

    def watch() -> None:
        hung_up.poll()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def write_to(path: str) -> None:
    """What libraries print, and the last words of a crash in native code, go to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable()

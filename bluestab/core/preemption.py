"""Preemption: a signal asks this process to leave its run soon, with as little lost as possible.

`install_handlers` makes the signals of `ORDERS` set a flag. The training loop looks at it where a
run can be cut without harm, before the next batch, saves a checkpoint and raises `Preempted` (see
`training/loop/checkpoints.py`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ORDERS = (signal.SIGTERM, signal.SIGUSR1)
"""SLURM sends the first before it kills; the other is ours."""

WARNING = signal.SIGUSR2
"""SLURM sends it when the time is nearly up; who leads the workers decides what to do then."""

_requested = threading.Event()
_installed = threading.Event()


class Preempted(BaseException):
    """The run ends here without a result; whoever takes it next goes on from its checkpoint.

    No Exception: it is no crash, and nothing that catches crashes may catch it.
    """


def is_requested() -> bool:
    """Whether a signal has asked this process to save its run and leave it."""
    return _requested.is_set()


def install_handlers() -> None:
    """Install the handler of the signals in `ORDERS`, and unblock them: those that wait arrive."""
    for number in ORDERS:
        signal.signal(number, _note_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS)
    _installed.set()


def reinstall_handlers() -> None:
    """Install them again where they were replaced: Lightning's end a run unsaved at SIGTERM."""
    if _installed.is_set():
        install_handlers()


def _note_signal(*_: object) -> None:
    _requested.set()


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block `ORDERS` and `WARNING`: they wait, and processes started inside inherit the mask until
    they call `install_handlers`.

    A scheduler sends its signals to every process of a job, servers of ours included, which would
    die of them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*ORDERS, WARNING))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

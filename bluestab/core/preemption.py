"""An order to this process: give the run back, soon, with as little lost as possible.

Sent to a worker by a signal (`obey`), obeyed where a run can be cut without harm: before the next
training batch, after a checkpoint (see `training/loop/checkpoints.py`).
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

_asked = threading.Event()
_obeys = threading.Event()


class Preempted(BaseException):
    """The run ends here without a result; whoever takes it next goes on from its checkpoint.

    No Exception: it is no crash, and nothing that catches crashes may catch it.
    """


def asked() -> bool:
    """Is the run of this process to be given back?"""
    return _asked.is_set()


def install_handlers() -> None:
    """From now on, every signal of `ORDERS` is such an order, those that wait included."""
    for number in ORDERS:
        signal.signal(number, _hear)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS)
    _obeys.set()


def reinstall_handlers() -> None:
    """Where a library has put itself in front: Lightning ends a run at SIGTERM, unsaved."""
    if _obeys.is_set():
        install_handlers()


def _hear(*_: object) -> None:
    _asked.set()


@contextmanager
def signals_blocked() -> Iterator[None]:
    """These signals wait; processes started inside never see `ORDERS` unless they `obey`.

    A scheduler sends its signals to every process of a job, servers of ours included, which would
    die of them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*ORDERS, WARNING))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

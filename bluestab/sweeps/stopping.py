"""What makes a sweep pause or stop: a person, a full disk, runs that other processes do."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

from bluestab.core.errors import DiskFull
from bluestab.core.printable import counted
from bluestab.report.terminal.progress import SweepDisplay
from bluestab.store.store import Store
from bluestab.sweeps.queue import LOOK_AGAIN, Source

ROOM = 8 * 2**20  # bytes that must be free before a sweep that ran out of room goes on


class Stop:
    """Ctrl-C once: `asked` is true, what runs is finished. Twice: KeyboardInterrupt, at once.

    deadline  when it is asked by itself (`time.monotonic`); None: never
    until     when what runs is cut off (`time.monotonic`); None: it is finished
    order_at  when it is preempted, before that
    """

    def __init__(self, say: Callable[[str], None], deadline: float | None = None) -> None:
        self._pressed, self._deadline = False, deadline
        self.until: float | None = None
        self.order_at = 0.0
        self._say = say

    @property
    def asked(self) -> bool:
        """Whether no further run is to begin."""
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return self._pressed or late

    @asked.setter
    def asked(self, value: bool) -> None:
        self._pressed = value

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._pressed:
            raise KeyboardInterrupt
        self.asked = True
        self._say("stopping: what runs is finished first; Ctrl-C again stops it too")


def tell_waiting(display: SweepDisplay, queue: Source) -> None:
    """Show, once, that nothing can be started: other processes do what is missing."""
    if not display.note:
        display.note = f"waiting for {counted(len(queue), 'run')} of other processes"
        display.say(display.note)


def has_room(store: Store) -> bool:
    """Bytes, inodes and what a quota leaves: enough for a result?"""
    return store.free_bytes() >= ROOM and store.takes_files(ROOM)


def refuse_too_large(store: Store, error: DiskFull) -> None:
    """Raises the error again if the disk is not full without the result that did not fit.

    A next try would then end as this one did, and train for nothing.
    """
    if error.needed >= ROOM and store.free_bytes() <= error.needed + ROOM and has_room(store):
        raise error


def pause_until_room(store: Store, stop: Stop, say: Callable[[str], None], error: DiskFull) -> None:
    """Wait until a full disk has room, or a stop is asked: better than crash after crash.

    Raises `error`, what the disk was too full for, if it is too large for the room that there is.
    """
    refuse_too_large(store, error)
    say(
        f"paused: the disk of '{store.root}' is full; make room (at least {ROOM // 2**20} MiB "
        "and some files, of the disk and of a quota) and "
        "the sweep goes on by itself; Ctrl-C leaves, the same command goes on later"
    )
    time.sleep(LOOK_AGAIN)
    while not has_room(store) and not stop.asked:
        time.sleep(LOOK_AGAIN)
    if not stop.asked:
        say("there is room again: going on")

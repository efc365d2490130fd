"""Progress while runs go on: live bars in a terminal, one line per finished run elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bluestab.core.errors import StoreError
from bluestab.core.printable import printable
from bluestab.core.types import RunRecord
from bluestab.report.terminal.sweep_view import SweepView, started
from bluestab.report.terminal.tables import console, seconds
from bluestab.report.terminal.watch import Screen, drawn, time_left
from bluestab.report.words.phrases import verdict
from bluestab.store.store import Store

REDRAW = 0.5  # seconds between two looks at the store


class RunBar:
    """Progress of one run; the bar is gone when the run is."""

    def __init__(self, label: str = "") -> None:
        self.console = console()
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            disable=not self.console.is_interactive,
            transient=True,
        )
        self.current = self.bar.add_task(printable(label), total=None, note="")

    def __enter__(self) -> Self:
        self.bar.start()
        if self.console.is_interactive:
            self.console.show_cursor(True)  # a process that is killed cannot bring it back
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def progress(self, step: int, total: int, loss: float | None, score: float | None) -> None:
        """Called at every optimizer step; loss and validation score are given now and then."""
        self.bar.update(self.current, completed=step, total=total)
        if loss is not None:
            said = "undefined" if score is None else f"{score:.3f}"
            self.bar.update(self.current, note=f"loss {loss:.3f}, validation {said}")


class SweepDisplay:
    """Progress of a sweep, read from its store by a thread of its own.

    note     a standing line under the bars, as long as it is not empty
    workers  how many work on it, for the remaining time
    """

    def __init__(self, name: str, keys: Sequence[str], store: Store, *, workers: int) -> None:
        self.note = ""
        self.console = console()
        self._name, self.workers = printable(name), workers
        self._view = _view(store, name, keys)
        self._screen: Screen | None = None
        self._lock = threading.RLock()  # reentrant: `say` may be called by a signal handler
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="display", daemon=True)
        found = f", {self._view.done} already there" if self._view.done else ""
        self.say(f"{self._name}: {self._view.total} runs{found}")

    def __enter__(self) -> Self:
        if self.console.is_interactive:
            self._screen = Screen(self.console)
            self._screen.__enter__()
            self._draw()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._screen is not None:
            self._thread.join()
            self._screen.__exit__(*_)

    def end(self, record: RunRecord, label: str) -> None:
        """A run is finished or crashed: one line, which stays."""
        with self._lock:
            self._view.refresh()
            view = self._view
            note = time_left(view, self.workers)
            if view.failed or view.crashed:
                note += f", {view.failed} failed, {len(view.crashed)} crashed"
            took = seconds(record.measured["seconds"]["total"])
            self.say(
                f"[{view.done + len(view.crashed)}/{view.total}] {printable(label)}: "
                f"{printable(verdict(record), 1000)} ({took}, {note})"
            )

    def say(self, text: str) -> None:
        """A line for the person at the keyboard, which stays."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _redraw(self) -> None:
        with suppress(Exception):  # a display that fails must not disturb the runs
            while not self._ended.wait(REDRAW):
                with self._lock:
                    self._view.refresh()
                self._draw()

    def _draw(self) -> None:
        assert self._screen is not None
        with self._lock:
            size = self.console.size
            what = drawn(
                self._view,
                self._name,
                self.workers,
                width=size.width,
                height=size.height,
                note=self.note,
            )
        self._screen.draw(what)


def _view(store: Store, name: str, keys: Sequence[str]) -> SweepView:
    """Cells come from the manifest, which tells how long runs take; the keys alone do too."""
    try:
        manifest = store.manifest(name)
    except StoreError:
        manifest = None
    wanted = set(keys)
    runs = [run for run in (manifest or {"runs": []})["runs"] if run["key"] in wanted]
    if len(runs) < len(wanted):
        runs = [{"key": key} for key in keys]
    return SweepView(store, runs, started(store, name))

"""Progress while runs go on: live bars in a terminal; in a pipe or a log a line at every
evaluation, one a minute where nothing else is said, and one per finished run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bluestab.core.errors import StoreError
from bluestab.core.printable import counted, printable
from bluestab.core.types import RunRecord
from bluestab.report.terminal.sweep_view import SweepView, started
from bluestab.report.terminal.tables import console, seconds
from bluestab.report.terminal.watch import Screen, drawn, plain, time_left
from bluestab.report.words.phrases import verdict
from bluestab.store.store import Store

REDRAW = 0.5  # seconds between two looks at the store
LOOK = 5.0  # the same where lines are printed
SILENT = 60.0  # seconds after which a line says that the work goes on


def _at(step: object, total: object, loss: object, score: object) -> str:
    """`step 40/80, loss 0.321, validation 0.812`; scores only where they are known."""
    said = f"step {step}/{total}"
    if isinstance(loss, float):
        shown = f"{score:.3f}" if isinstance(score, float) else "undefined"
        said += f", loss {loss:.3f}, validation {shown}"
    return said


class RunBar:
    """Progress of one run; the bar is gone when the run is."""

    def __init__(self, label: str = "") -> None:
        self.console = console()
        self._said_at = time.monotonic()
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
            note = _at(step, total, loss, score).partition(", ")[2]
            self.bar.update(self.current, note=note)
        silent = time.monotonic() - self._said_at
        if not self.console.is_interactive and (loss is not None or silent >= SILENT):
            label = self.bar.tasks[0].description
            said = f"{label}: {_at(step, total, loss, score)}"
            self.console.print(said, markup=False, soft_wrap=True)
            self._said_at = time.monotonic()


class SweepDisplay:
    """Progress of a sweep, read from its store by a thread of its own.

    note     a standing line under the bars, as long as it is not empty
    workers  how many work on it, for the remaining time
    blind    test scores are not shown
    """

    def __init__(
        self,
        name: str,
        keys: Sequence[str],
        store: Store,
        *,
        workers: int,
        blind: bool = False,
    ) -> None:
        self.note, self._blind = "", blind
        self.console = console()
        self._name, self.workers = printable(name), workers
        self._view = _view(store, name, keys, blind)
        self._screen: Screen | None = None
        self._lock = threading.RLock()  # reentrant: `say` may be called by a signal handler
        self._ended = threading.Event()
        self._said_at = time.monotonic()
        self._seen: dict[str, tuple[object, object]] = {}
        work = self._redraw if self.console.is_interactive else self._tell
        self._thread = threading.Thread(target=work, name="display", daemon=True)
        found = f", {self._view.done} already there" if self._view.done else ""
        self.say(f"{self._name}: {counted(self._view.total, 'run')}{found}")

    def __enter__(self) -> Self:
        if self.console.is_interactive:
            self._screen = Screen(self.console)
            self._screen.__enter__()
            self._draw()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._screen is not None:
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
                f"{printable(verdict(record, blind=self._blind), 1000)} ({took}, {note})"
            )

    def say(self, text: str) -> None:
        """A line for the person at the keyboard, which stays."""
        self.console.print(text, markup=False, soft_wrap=True)
        self._said_at = time.monotonic()

    def _tell(self) -> None:
        with suppress(Exception):  # as below
            while not self._ended.wait(LOOK):
                with self._lock:
                    self._view.refresh()
                    for line in self._evaluations():
                        self.say(line)
                    if time.monotonic() - self._said_at >= SILENT:
                        self.say(plain(self._view, self._name, self.workers))

    def _evaluations(self) -> Iterator[str]:
        """A line for each run that was evaluated since the last look."""
        for key, claim in self._view.running.items():
            found = (claim.get("loss"), claim.get("score"))
            if found[0] is not None and self._seen.get(key) != found:
                label = printable(claim.get("label") or key)
                yield f"  {label}: {_at(claim.get('step'), claim.get('total'), *found)}"
            self._seen[key] = found

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


def _view(store: Store, name: str, keys: Sequence[str], blind: bool = False) -> SweepView:
    """Cells come from the manifest, which tells how long runs take; the keys alone do too."""
    try:
        manifest = store.manifest(name)
    except StoreError:
        manifest = None
    wanted = set(keys)
    runs = [run for run in (manifest or {"runs": []})["runs"] if run["key"] in wanted]
    if len(runs) < len(wanted):
        runs = [{"key": key} for key in keys]
    return SweepView(store, runs, started(store, name), blind=blind)

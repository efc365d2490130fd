"""Progress while runs go on: a live bar in a terminal, one line per finished run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bluestab.report.terminal import console, seconds, verdict
from bluestab.store import Store
from bluestab.types import RunRecord


class RunBar:
    """Progress of one run; the bar is gone when the run is."""

    def __init__(self, label: str = "") -> None:
        self.console = console()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.current = self.bar.add_task(label, total=None, note="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def progress(self, step: int, total: int, loss: float | None, score: float | None) -> None:
        """Called at every optimizer step; loss and validation score are given now and then."""
        self.bar.update(self.current, completed=step, total=total)
        if loss is not None:
            said = "undefined" if score is None else f"{score:.3f}"
            self.bar.update(self.current, note=f"loss {loss:.3f}, validation {said}")


class SweepDisplay:
    """Progress of a sweep."""

    def __init__(self, name: str, keys: Sequence[str], store: Store, *, workers: int) -> None:
        self.console = console()
        self.total, self.store, self.workers = len(keys), store, workers
        self.done = sum(map(store.has, keys))
        self.note = ""
        found = f", {self.done} already there" if self.done else ""
        self.console.print(f"{name}: {self.total} runs{found}", markup=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def end(self, record: RunRecord, label: str) -> None:
        self.done += 1
        took = seconds(record.measured["seconds"]["total"])
        self.console.print(
            f"[{self.done}/{self.total}] {label}: {verdict(record)} ({took})",
            markup=False,
            soft_wrap=True,
        )

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

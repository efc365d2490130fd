"""Progress while runs go on: a live bar in a terminal, one line per finished run elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bluestab.report.terminal import console, describe, seconds, verdict
from bluestab.types import RunRecord

if TYPE_CHECKING:
    from bluestab.planning import PlannedRun


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


class SweepBar(RunBar):
    """Progress of a sweep and of its current run; remaining time is learnt from finished runs."""

    def __init__(self, name: str, *, total: int, done: int) -> None:
        super().__init__()
        self.total, self.done = total, done
        self.taken: list[float] = []
        self.failed = self.crashed = 0
        found = f", {done} already there" if done else ""
        self.console.print(f"{name}: {total} runs{found}", markup=False)
        self.overall = self.bar.add_task(name, total=total, completed=done, note="")

    def begin(self, planned: PlannedRun) -> None:
        self.started = time.perf_counter()
        self.label = describe(planned.run)
        self.bar.reset(self.current, description=self.label, total=None, note="")

    def end(self, record: RunRecord) -> None:
        self.taken.append(time.perf_counter() - self.started)
        self.done += 1
        self.failed += record.failed if record.status != "crashed" else 0
        self.crashed += record.status == "crashed"
        left = (self.total - self.done) * sum(self.taken) / len(self.taken)
        note = f"{seconds(left)} left"
        if self.failed or self.crashed:
            note += f", {self.failed} failed, {self.crashed} crashed"
        self.bar.update(self.overall, completed=self.done, note=note)
        self.console.print(
            f"[{self.done}/{self.total}] {self.label}: {verdict(record)} "
            f"({seconds(self.taken[-1])}, {note})",
            markup=False,
            soft_wrap=True,
        )

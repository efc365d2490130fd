"""What a person sees in the terminal: progress while runs go on, a table at the end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from bluestab.store import Store
from bluestab.types import RunRecord

if TYPE_CHECKING:
    import pandas as pd

    from bluestab.checks import CheckedRun
    from bluestab.planning import PlannedRun


def console() -> Console:
    """Standard output; wide enough for whole rows where it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def seconds(value: float) -> str:
    """85 -> 1:25; 4000 -> 1:06:40."""
    hours, rest = divmod(round(value), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


class Display:
    """Progress of a sweep: a live bar in a terminal, one line per finished run elsewhere.

    The remaining time is learnt from the runs finished so far.
    """

    def __init__(self, name: str, *, total: int, done: int) -> None:
        self.name, self.total, self.done = name, total, done
        self.finished_here: list[float] = []
        self.failed = self.crashed = 0
        self.console = console()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Display:
        found = f", {self.done} already there" if self.done else ""
        self.console.print(f"{self.name}: {self.total} runs{found}")
        self.bar.start()
        self.overall = self.bar.add_task(self.name, total=self.total, completed=self.done, note="")
        self.current = self.bar.add_task("", total=None, visible=False, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def begin(self, planned: PlannedRun) -> None:
        self.started = time.perf_counter()
        self.label = describe(planned.run)
        self.bar.update(
            self.current, description=self.label, completed=0, total=None, visible=True, note=""
        )

    def progress(self, step: int, total: int, loss: float | None, score: float | None) -> None:
        """Called at every optimizer step; loss and validation score are given now and then."""
        self.bar.update(self.current, completed=step, total=total)
        if loss is not None:
            self.bar.update(self.current, note=_loss_and_score(loss, score))

    def end(self, planned: PlannedRun, record: RunRecord) -> None:
        taken = time.perf_counter() - self.started
        self.done += 1
        self.finished_here.append(taken)
        self.failed += record.failed if record.status != "crashed" else 0
        self.crashed += record.status == "crashed"
        left = (self.total - self.done) * sum(self.finished_here) / len(self.finished_here)
        note = f"{seconds(left)} left"
        if self.failed or self.crashed:
            note += f", {self.failed} failed, {self.crashed} crashed"
        self.bar.update(self.overall, completed=self.done, note=note)
        self.console.print(
            f"[{self.done}/{self.total}] {self.label}: {verdict(record)} "
            f"({seconds(taken)}, {note})",
            markup=False,
            soft_wrap=True,
        )


class Single:
    """Progress of one run: a bar that is gone when the run is."""

    def __init__(self, run: CheckedRun) -> None:
        out = console()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=out,
            disable=not out.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task(describe(run), total=None, note="")

    def __enter__(self) -> Single:
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
        self.bar.update(self.task, completed=step, total=total)
        if loss is not None:
            self.bar.update(self.task, note=_loss_and_score(loss, score))


def _loss_and_score(loss: float, score: float | None) -> str:
    return f"loss {loss:.3f}, validation {'undefined' if score is None else f'{score:.3f}'}"


def describe(run: CheckedRun) -> str:
    technique = "+".join(run.techniques) or "none"
    return f"{run.data.task.name} {run.model.name} {technique} seed {run.cfg['seed']}"


def reason(record: RunRecord) -> str:
    """Why a run crashed: the type of the error and the first line of what it says, if anything."""
    error = record.result["error"]
    return ": ".join([error["type"], *error["message"].splitlines()[:1]])


def verdict(record: RunRecord) -> str:
    """One phrase: the test score at the last step, or what went wrong."""
    result = record.result
    if record.status == "crashed":
        return f"crashed, {reason(record)}"
    if record.status == "diverged":
        return f"diverged, {result['error']['message']}"
    value = result["metrics"]["last"]["test"][result["metric"]]
    said = "undefined" if value is None else f"{value:.4f}"
    return f"{result['metric']} {said}" + (" (failed: degenerate)" if record.failed else "")


def print_record(record: RunRecord, folder: str) -> None:
    """The scores of one run as a table, and where the rest is."""
    out = console()
    result = record.result
    if result["metrics"] is not None:
        table = Table(box=None, pad_edge=False)
        for heading in ("", "validation last", "test last", "validation best", "test best"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name in result["metrics"]["last"]["test"]:
            cells = [
                _number(result["metrics"][at][split][name])
                for at in ("last", "best")
                for split in ("validation", "test")
            ]
            table.add_row(name, *cells)
        out.print(table)
    out.print(f"{verdict(record)}; everything about this run: {folder}", markup=False)


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def summary_table(summary: pd.DataFrame) -> Table:
    """task, model, arm, n, mean, std, min, max, failed share; scores at the last step."""
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "model", "arm"):
        table.add_column(heading)
    for heading in ("n", "mean", "std", "min", "max", "failed", "crashed", "change"):
        table.add_column(heading, justify="right")
    previous = None
    for row in summary[summary["at"] == "last"].to_dict("records"):
        subject = (row["task"], row["model"])
        shown = ("", "") if subject == previous else subject
        previous = subject
        share = row["failed_share"]
        table.add_row(
            *shown,
            row["arm"],
            str(row["n"]),
            *(_number(row[k]) for k in ("mean", "std", "min", "max")),
            "-" if share is None or share != share else f"{share:.0%}",
            str(row["n_crashed"] or ""),
            "" if row["delta"] is None or row["delta"] != row["delta"] else f"{row['delta']:+.4f}",
        )
    return table


def print_outcome(store: Store, manifest: Mapping[str, Any] | None, baseline: str = "none") -> None:
    """The closing table of a sweep."""
    from bluestab.report.frame import runs_frame, select, summary_frame

    out = console()
    runs = runs_frame(select(store, manifest))
    if runs.empty:
        out.print("no finished runs yet")
        return
    summary = summary_frame(runs, baseline)
    metrics = ", ".join(
        f"{t}: {m}" for t, m in dict(zip(runs["task"], runs["metric"], strict=True)).items()
    )
    out.print(f"\ntest score at the last step ({metrics})")
    out.print(summary_table(summary))
    out.print(
        "std over seeds (ddof 1); failed: share of degenerate and diverged runs, which stay in "
        f"the mean; change: against arm {baseline} on shared seeds"
    )


def counts(store: Store, manifest: Mapping[str, Any]) -> Counter[str]:
    """How many runs of a sweep are done, diverged, crashed, running, missing."""
    running = store.running()
    found: Counter[str] = Counter()
    for run in manifest["runs"]:
        key = run["key"]
        if store.has(key):
            found[store.read(key).status] += 1
        elif key in running:
            found["running"] += 1
        elif store.crash(key) is not None:
            found["crashed"] += 1
        else:
            found["missing"] += 1
    return found


def print_status(store: Store, manifest: Mapping[str, Any]) -> None:
    """Counts of the sweep, and every crash with its first line."""
    out = console()
    found = counts(store, manifest)
    out.print(f"{manifest['name']}: {len(manifest['runs'])} runs in {store.root}", markup=False)
    order = ("done", "diverged", "running", "crashed", "missing")
    out.print("  " + ", ".join(f"{found[status]} {status}" for status in order))
    for run in manifest["runs"]:
        record = store.crash(run["key"])
        if record is not None:
            out.print(
                f"  crashed: {' '.join(run['overrides'])}\n    {reason(record)}",
                markup=False,
                soft_wrap=True,
            )
    if found["missing"] or found["crashed"]:
        out.print(f"  to go on: {manifest['command']}", markup=False, soft_wrap=True)


def print_plan(store: Store, runs: Sequence[CheckedRun]) -> None:
    """What a command would run."""
    out = console()
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "model", "technique"):
        table.add_column(heading)
    for heading in ("runs", "done", "train", "validation", "test"):
        table.add_column(heading, justify="right")
    cells: dict[str, list[CheckedRun]] = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(run)
    for members in cells.values():
        first = members[0]
        items = first.data.select(first.seeds)
        table.add_row(
            first.data.task.name,
            first.model.name,
            "+".join(first.techniques) or "none",
            str(len(members)),
            str(sum(store.has(run.key) for run in members)),
            *(str(len(items[split])) for split in ("train", "validation", "test")),
        )
    out.print(table)
    done = sum(store.has(run.key) for run in runs)
    out.print(
        f"{len(runs)} runs in {len(cells)} cells, {done} done; all is well, nothing was started"
    )

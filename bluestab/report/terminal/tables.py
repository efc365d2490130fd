"""What a person sees in the terminal: verdicts, plans, the state of a sweep."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from bluestab.core.printable import CONTROL, counted, printable_lines
from bluestab.core.types import RunRecord
from bluestab.report.words import preserved
from bluestab.report.words.phrases import first_of, number, reason, verdict
from bluestab.store.disk import Usage, usage
from bluestab.store.index import Contents, contents
from bluestab.store.representations import FILE as REPRESENTATIONS
from bluestab.store.store import Store
from bluestab.training.truncation import truncation_note

if TYPE_CHECKING:
    from bluestab.training.check import Run


PIPE = 10_000
"""Columns of a file: a line of a table is a line of it, whatever its width."""


class SafeConsole(Console):
    """Shows control characters of names and messages instead of obeying them."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not CONTROL.search(segment.text):
                yield segment
            else:
                yield segment._replace(text=printable_lines(segment.text))


def console() -> Console:
    """Standard output; where it is no terminal and COLUMNS is not set, as wide as any row needs."""
    return SafeConsole(
        width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPE, highlight=False
    )


def seconds(value: float) -> str:
    """85 -> 1:25; 4000 -> 1:06:40."""
    hours, rest = divmod(round(value), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def size(n_bytes: float) -> str:
    """850 -> 850 B; 1234567 -> 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def phase_table(phases: Mapping[str, float]) -> Table:
    """Seconds by phase, and their share, the longest first."""
    table, total = Table(box=None, pad_edge=False), sum(phases.values()) or 1.0
    for column in ("phase", "seconds", "share"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for name, took in sorted(phases.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{took:.2f}", f"{took / total:.0%}")
    return table


def print_record(record: RunRecord, folder: str) -> None:
    """The scores of one run as a table, its metric first, and where the rest is."""
    out = console()
    result = record.result
    if result["metrics"] is not None:
        table = Table(box=None, pad_edge=False)
        for heading in ("", "validation last", "test last", "validation best", "test best"):
            table.add_column(heading, justify="left" if not heading else "right")
        headline = result["metric"]
        for name in sorted(result["metrics"]["last"]["test"], key=lambda one: one != headline):
            values = [
                result["metrics"][at][split][name]
                for at in ("last", "best")
                for split in ("validation", "test")
            ]
            if name == headline or any(value is not None for value in values):
                table.add_row(name, *map(number, values))
        out.print(table)
    if source := record.measured["names"].get("init_from"):
        out.print(f"encoder from the {source['at']} weights of {source['task']} {source['run']}")
    for sentence in preserved.of_run(record, Store(Path(folder).parent)):
        out.print(sentence, markup=False)
    lost = result.get("lost")
    if lost and (note := truncation_note(lost, lost["unit"])):
        out.print(note, markup=False, soft_wrap=True)
    if record.measured.get("profiled"):
        out.print(phase_table(record.measured["phases"]))
    out.print(f"{verdict(record)}; everything about this run: {folder}", markup=False)


def print_notes(runs: Iterable[Run], store: Store | None = None) -> None:
    """What to know before these runs start, each note once.

    store  where the latest run may have been of the same data: then its log has the notes on how
           they were read, and one line names it
    """
    said: dict[str, None] = {}
    latest: tuple[Path, str] | None = None
    for run in runs:
        name, reading = run.data.task.name, run.data.notes
        if latest is None and store is not None and len(reading) > 1:
            latest = _latest_log(store)
        if latest is not None and len(reading) > 1 and all(note in latest[1] for note in reading):
            said[f"{name}: read as for the latest run, see {latest[0]} or bluestab inspect"] = None
        else:
            said |= dict.fromkeys(f"{name}: {note}" for note in reading)
        said |= dict.fromkeys(run.notes())
    for note in said:
        console().print(note, markup=False, soft_wrap=True)


def _latest_log(store: Store) -> tuple[Path, str]:
    """The log of the run that was finished last, and its text; empty where there is none."""
    for key in store.latest_keys()[:1]:
        log = store.folder(key) / "log.txt"
        with suppress(OSError):
            return log, log.read_text(encoding="utf-8", errors="replace")
    return store.root, ""


def print_damaged(out: Console, damaged: Mapping[str, str]) -> None:
    """Runs that are in no number, each with its file."""
    if damaged:
        out.print(f"  {len(damaged)} damaged records, which are in no number here:")
    print_lines(out, first_of("damaged", list(damaged.values())))


def print_lines(out: Console, lines: Iterable[str]) -> None:
    """Text as it is: no markup in it, and broken by the terminal alone."""
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def counts(found: Contents, manifest: Mapping[str, Any]) -> Counter[str]:
    """How many runs of a sweep are done, diverged, crashed, damaged, running, missing."""
    running = found.store.running()
    return Counter(_state(found, run["key"], running) for run in manifest["runs"])


def _state(found: Contents, key: str, running: Container[str]) -> str:
    """A crashed run that is being tried again is running."""
    if key in found.damaged:
        return "damaged"
    status = found.statuses.get(key, "missing")
    return "running" if status in ("missing", "crashed") and key in running else status


def print_status(store: Store, manifest: Mapping[str, Any]) -> None:
    """Counts of the sweep, every crash with its first line, damaged records, disk in use."""
    out = console()
    found = contents(store, [run["key"] for run in manifest["runs"]])
    n = counts(found, manifest)
    out.print(
        f"{manifest['name']}: {counted(len(manifest['runs']), 'run')} in {store.root}", markup=False
    )
    order = ("done", "diverged", "running", "crashed", "missing")
    shown = [*order, *(["damaged"] if n["damaged"] else [])]
    out.print("  " + ", ".join(f"{n[status]} {status}" for status in shown))
    for run in manifest["runs"]:
        if found.statuses.get(run["key"]) == "crashed":
            out.print(
                f"  crashed: {' '.join(run['overrides'])}\n    {reason(found.record(run['key']))}",
                markup=False,
                soft_wrap=True,
            )
    print_damaged(out, found.damaged)
    out.print(f"  on disk: {_usage(usage(store.root))}", markup=False)
    if n["missing"] or n["crashed"] or n["damaged"]:
        out.print(f"  to go on: {manifest['command']}", markup=False, soft_wrap=True)


def _usage(used: Usage) -> str:
    parts = {
        "checkpoint/": used.checkpoints,
        REPRESENTATIONS: used.representations,
        ".resume/": used.resume,
    }
    named = [f"{size(n_bytes)} in {name}" for name, n_bytes in parts.items() if n_bytes]
    return size(used.total) + (f", of these {' and '.join(named)}" if named else "")

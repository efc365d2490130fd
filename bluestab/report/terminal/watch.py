"""A sweep as it goes on, drawn in a terminal, or told line by line where there is none."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bluestab.core.printable import printable
from bluestab.report.terminal.sparklines import strips
from bluestab.report.terminal.sweep_view import SweepView, elapsed, fraction, number, started
from bluestab.report.terminal.tables import console, seconds
from bluestab.store.store import Store

LINES = 20  # runs that are shown one by one
LABEL = 12  # least width of a label


def shortened(label: str, width: int) -> str:
    """The end says more than the beginning: technique and seed."""
    return label if len(label) <= width else "…" + label[len(label) - width + 1 :]


def counted(view: SweepView) -> str:
    failed = "" if view.blind else f"{view.failed} failed, "
    text = (
        f"{view.done} of {view.total} done, {failed}{len(view.crashed)} crashed, "
        f"{len(view.running)} running, {view.left} left"
    )
    return text + (f", {len(view.damaged)} damaged" if view.damaged else "")


def time_left(view: SweepView, workers: int) -> str:
    """`6:10 left`, or `? left`."""
    needed = view.seconds_left(workers)
    return f"{'?' if needed is None else seconds(needed)} left"


def plain(view: SweepView, name: str, workers: int) -> str:
    """The whole sweep in one line."""
    rest = f", {time_left(view, workers)}" if view.running else ""
    return f"{name}: {counted(view)}{rest}"


def drawn(
    view: SweepView, name: str, workers: int, *, width: int, height: int, note: str = ""
) -> RenderableType:
    """The sweep as a bar with counts, and a line for each running run."""
    rest = time_left(view, workers) if view.running else ""
    head = Table.grid(padding=(0, 1))
    head.add_row(
        Text(shortened(printable(name), max(LABEL, width - 60)), no_wrap=True),
        ProgressBar(total=max(view.total, 1), completed=view.done, width=min(30, width // 3)),
        Text(rest, no_wrap=True),
    )
    parts: list[RenderableType] = [head, Text(counted(view), overflow="fold")]
    room = max(1, min(LINES, height - 6))
    shown = list(view.running.items())
    if len(shown) > room:
        shown = shown[: max(1, room - 1)]
    if shown:
        parts.append(_runs_table(shown, width))
    if len(shown) < len(view.running):
        parts.append(Text(f"and {len(view.running) - len(shown)} more"))
    if note:
        parts.append(Text(printable(note), overflow="fold"))
    scores = {printable(arm): found for arm, found in view.scores.items()}
    room = min(LINES, height - 7 - len(shown))
    parts += strips(scores, width, room, {printable(arm) for arm in view.lower_is_better})
    return Group(*parts)


def _runs_table(shown: Sequence[tuple[str, Mapping[str, Any]]], width: int) -> Table:
    now = time.time()
    here = socket.gethostname()
    elsewhere = any(claim.get("host", here) != here for _, claim in shown)
    heads = ["epoch", "step", "loss", "validation", "time", *(["host"] if elsewhere else [])]
    rows = []
    for _, claim in shown:
        step, total = number(claim.get("step")), number(claim.get("total"))
        loss, score = number(claim.get("loss")), number(claim.get("score"))
        row = [
            epoch(claim),
            f"{step:.0f}/{total:.0f}" if step is not None and total is not None else "starting",
            "" if loss is None else f"{loss:.3f}",
            ("" if loss is None else "undefined") if score is None else f"{score:.3f}",
            seconds(elapsed(claim, now)),
        ]
        rows.append([*row, *([printable(claim.get("host", ""), 16)] if elsewhere else [])])
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    bar = 10 if width >= 72 else 0
    spare = width - sum(widths) - len(widths) - bar - 2
    labels = [printable(claim.get("label") or key) for key, claim in shown]
    space = max(LABEL, min(spare, max(map(len, labels))))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True, width=space)
    if bar:
        table.add_column("", width=bar)
    for head, wide in zip(heads, widths, strict=True):
        table.add_column(head, no_wrap=True, justify="right", width=wide)
    for (_, claim), label, row in zip(shown, labels, rows, strict=True):
        cells: list[RenderableType] = [Text(shortened(label, space))]
        if bar:
            cells.append(ProgressBar(total=1.0, completed=fraction(claim), width=bar))
        table.add_row(*cells, *(Text(cell) for cell in row))
    return table


def epoch(claim: Mapping[str, Any]) -> str:
    """The pass over the training data that a run is in, from 1; empty if it is not known."""
    step, each = number(claim.get("step")), number(claim.get("epoch_steps"))
    return str(max(1, math.ceil(step / each))) if step is not None and each else ""


class Screen:
    """The lower end of a terminal, redrawn in place; gone when it is left.

    The cursor stays visible: a process that is killed cannot bring it back.
    """

    def __init__(self, out: Console) -> None:
        self._live = Live(console=out, auto_refresh=False, transient=True)

    def __enter__(self) -> Screen:
        self._live.start()
        self._live.console.show_cursor(True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.update(Text(""))
        self._live.stop()

    def draw(self, what: RenderableType) -> None:
        self._live.update(what, refresh=True)


def watch(
    store: Store,
    name: str,
    every: float,
    out: Console | None = None,
    also: Callable[[], str] = lambda: "",
) -> None:
    """Show a sweep until it is complete or Ctrl-C: live in a terminal, else a line per change.

    every  seconds between two looks; also: one more line to show, asked for at each of them
    """
    out, title = out or console(), printable(name)
    try:
        if not out.is_interactive:
            _watch(store, name, every, _Lines(out, title), also)
            return
        with Screen(out) as screen:

            def show(view: SweepView, note: str) -> None:
                width, height = out.size
                workers = len(view.running)
                screen.draw(drawn(view, title, workers, width=width, height=height, note=note))

            view = _watch(store, name, every, show, also)
        out.print(plain(view, title, 1), markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        return


Show = Callable[[SweepView, str], None]
"""Shows a sweep with a note, which may be empty."""


def _watch(store: Store, name: str, every: float, show: Show, also: Callable[[], str]) -> SweepView:
    since, view, command = None, None, ""
    while True:
        if view is None or started(store, name) != since:  # or started anew, with other runs
            since = started(store, name)
            manifest = store.manifest(name) or {"runs": [], "command": ""}
            command = printable(manifest["command"], 2000)
            view = SweepView(store, manifest["runs"], since)
        else:
            view.refresh()
        note = also()
        if view.stands_still:
            still = f"stands still: nobody works on what is left; to go on: {command}"
            note = f"{still}; {note}" if note else still
        show(view, note)
        if view.complete:
            return view
        time.sleep(every)


class _Lines:
    """A plain line whenever something has changed."""

    def __init__(self, out: Console, name: str) -> None:
        self._out, self._name = out, name
        self._state: tuple[object, ...] = ()
        self._note = ""

    def __call__(self, view: SweepView, note: str) -> None:
        if view.state() != self._state:
            self._print(plain(view, self._name, len(view.running)))
        if note != self._note and note:
            self._print(f"  {note}")
        self._state, self._note = view.state(), note

    def _print(self, line: str) -> None:
        self._out.print(line, markup=False, soft_wrap=True)

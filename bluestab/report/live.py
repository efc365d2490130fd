"""A sweep as it goes on, seen through its store alone: the same for every launcher, machine, shell.

What is done is in the folders of runs, what is going on in the claims. Nothing is written.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bluestab.errors import StoreError
from bluestab.forecast import Means, left, remaining
from bluestab.report.strips import strips
from bluestab.report.terminal import console, seconds
from bluestab.store import KEY, Store
from bluestab.types import RunRecord

LINES = 20  # runs that are shown one by one
PATIENCE = 10.0  # seconds without a running run after which a sweep stands still
HISTORY = 200  # latest runs of other sweeps that are looked at for the remaining time
LABEL = 12  # least width of a label


class SweepView:
    """Which runs of a sweep are done, failed, crashed and running; `refresh` looks again.

    done      finished runs, failed ones included; failed: degenerate or diverged
    crashed   keys whose last attempt, since the sweep was last started, ended in a crash
    running   key -> claim, the longest running first
    damaged   keys whose record cannot be read; they count as left
    scores    arm, as the overrides tell it apart -> test score at the last step and failed, per run

    A finished run is read once; a look costs one listing of the store and one read per running run.
    """

    def __init__(self, store: Store, runs: Sequence[Mapping[str, Any]], since: float = 0.0) -> None:
        """runs: of the manifest; since: when the sweep was started (its manifest's mtime)."""
        self._store = Store(store.root)  # what it has seen of claims is its own
        self._kind = {str(run["key"]): _kind(run) for run in runs}
        self._pending = dict.fromkeys(self._kind)
        self._since = since
        self._means = Means()
        # a sweep that was started a moment ago is on its way to its first run
        self._last_running = time.monotonic() - max(0.0, time.time() - since)
        self.total = len(self._kind)
        self.done = self.failed = 0
        self.crashed: set[str] = set()
        self.damaged: set[str] = set()
        self.scores: dict[str, list[tuple[float, bool]]] = {}
        self._arm = _arms(runs)
        self.running: dict[str, dict[str, Any]] = {}
        self.refresh()
        self._learn_from_others()

    @property
    def left(self) -> int:
        """Runs that are not finished, not running and have not crashed."""
        return self.total - self.done - len(self.crashed) - len(self.running)

    @property
    def complete(self) -> bool:
        """Nothing is running and nothing is left but crashes."""
        return not self.running and self.left == 0

    @property
    def stands_still(self) -> bool:
        """Runs are left and nobody has worked on any for a while."""
        return (
            not self.running and self.left > 0 and time.monotonic() - self._last_running > PATIENCE
        )

    def state(self) -> tuple[object, ...]:
        """Differs whenever something has changed that is worth a line."""
        failed = self.failed, len(self.crashed), len(self.damaged)
        return self.done, *failed, frozenset(self.running), self.stands_still

    def refresh(self) -> None:
        """Look at the store again. Never raises: what cannot be seen now is seen later."""
        self.damaged = set()
        for key in self._pending.keys() & _names(self._store.root):
            if self._store.has(key):
                self._finish(key)
        self.running = {}
        with suppress(OSError, StoreError):
            found = self._store.running()
            mine = [(key, claim) for key, claim in found.items() if key in self._pending]
            self.running = dict(sorted(mine, key=lambda item: _number(item[1].get("started")) or 0))
        if self.running:
            self._last_running = time.monotonic()
        crashed = self._pending.keys() & _names(self._store.crash_folder("x").parent)
        self.crashed = {key for key in crashed - self.running.keys() if self._is_new_crash(key)}

    def _is_new_crash(self, key: str) -> bool:
        """Older ones are tried again by the sweep as it was started last."""
        try:
            return self._store.crash_folder(key).stat().st_mtime >= self._since
        except OSError:
            return False

    def _finish(self, key: str) -> None:
        try:
            record = self._store.read(key)
            self._means.add(*self._kind[key], _total_seconds(record))
            self.failed += record.failed
        except (StoreError, OSError, KeyError, TypeError, ValueError):
            self.damaged.add(key)  # the next start of the sweep does it again
            return
        del self._pending[key]
        self.done += 1
        with suppress(KeyError, TypeError, ValueError):  # it is drawn, and nothing more
            score = float(record.result["score"]["last"])
            self.scores.setdefault(self._arm[key], []).append((score, record.failed))

    def _learn_from_others(self) -> None:
        """Runs of the same cells that the store has from other sweeps say how long these take."""
        unknown = {self._kind[key][0] for key in self._pending} - {""}
        unknown -= {cell for cell in unknown if self._means.knows(cell)}
        if not unknown:
            return
        subject = dict(self._kind.values())
        for record in latest_records(self._store, HISTORY, without=self._kind):
            cell = record.result["cell"]
            if cell in unknown and record.status == "done":
                with suppress(KeyError, TypeError, ValueError):
                    self._means.add(cell, subject[cell], _total_seconds(record))

    def seconds_left(self, workers: int) -> float | None:
        """Remaining time on so many workers; None as long as nothing says how long runs take.

        Before any run has finished, the pace of the running ones is all there is to go by.
        """
        now = time.time()
        waiting = Counter(self._kind[k] for k in self._pending.keys() - self.crashed)
        running = []
        for key, claim in self.running.items():
            waiting[self._kind[key]] -= 1
            spent = elapsed(claim, now)
            rest = left(self._means.expected(*self._kind[key]), spent, fraction(claim))
            running.append((spent, rest))
        paces = [spent + rest for spent, rest in running if rest is not None]
        pace = sum(paces) / len(paces) if paces else None
        needed: list[float | None] = []
        for kind, n in waiting.items():
            expected = self._means.expected(*kind)
            needed += [pace if expected is None else expected] * n
        going = [left(pace, spent, 0.0) if rest is None else rest for spent, rest in running]
        return remaining(needed, going, max(workers, len(going)))


def _kind(run: Mapping[str, Any]) -> tuple[str, str]:
    """Cell, and what names the task and the model among the overrides of this sweep."""
    overrides = run.get("overrides") or ()
    subject = [o for o in overrides if str(o).split("=")[0].split(".")[0] in ("task", "model")]
    return str(run.get("cell", "")), " ".join(map(str, subject))


def _arms(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """key -> the overrides that not all runs share, without the seed."""
    said = {str(run["key"]): [str(o) for o in run.get("overrides") or ()] for run in runs}
    n = Counter(override for overrides in said.values() for override in set(overrides))
    return {
        key: " ".join(
            override.removeprefix("technique=")
            for override in overrides
            if n[override] < len(said) and not override.startswith("seed=")
        )
        or "all runs"
        for key, overrides in said.items()
    }


def _names(folder: os.PathLike[str]) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()


def _total_seconds(record: RunRecord) -> float:
    return float(record.measured["seconds"]["total"])


def latest_records(store: Store, n: int, without: Mapping[str, Any]) -> list[RunRecord]:
    """Up to n finished runs of the store, the latest first; damaged ones are passed over."""
    dated = []
    with suppress(OSError), os.scandir(store.root) as entries:
        for entry in entries:
            if KEY.fullmatch(entry.name) and entry.name not in without:
                with suppress(OSError):
                    dated.append((entry.stat().st_mtime, entry.name))
    records = []
    for _, key in sorted(dated, reverse=True)[:n]:
        with suppress(StoreError):
            records.append(store.read(key))
    return records


def started(store: Store, name: str) -> float:
    """When a sweep was last started: every start writes its manifest anew. 0 if it is not there."""
    try:
        return store.manifests()[name].stat().st_mtime
    except (OSError, KeyError):
        return 0.0


def elapsed(claim: Mapping[str, Any], now: float) -> float:
    """Seconds since a run was begun, by the clocks of two machines that may differ."""
    begun = _number(claim.get("started"))
    return 0.0 if begun is None else max(0.0, now - begun)


def fraction(claim: Mapping[str, Any]) -> float:
    """Of the steps of a run that are done, in [0, 1]."""
    step, total = _number(claim.get("step")), _number(claim.get("total"))
    return min(max(step / total, 0.0), 1.0) if step and total else 0.0


def _number(value: object) -> float | None:
    """Claims come from other processes and maybe other versions: anything may stand in them."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return float(value) if abs(value) < 1e15 else None


def printable(text: object, width: int = 300) -> str:
    """One line without control characters, which a terminal might obey."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:width]


def shortened(label: str, width: int) -> str:
    """The end says more than the beginning: technique and seed."""
    return label if len(label) <= width else "…" + label[len(label) - width + 1 :]


def counted(view: SweepView) -> str:
    text = (
        f"{view.done} of {view.total} done, {view.failed} failed, {len(view.crashed)} crashed, "
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
    parts += strips(scores, width, min(LINES, height - 7 - len(shown)))
    return Group(*parts)


def _runs_table(shown: Sequence[tuple[str, Mapping[str, Any]]], width: int) -> Table:
    now = time.time()
    here = socket.gethostname()
    elsewhere = any(claim.get("host", here) != here for _, claim in shown)
    heads = ["epoch", "step", "loss", "validation", "time", *(["host"] if elsewhere else [])]
    rows = []
    for _, claim in shown:
        step, total = _number(claim.get("step")), _number(claim.get("total"))
        loss, score = _number(claim.get("loss")), _number(claim.get("score"))
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
    step, each = _number(claim.get("step")), _number(claim.get("epoch_steps"))
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

"""A store with a sweep in it, whose runs are begun and ended by hand."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bluestab.core.types import RunRecord
from bluestab.report.terminal.sweep_view import SweepView, started
from bluestab.store import claims
from bluestab.store.store import Store


def key(i: int) -> str:
    return f"{i:016x}"


def cell(i: int) -> str:
    return f"{i % 2:016x}"


def record(i: int, status: str = "done", seconds: float = 40.0, **changes: Any) -> RunRecord:
    scores = {"pearson": 0.5}
    result = {
        "key": key(i),
        "cell": cell(i),
        "config": {},
        "status": status,
        "metric": "pearson",
        "metrics": {at: {"validation": scores, "test": scores} for at in ("last", "best")},
        "degenerate": {"last": False, "best": False},
        "error": {"type": "RuntimeError", "message": "[bold]no[/bold]"},
        **changes,
    }
    names = {"task": "gad", "model": "tiny", "technique": [], "seed": 0}
    return RunRecord(1, result, {"names": names, "seconds": {"total": seconds}})


class Fake:
    """A store with a sweep in it, whose runs are begun and ended by hand."""

    def __init__(self, root: Path, n: int) -> None:
        self.store = Store(root)
        self.store.make_writable()
        self.keys = [key(i) for i in range(n)]
        self.runs = [
            {"key": key(i), "cell": cell(i), "overrides": ["task=gad", f"seed={i}"]}
            for i in range(n)
        ]
        self.start()

    def start(self) -> None:
        manifest = {"name": "mine", "command": "bluestab run -m task=gad", "runs": self.runs}
        self.store.write_manifest("mine", manifest)

    def end(self, i: int, status: str = "done", **changes: Any) -> RunRecord:
        ended = record(i, status, **changes)
        with self.store.building(key(i)) as work:
            if status == "crashed":
                self.store.keep_crash(work, ended)
            else:
                self.store.finish(work, ended)
        return ended

    @contextmanager
    def at_work(self, i: int, label: str = "", **content: Any) -> Iterator[claims.Claim]:
        claim = self.store.claims.take(key(i), label or f"gad tiny llrd seed {i}")
        assert claim is not None
        claim.content.update(content)
        claim.beat()
        with claim:
            yield claim

    def view(self) -> SweepView:
        return SweepView(self.store, self.runs, started(self.store, "mine"))


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[int], Fake]:
    return lambda n: Fake(tmp_path / "runs", n)


def text_of(what: Any, width: int = 80) -> str:
    out = Console(width=width, height=24, file=io.StringIO(), force_terminal=True, record=True)
    out.print(what)
    return out.export_text()


def counts(view: SweepView) -> tuple[int, int, int, int, int]:
    return view.done, view.failed, len(view.crashed), len(view.running), view.left


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in what a script runs behind it
            os.environ.update(TERM="xterm", COLUMNS="80", LINES="24")
            os.execv(sys.executable, [sys.executable, "-c", code, *arguments])
        self.said = ""

    def read_until(self, wanted: str, seconds: float = 30.0) -> str:
        end = time.monotonic() + seconds
        while wanted not in self.said and time.monotonic() < end:
            if select.select([self.end], [], [], 0.1)[0]:
                try:
                    self.said += os.read(self.end, 65536).decode()
                except OSError:
                    break
        assert wanted in self.said, self.said
        return self.said

    def leave(self) -> int:
        try:
            while True:
                self.said += os.read(self.end, 65536).decode()
        except OSError:
            pass
        os.close(self.end)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

"""The contract of a logger: called at a run's beginning, after every evaluation, and at its end.

A logger decides nothing. It gets numbers, names of knobs, ids and tags, never the text of an item,
never a path, never an environment value. It runs in a thread of its own and may fail, hang or die
without any effect on the run but a line in its log. Modules of loggers import their libraries
inside functions, so that a config that names them loads fast.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.rules import Rule
from bluestab.core.types import RunRecord

log = logging.getLogger("bluestab")

Rows = Sequence[Mapping[str, Any]]
"""The rows of `curve.csv` so far: step, train_loss, validation scores, gradient norms."""

PATIENCE = 30.0
"""Seconds that a finished run waits for its loggers, all together."""


@dataclass(frozen=True)
class RunInfo:
    """Description of a run that a logger is given at its beginning.

    sweep, arm  names; None for a run outside a sweep
    tags        task, model, technique, seed, cell, key
    knobs       dotted path -> value, of all that decides the result
    store       folder of results; work: folder in which this run is being built
    """

    key: str
    sweep: str | None
    arm: str
    tags: Mapping[str, str]
    knobs: Mapping[str, Any]
    store: Path
    work: Path

    @property
    def title(self) -> str:
        """What a person reads in a list of runs."""
        return f"{self.arm} seed {self.tags['seed']}"


class Log(ABC):
    """An open log of one run."""

    @abstractmethod
    def rows(self, rows: Rows) -> None:
        """After an evaluation: all rows so far, of which the last is new."""

    @abstractmethod
    def end(self, record: RunRecord) -> None:
        """The run is recorded."""


class Logger(ABC):
    """Knobs of one way to log; children take them keyword-only, from the yaml alone."""

    needs: ClassVar[str | None] = None
    """Package of the extra `loggers` without which there is no such log."""

    background: ClassVar[bool] = True
    """In a thread, because it may wait for others."""

    def rules(self) -> Mapping[str, Rule]:
        """Knob -> what it may hold."""
        return {}

    def check(self) -> list[str]:
        """What is missing for it on this machine, one sentence each."""
        if self.needs is None or find_spec(self.needs) is not None:
            return []
        name = type(self).__module__.rpartition(".")[2]
        return [
            f"logger={name} needs the Python package {self.needs}, which is not installed: "
            f"pip install 'bluestab[loggers]', or say logger=csv"
        ]

    @abstractmethod
    def begin(self, info: RunInfo) -> Log:
        """Open the log of a run."""


def scores_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row but its step; validation scores say so."""
    found = {}
    for name, value in row.items():
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if name == "step" or not known or not math.isfinite(value):
            continue
        plain = name == "train_loss" or name.startswith(("grad", "norm"))
        found[name if plain else f"validation/{name}"] = float(value)
    return found


def results_of(record: RunRecord) -> dict[str, float]:
    """The test scores of a finished run, `test/last/accuracy`, and whether it failed."""
    found = {"failed": float(record.failed)} if record.status != "crashed" else {}
    for at, splits in (record.result["metrics"] or {}).items():
        for name, value in splits["test"].items():
            if value is not None:
                found[f"test/{at}/{name}"] = float(value)
    return found


class LoggerGroup:
    """All loggers of one run, each in a thread, so that none can fail or delay it."""

    def __init__(self, loggers: Mapping[str, Logger], info: RunInfo) -> None:
        self._threads = [LoggerThread(name, logger, info) for name, logger in loggers.items()]

    def rows(self, rows: Rows) -> None:
        """After an evaluation: all rows so far; they may change later."""
        copied = [dict(row) for row in rows]
        for thread in self._threads:
            thread.put(lambda opened: opened.rows(copied))

    def end(self, record: RunRecord) -> None:
        """The run is recorded: wait until every logger has finished, or hangs."""
        for thread in self._threads:
            thread.put(lambda opened: opened.end(record))
        for thread in self._threads:
            thread.close()


class LoggerThread:
    """Calls one logger of one run, in order and in a thread, until a call fails."""

    def __init__(self, name: str, logger: Logger, info: RunInfo) -> None:
        self.name = name
        self._opened: Log | None = None
        self._failed = False
        self._logger, self._info = logger, info
        self._todo: queue.SimpleQueue[Callable[[Log], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if logger.background:
            self._thread = threading.Thread(target=self._work, name=f"log-{name}", daemon=True)
            self._thread.start()

    def put(self, what: Callable[[Log], None]) -> None:
        """Call the open log with this, when all calls before have ended."""
        if self._thread is None:
            self._do(what)
        else:
            self._todo.put(what)

    def close(self) -> None:
        """Wait a while for the calls that are left; what hangs is left behind."""
        if self._thread is None:
            return
        self._todo.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            log.warning("logger %s did not answer for %g s and is left behind", self.name, PATIENCE)

    def _work(self) -> None:
        while (what := self._todo.get()) is not None:
            self._do(what)

    def _do(self, what: Callable[[Log], None]) -> None:
        if self._failed:
            return
        try:
            if self._opened is None:
                self._opened = self._logger.begin(self._info)
            what(self._opened)
        except BaseException as error:  # also SystemExit: some libraries leave so
            if isinstance(error, KeyboardInterrupt):
                raise
            self._failed = True
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            log.warning("logger %s failed and hears no more of this run: %s", self.name, reason)

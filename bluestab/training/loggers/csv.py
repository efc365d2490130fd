"""The curve of a run while it is being drawn; the finished run has the same file."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from bluestab.core.types import RunRecord
from bluestab.store.artefacts import write_curve
from bluestab.training.loggers.base import Log, Logger, Rows, RunInfo


class Csv(Logger):
    """No knobs."""

    background: ClassVar[bool] = False

    def begin(self, info: RunInfo) -> Log:
        return _Curve(info.work / "curve.csv")


class _Curve(Log):
    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, rows: Rows) -> None:
        write_curve(self._path, [dict(row) for row in rows])

    def end(self, record: RunRecord) -> None:
        """The run itself has written the last one."""

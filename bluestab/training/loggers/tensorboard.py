"""TensorBoard: one folder of events per run, below that of its sweep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.rules import Rule
from bluestab.core.types import RunRecord
from bluestab.training.loggers.base import Log, Logger, Rows, RunInfo, results_of, scores_of


class TensorBoard(Logger):
    """folder: where the event files go; None: <store>/tensorboard."""

    needs: ClassVar[str | None] = "tensorboard"

    def __init__(self, *, folder: str | None) -> None:
        self.folder = folder

    def rules(self) -> Mapping[str, Rule]:
        return {"folder": (lambda v: v is None or isinstance(v, str), "a folder, or null")}

    def begin(self, info: RunInfo) -> Log:
        root = Path(self.folder) if self.folder else info.store / "tensorboard"
        name = re.sub(r"[^\w.=,+-]+", "_", info.title)[:120]
        return _Events(root / (info.sweep or "single") / f"{name}-{info.key[:8]}", info)


class _Events(Log):
    def __init__(self, folder: Path, info: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))
        said = "\n".join(f"    {name}: {value}" for name, value in info.tags.items())
        self._writer.add_text("run", said)

    def rows(self, rows: Rows) -> None:
        for name, value in scores_of(rows[-1]).items():
            self._writer.add_scalar(name, value, rows[-1]["step"])
        self._writer.flush()

    def end(self, record: RunRecord) -> None:
        for name, value in results_of(record).items():
            self._writer.add_scalar(name, value, record.result["steps"] or 0)
        self._writer.close()

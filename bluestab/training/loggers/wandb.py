"""Weights & Biases: a run per run, grouped by sweep; offline unless told otherwise.

All that wandb gathers by itself is switched off: console output (which may quote a text), code,
git remotes, host and user, command line, system figures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.rules import Rule, one_of
from bluestab.core.types import RunRecord
from bluestab.store.files import make_folder
from bluestab.training.loggers.base import Log, Logger, Rows, RunInfo, results_of, scores_of


class Wandb(Logger):
    """mode: offline | online; project, entity: where runs go; folder: None: <store>/wandb."""

    needs: ClassVar[str | None] = "wandb"

    def __init__(self, *, mode: str, project: str, entity: str | None, folder: str | None) -> None:
        self.mode = mode
        self.project = project
        self.entity = entity
        self.folder = folder

    def rules(self) -> Mapping[str, Rule]:
        text = (lambda v: v is None or isinstance(v, str), "a text, or null")
        return {
            "mode": one_of("offline", "online"),
            "project": (lambda v: isinstance(v, str) and bool(v.strip()), "a name"),
            "entity": text,
            "folder": text,
        }

    def begin(self, info: RunInfo) -> Log:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        folder = Path(self.folder) if self.folder else info.store / "wandb"
        make_folder(folder)
        settings = wandb.Settings(
            console="off",
            save_code=False,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            host="",
            email="",
            username="",
            program="bluestab",
            program_abspath="",
            program_relpath="",
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            silent=True,
            quiet=True,
        )
        run = wandb.init(
            dir=str(folder),
            mode="online" if self.mode == "online" else "offline",
            project=self.project,
            entity=self.entity,
            id=info.key,
            resume="allow",
            name=info.title,
            group=info.sweep,
            tags=[f"{name}:{value}"[:64] for name, value in info.tags.items()],
            config={**info.knobs, **info.tags, "arm": info.arm, "sweep": info.sweep},
            settings=settings,
            reinit="create_new",
        )
        return _WandbRun(run)


class _WandbRun(Log):
    def __init__(self, run: Any) -> None:
        self._run = run

    def rows(self, rows: Rows) -> None:
        self._run.log(scores_of(rows[-1]), step=rows[-1]["step"])

    def end(self, record: RunRecord) -> None:
        for name, value in results_of(record).items():
            self._run.summary[name] = value
        self._run.summary["status"] = record.status
        self._run.finish(exit_code=int(record.status == "crashed"))

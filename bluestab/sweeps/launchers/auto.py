"""The launcher `auto`, what the command line uses where none is named: as many workers as fit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluestab.core import devices
from bluestab.core.printable import counted
from bluestab.report.terminal.tables import size
from bluestab.store.store import Store
from bluestab.sweeps.forecast import Finished, KnownCosts, finished_runs, on_device, workload
from bluestab.sweeps.grouping import HOST_MB, expected_bytes
from bluestab.sweeps.launchers.local import Local
from bluestab.sweeps.launchers.pool import Pool
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.pool import assign_devices
from bluestab.sweeps.slurm import scheduler
from bluestab.training.check import Run
from bluestab.training.dry_run_step import planned_steps

if TYPE_CHECKING:
    from bluestab.sweeps.search.spec import Search

SHARE = 0.8
"""Of the memory that all workers together may take."""


@dataclass(frozen=True)
class WorkerChoice:
    """workers: one is the launcher `local`, more are `pool`; why: the reason, in a line."""

    workers: int
    why: str

    @property
    def line(self) -> str:
        if self.workers == 1:
            return f"hydra/launcher=local ({self.why})"
        return f"hydra/launcher=pool with {self.workers} workers ({self.why})"


class Auto(Pool):
    """Knobs: those of `pool`; `workers` is the most that may be."""

    def launch(self, sweep: Sweep) -> None:
        self._check()
        to_do = [p.run for p in sweep.runs if not sweep.store.has(p.run.key)]
        choice = choose(to_do, sweep.store, most=self.workers, per_gpu=self.per_gpu)
        if to_do:
            print(choice.line)
        if choice.workers > 1:
            self.workers = choice.workers
            super().launch(sweep)
        else:
            self._local().launch(sweep)

    def at_once(self, runs: Sequence[Run], store: Store) -> int:
        self._check()
        return choose(runs, store, most=self.workers, per_gpu=self.per_gpu).workers

    def search(self, search: Search) -> None:
        """As `local`: points that are drawn side by side know less of each other, so that their
        number is for a person to choose (`search.workers`)."""
        self._local().search(search)

    def _local(self) -> Local:
        local = Local()
        local.group = self.group
        return local


def choose(
    to_do: Sequence[Run],
    store: Store,
    *,
    most: int | None = None,
    per_gpu: int = 1,
    environment: Mapping[str, str] = os.environ,
    finished: Iterable[Finished] | None = None,
) -> WorkerChoice:
    """How many workers these runs get on this machine.

    most      workers that were asked for at most; None: nobody did
    finished  runs to learn from; None: the latest of the store
    """
    if not to_do:
        return WorkerChoice(1, "nothing is to do")
    if most is None and scheduler.installed() and "SLURM_JOB_ID" not in environment:
        return WorkerChoice(
            1, "SLURM is here: hydra/launcher=slurm submits, pool takes more of this machine"
        )
    allowed = cores(environment)
    on = assign_devices([run.cfg for run in to_do], None, per_gpu, allowed)
    each = memory_mb(to_do, finished_runs(store) if finished is None else finished, on[0])
    fitting = max(1, int(SHARE * devices.memory_mb() / each))
    places = counted(allowed, "CPU core") if on[0] == "cpu" else f"room for {len(on)} on GPUs"
    bounds = {
        places: len(on),
        f"memory for {fitting} of {size(each * 2**20)}": fitting,
        f"{counted(len(to_do), 'run')} to do": len(to_do),
    }
    if most is not None:
        bounds[f"hydra.launcher.workers={most}"] = most
    return WorkerChoice(min(bounds.values()), ", ".join(bounds))


def cores(environment: Mapping[str, str] = os.environ) -> int:
    """CPU cores that may be used: not every site binds the processes of a job to its own."""
    asked = environment.get("SLURM_CPUS_PER_TASK", "")
    return min(devices.cores(), int(asked)) if asked.isdigit() and int(asked) else devices.cores()


def memory_mb(to_do: Sequence[Run], finished: Iterable[Finished], device: str) -> float:
    """Memory of this machine that one worker takes, in MiB: by like runs that are finished, else
    estimated for the longest texts that the task lets pass."""
    known = KnownCosts(on_device(list(finished), device, device.partition(":")[0]))
    found = []
    for run in {run.cell: run for run in to_do}.values():
        steps, _ = planned_steps(run)
        cost = known.cost(run.cell, workload(run.hashed), tuple(run.techniques), steps)
        if cost is not None and cost.memory_mb.get("process"):
            found.append(cost.memory_mb["process"])
        elif device == "cpu":
            found.append(HOST_MB + expected_bytes(run, run.data.task.max_length) / 2**20)
        else:
            found.append(float(HOST_MB))
    return max(found)

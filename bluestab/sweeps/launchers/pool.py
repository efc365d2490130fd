"""The launcher `pool`: warm worker processes on this machine, see `bluestab.sweeps.pool`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bluestab.core import devices, rules
from bluestab.core.errors import ConfigError
from bluestab.store.store import Store
from bluestab.sweeps.grouping import GROUP
from bluestab.sweeps.launchers.base import Backend
from bluestab.sweeps.lifecycle import begin, close
from bluestab.sweeps.plan import PlannedRun, Sweep
from bluestab.sweeps.pool import assign_devices, run_in_pool

if TYPE_CHECKING:
    from bluestab.sweeps.search.spec import Search
    from bluestab.training.check import Run


class Pool(Backend):
    """workers: how many, null: one per GPU or CPU core; per_gpu; memory: GiB a worker may keep;
    group: as any launcher has it."""

    def __init__(
        self, *, workers: int | None, per_gpu: int, memory: float | None, group: int | None
    ) -> None:
        self.workers, self.per_gpu, self.memory = workers, per_gpu, memory
        self.group = group

    def launch(self, sweep: Sweep) -> None:
        self._check()
        begin(sweep)
        on = self.devices(sweep)
        stopped = run_in_pool(sweep, on, self.budget_mb(len(on)), group=self.group)
        close(sweep, stopped)

    def search(self, search: Search) -> None:
        from bluestab.sweeps.search.drive import run_search
        from bluestab.sweeps.search.plan import first_run

        self._check()
        search = replace(search, group=self.group)
        run = PlannedRun(first_run(search), ())
        if search.workers is not None:
            self.workers = search.workers
        on = self.devices(Sweep(search.name, Store(search.root), (run,)))
        run_search(search, on, self.launch)

    def _check(self) -> None:
        wrong = rules.problems(
            {
                "hydra.launcher.workers": (self.workers, rules.whole(1, null=True)),
                "hydra.launcher.per_gpu": (self.per_gpu, rules.whole(1)),
                "hydra.launcher.memory": (self.memory, rules.above(0, null=True, of=" of GiB")),
                "hydra.launcher.group": (self.group, GROUP),
            }
        )
        if wrong:
            raise ConfigError(*wrong)

    def at_once(self, runs: Sequence[Run], store: Store) -> int:
        self._check()
        return len(assign_devices([run.cfg for run in runs], self.workers, self.per_gpu))

    def devices(self, sweep: Sweep) -> list[str]:
        """The device of each worker."""
        return assign_devices([p.run.cfg for p in sweep.runs], self.workers, self.per_gpu)

    def budget_mb(self, workers: int) -> float:
        """What a worker may hold after a run; above it, a fresh one takes its place."""
        if self.memory is not None:
            return self.memory * 1024
        return 0.8 * devices.memory_mb() / workers

"""The contract of a launcher: take a checked sweep, see it through, leave the rest to the store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bluestab.core import devices
from bluestab.core.devices import Kind
from bluestab.core.errors import ConfigError
from bluestab.report.terminal.tables import print_notes
from bluestab.sweeps.grouping import packing_summary, with_engines
from bluestab.sweeps.plan import Compose, Job, Sweep, check_name, plan_sweep
from bluestab.sweeps.sequences import has_sequence

if TYPE_CHECKING:
    from bluestab.store.store import Store
    from bluestab.sweeps.search.spec import Search
    from bluestab.training.check import Run


class Backend(ABC):
    """A place where runs happen.

    One crash never stops the other runs; finished runs are skipped; what comes of each run is in
    the store, not in a return value.

    group   sibling runs that train as one at most; None: what memory is expected to hold
    trains  does runs, so that what a sweep chose can be measured on fresh seeds
    """

    group: int | None = 1
    trains: bool = True

    def take(self, compose: Compose, jobs: Sequence[Job], name: str | None) -> None:
        """Compose and check all runs, say what was found in own files, then see them through.

        Where runs may train as one, each first gets the engine that can train it.
        """
        if any(map(has_sequence, jobs)) and self.group != 1:
            raise ConfigError(
                f"hydra/launcher={type(self).__name__.lower()} trains siblings as one, but each "
                "stage of a sequence of tasks starts from weights of its own; say "
                "hydra/launcher=local, pool or slurm, with hydra.launcher.group=1"
            )
        if self.group != 1:
            jobs, alone = with_engines(compose, jobs)
        sweep = plan_sweep(compose, jobs, name, self.kind_of)
        for line in filter(None, (check_name(sweep), *sweep.notes)):
            self.say(line)
        print_notes((planned.run for planned in sweep.runs), sweep.store)
        if self.group != 1:
            for line in packing_summary(sweep.runs, alone):
                print(line)
        self.launch(sweep)
        if sweep.confirm and self.trains:
            from bluestab.sweeps.confirmation import confirm  # reads results: pandas

            confirm(sweep, compose, self.launch)

    def say(self, line: str) -> None:
        """A line for who started the command."""
        print(line)

    def kind_of(self, device: str) -> Kind:
        """What `device` means where the runs will be done."""
        return devices.kind_of(device)

    def at_once(self, runs: Sequence[Run], store: Store) -> int:
        """How many of these runs are done at the same time, for a forecast."""
        return 1

    @abstractmethod
    def launch(self, sweep: Sweep) -> None:
        """Raises RunsCrashed at the end if any run crashed."""

    def search(self, search: Search) -> None:
        """See a search through: its workers ask for points when they are free."""
        raise ConfigError(
            f"launcher {type(self).__name__} runs no search; say hydra/launcher=local or pool"
        )

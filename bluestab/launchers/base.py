"""The contract of a launcher: take a checked sweep, see it through, leave the rest to the store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bluestab.errors import ConfigError
from bluestab.planning import Compose, Job, Sweep, plan_sweep
from bluestab.report.terminal import print_notes

if TYPE_CHECKING:
    from bluestab.search.spec import Search


class Backend(ABC):
    """A place where runs happen.

    One crash never stops the other runs; finished runs are skipped; what comes of each run is in
    the store, not in a return value.
    """

    def take(self, compose: Compose, jobs: Sequence[Job], name: str | None) -> None:
        """Compose and check all runs, say what was found in own files, then see them through."""
        sweep = plan_sweep(compose, jobs, name)
        print_notes(planned.run.data for planned in sweep.runs)
        self.launch(sweep)

    @abstractmethod
    def launch(self, sweep: Sweep) -> None:
        """Raises RunsCrashed at the end if any run crashed."""

    def search(self, search: Search) -> None:
        """See a search through: its workers ask for points when they are free."""
        raise ConfigError(
            f"launcher {type(self).__name__} runs no search; say hydra/launcher=local or pool"
        )

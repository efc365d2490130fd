"""The launcher `local`: runs one after another in this process, see `bluestab.sweeps.local`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bluestab.sweeps.launchers.base import Backend
from bluestab.sweeps.lifecycle import begin, close
from bluestab.sweeps.local import run_here
from bluestab.sweeps.plan import Sweep

if TYPE_CHECKING:
    from bluestab.sweeps.search.spec import Search


class Local(Backend):
    """No knobs."""

    def launch(self, sweep: Sweep) -> None:
        begin(sweep)
        stopped = run_here(sweep, group=self.group)
        close(sweep, stopped)

    def search(self, search: Search) -> None:
        from bluestab.sweeps.search.drive import run_search  # Optuna's half second, if it is needed

        search = replace(search, group=self.group)
        run_search(search, [None] * (search.workers or 1), self.launch)

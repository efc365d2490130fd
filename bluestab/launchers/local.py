"""The launcher `local`: runs one after another in this process, see `bluestab.local_engine`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bluestab.launchers.base import Backend
from bluestab.local_engine import run_here
from bluestab.planning import Sweep
from bluestab.workers import begin, close

if TYPE_CHECKING:
    from bluestab.search.spec import Search


class Local(Backend):
    """No knobs."""

    def launch(self, sweep: Sweep) -> None:
        begin(sweep)
        stopped = run_here(sweep, group=self.group)
        close(sweep, stopped)

    def search(self, search: Search) -> None:
        from bluestab.search.drive import run_search  # Optuna's half second, if it is needed

        search = replace(search, group=self.group)
        run_search(search, [None] * (search.workers or 1), self.launch)

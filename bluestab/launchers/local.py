"""One worker in this process: runs one after another, nothing to set up."""

from __future__ import annotations

from bluestab.launchers.base import Backend
from bluestab.planning import Sweep
from bluestab.workers import close, open_sweep, work


class Local(Backend):
    """No knobs."""

    def launch(self, sweep: Sweep) -> None:
        with open_sweep(sweep) as display:
            work(sweep.runs, sweep.store, display)
        close(sweep)

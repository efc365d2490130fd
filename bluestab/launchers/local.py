"""One worker in this process: runs one after another, nothing to set up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bluestab.errors import DiskFull
from bluestab.launchers.base import Backend
from bluestab.planning import Sweep
from bluestab.report.progress import SweepDisplay
from bluestab.report.terminal import describe
from bluestab.workers import (
    LOOK_AGAIN,
    Execute,
    Queue,
    Stop,
    attempt,
    begin,
    close,
    pause_until_room,
    tell_waiting,
)

if TYPE_CHECKING:
    from bluestab.search.spec import Search


class Local(Backend):
    """No knobs."""

    def launch(self, sweep: Sweep) -> None:
        begin(sweep)
        stopped = run_here(sweep)
        close(sweep, stopped)

    def search(self, search: Search) -> None:
        from bluestab.sweepers.optuna import run_search  # Optuna's half second, if it is needed

        run_search(search, [None] * (search.workers or 1), self.launch)


def run_here(sweep: Sweep, execute: Execute | None = None) -> bool:
    """Do what is missing, one run after another. Did a person stop it?"""
    store, queue = sweep.store, Queue(sweep.runs, sweep.store)
    keys = [planned.run.key for planned in sweep.runs]
    with SweepDisplay(sweep.name, keys, store, workers=1) as display, Stop(display.say) as stop:
        while len(queue) and not stop.asked:
            planned = queue.next()
            if planned is None:
                tell_waiting(display, queue)
                time.sleep(LOOK_AGAIN / 10)
                continue
            display.note = ""
            try:
                record = attempt(planned.run, store, execute=execute)
            except DiskFull:
                queue.put_back(planned)
                pause_until_room(store, stop, display.say)
                continue
            if record is None:
                queue.put_back(planned)
                continue
            display.end(record, describe(planned.run))
            if record.status == "crashed":
                queue.crashed(planned)
        return stop.asked

"""Backwards: one run after another in this process, the last one first."""

from dataclasses import replace

from bluestab.launchers.base import Backend
from bluestab.local_engine import run_here
from bluestab.workers import begin, close


class Backwards(Backend):
    """No knobs."""

    def launch(self, sweep):
        begin(sweep)
        stopped = run_here(replace(sweep, runs=sweep.runs[::-1]))
        close(sweep, stopped)

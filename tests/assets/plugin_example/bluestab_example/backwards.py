"""Backwards: one run after another in this process, the last one first."""

from dataclasses import replace

from bluestab.sweeps.launchers.base import Backend
from bluestab.sweeps.lifecycle import begin, close
from bluestab.sweeps.local import run_here


class Backwards(Backend):
    """No knobs."""

    def launch(self, sweep):
        begin(sweep)
        stopped = run_here(replace(sweep, runs=sweep.runs[::-1]))
        close(sweep, stopped)

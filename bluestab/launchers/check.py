"""Starts nothing. That the sweep exists means that it was composed and checked; this says so."""

from __future__ import annotations

from bluestab.launchers.base import Backend
from bluestab.planning import Sweep
from bluestab.report.terminal import print_plan


class Check(Backend):
    """No knobs."""

    def launch(self, sweep: Sweep) -> None:
        print_plan(sweep.store, [p.run for p in sweep.runs])

"""Cancelling takes the claims of the tasks that it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.cancelling import cancel
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.submission import Array
from tests.support.simulated_slurm import squeue, submitted

MakeSweep = Callable[..., Sweep]


def test_cancel_takes_the_claims_of_its_tasks(
    make_sweep: MakeSweep, site: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep()
    one = submitted(sweep)
    one.write_array(0, Array("12", 0, 2))
    ours, other = (p.run.key for p in sweep.runs[:2])
    for key, job in ((ours, "12_1.0"), (other, "120_1.0")):
        monkeypatch.setenv("BLUESTAB_JOB", job)
        assert sweep.store.claims.take(key) is not None

    def task(state: str) -> ArrayTask:
        return ArrayTask("12_1", state, comment=one.comment)

    answers = iter([squeue(task("RUNNING")), squeue(task("CANCELLED"))])

    def ask(*command: str) -> str:
        return next(answers) if command[0] == "squeue" else ""

    monkeypatch.setattr(scheduler, "ask", ask)
    assert cancel([one]) == ["12"]
    assert set(sweep.store.running()) == {other}

"""What `status` asks of SLURM: one question at a time, few where it is silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bluestab.cli import cluster
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.submission import Array
from tests.support.simulated_slurm import calls, squeue, submitted

MakeSweep = Callable[..., Sweep]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("silent", "questions"), [(False, 4), (True, 1)])
def test_watching_asks_at_most_four_times_a_minute(
    make_sweep: MakeSweep,
    site: dict[str, Any],
    clock: list[float],
    silent: bool,
    questions: int,
) -> None:
    sweep = make_sweep()
    for job in ("11", "12"):  # two submissions, one question
        submitted(sweep).write_array(0, Array(job, 0, 1))
    site["squeue"] = squeue(ArrayTask("12_0", "RUNNING", node="n1"))
    if silent:
        site["squeue"] = scheduler.SchedulerError("squeue gave no answer in 15 seconds")
    note = cluster.standing_note(sweep.store, sweep.name)
    said = set()
    for _ in range(30):  # a minute, looked at every two seconds
        said.add(note())
        clock[0] += 2.0
    assert len(site["asked"]) == calls(site, "squeue") == questions
    assert said == {"SLURM does not answer" if silent else "SLURM: 1 running (n1)"}


def test_status_asks_a_silent_slurm_once(
    make_sweep: MakeSweep, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep()
    submitted(sweep).write_array(0, Array("12", 0, 1))
    site["squeue"] = scheduler.SchedulerError("squeue gave no answer in 15 seconds")
    cluster.print_standing(sweep.store, sweep.name)
    assert capsys.readouterr().out == "  SLURM does not answer\n"
    assert len(site["asked"]) == 1

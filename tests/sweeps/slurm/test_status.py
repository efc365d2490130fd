"""Where the tasks of a submission stand, as squeue and sacct say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.status import TaskStatus
from bluestab.sweeps.slurm.submission import Array
from tests.support.simulated_slurm import calls, squeue, submitted

MakeSweep = Callable[..., Sweep]


def test_standing(make_sweep: MakeSweep, site: dict[str, Any]) -> None:
    """squeue first; what it has forgotten is asked of accounting, once."""
    one = submitted(make_sweep())
    one.write_array(0, Array("12", 0, 4))
    standing = TaskStatus([one])
    site["squeue"] = squeue(
        ArrayTask("12_0", "RUNNING", node="n1"),
        ArrayTask("12_1", "PENDING", "BeginTime", restarts=1),
        ArrayTask("12_2", "FAILED", "NonZeroExitCode", "n2", "1:0"),
    )
    site["sacct"] = "12_3|NODE_FAIL|0:0|n3\n"
    standing.refresh()
    assert standing.line == (
        "SLURM: 1 running (n1), 1 pending (BeginTime, 1 of them requeued), 1 FAILED, 1 NODE_FAIL"
    )
    assert (standing.running, len(standing.live), standing.idle) == (1, 2, False)
    assert standing.ends() == ["  task 12_2: FAILED 1:0 on n2", "  task 12_3: NODE_FAIL 0:0 on n3"]
    for _ in range(3):
        standing.refresh()
    assert calls(site, "sacct") == 1
    site["squeue"] = scheduler.SchedulerError("squeue says: Unable to contact")
    standing.refresh()
    assert standing.line == "SLURM does not answer"
    assert standing.live  # as last heard: a restart of the controller ends no job


def test_without_accounting_what_squeue_forgot_has_ended(
    make_sweep: MakeSweep, site: dict[str, Any]
) -> None:
    one = submitted(make_sweep())
    one.write_array(0, Array("12", 0, 2))
    site["squeue"] = scheduler.SchedulerError("squeue says: Invalid job id specified")
    site["sacct"] = scheduler.SchedulerError("sacct says: accounting storage is disabled")
    standing = TaskStatus([one])
    for _ in range(3):
        standing.refresh()
    assert (standing.known, standing.live, standing.idle) == (True, [], True)
    assert standing.line == "SLURM: 2 ENDED"
    assert calls(site, "sacct") == 1

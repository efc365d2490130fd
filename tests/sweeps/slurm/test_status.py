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


def test_a_task_says_what_to_do_about_its_end(make_sweep: MakeSweep, site: dict[str, Any]) -> None:
    """A store that its node does not see; memory that was not enough."""
    one = submitted(make_sweep(), mem="1G")
    one.write_array(0, Array("12", 0, 3))
    one.log_of("12_2").write_text("bluestab task 12_2.0 on n1, now\noom_kill event\n")
    site["squeue"] = squeue(
        ArrayTask("12_0", "FAILED", node="n1", exit="0:53"),
        ArrayTask("12_1", "OUT_OF_MEMORY", node="n2", exit="0:125"),
        ArrayTask("12_2", "FAILED", node="n2", exit="1:0"),
    )
    site["squeue"] = site["squeue"].replace(f"{0:<12}|{0:<12}|@", f"{53:<12}|{0:<12}|@", 1)
    status = TaskStatus([one])
    status.refresh()
    first, second, third, log = status.ends()
    assert "12_0: FAILED 0:53 on n1 (n1 cannot write to" in first
    assert f"{one.folder}: the store must be on a disk that the nodes share" in first
    assert "(hydra.launcher.mem=1G asks for memory" in second
    assert "(oom_kill; hydra.launcher.mem=1G" in third.replace("oom_kill event", "oom_kill")
    assert log.startswith("    log: ")


def test_an_interpreter_that_a_node_does_not_have(
    make_sweep: MakeSweep, site: dict[str, Any]
) -> None:
    one = submitted(make_sweep())
    one.write_array(0, Array("12", 0, 1))
    one.log_of("12_0").write_text(
        "slurmstepd-n1: error: execve(): /scratch/me/python: No such file or directory\n"
        "srun: error: n1: task 0: Exited with exit code 2\n"
    )
    site["squeue"] = squeue(ArrayTask("12_0", "FAILED", node="n1", exit="2:0"))
    status = TaskStatus([one])
    status.refresh()
    assert status.ends()[0] == (
        "  task 12_0: FAILED 2:0 on n1 (/scratch/me/python: No such file or directory; the "
        "interpreter must be on a disk that the nodes share: hydra.launcher.python names another)"
    )

"""A job is ours by its comment: ids are given out again, and two clusters give out the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bluestab.core.errors import BluestabError
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import own_tasks, scheduler
from bluestab.sweeps.slurm.cancelling import cancel
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.status import TaskStatus
from bluestab.sweeps.slurm.submission import Array, submissions
from tests.support.simulated_slurm import calls, launcher, squeue, submitted

MakeSweep = Callable[..., Sweep]
STRANGER = squeue(ArrayTask("12_0", "RUNNING", comment="nightly backup"))
UNKNOWN = "squeue says: 'alpha' can't be reached now, or it is an invalid entry for --cluster"


def test_a_job_of_somebody_else_is_not_attached_to(
    make_sweep: MakeSweep, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep()
    launcher(wait=False, runs_per_task=4).launch(sweep)
    site["squeue"] = STRANGER
    launcher(wait=False, runs_per_task=4).launch(sweep)
    assert "attached" not in capsys.readouterr().out
    assert calls(site, "sbatch") == 2, "its runs would never be done"


def test_a_job_of_somebody_else_is_neither_shown_nor_cancelled(
    make_sweep: MakeSweep, site: dict[str, Any]
) -> None:
    one = submitted(make_sweep())
    one.write_array(0, Array("12", 0, 1))
    site["squeue"] = STRANGER
    site["sacct"] = "12_0|RUNNING|0:0|n1|backup|\n"
    status = TaskStatus([one])
    status.refresh()
    assert (status.live, status.line) == ([], "SLURM: 1 ENDED")
    assert cancel([one]) == []
    assert calls(site, "scancel") == 0


def test_cancel_asks_only_for_what_lives_of_this_sweep(
    make_sweep: MakeSweep, site: dict[str, Any]
) -> None:
    """Of two arrays one has ended and its id is another's by now."""
    one = submitted(make_sweep())
    one.write_array(0, Array("12", 0, 1))
    one.write_array(1, Array("13", 1, 1))
    mine = squeue(ArrayTask("13_0", "RUNNING", comment=one.comment))
    answers = iter([STRANGER + mine, STRANGER])

    def ask(*command: str) -> str:
        site["asked"].append(command)
        return next(answers) if command[0] == "squeue" else ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "ask", ask)
        assert cancel([one]) == ["13"]
    assert [c for c in site["asked"] if c[0] == "scancel"] == [("scancel", "13")]


def test_accounting_goes_by_the_name_where_it_keeps_no_comment(make_sweep: MakeSweep) -> None:
    one = submitted(make_sweep())
    assert one.may_own(one.comment, "anything")
    assert not one.may_own("another's", one.sweep)
    assert one.may_own("", one.sweep)
    assert not one.may_own("", "another")


def test_the_cluster_is_written_down_and_named_where_it_is_another(
    make_sweep: MakeSweep, site: dict[str, Any]
) -> None:
    sweep = make_sweep()
    site.update(sbatch="12\n", scontrol="ClusterName = alpha\n")
    launcher(wait=False, runs_per_task=4).launch(sweep)
    (one,) = submissions(sweep.store)
    assert [array.cluster for array in one.arrays()] == ["alpha"]
    own_tasks.queued([one])
    assert not any(word.startswith("--clusters") for word in site["asked"][-1])
    site["scontrol"] = "ClusterName = beta\n"
    scheduler._HERE.clear()
    own_tasks.queued([one])
    assert "--clusters=alpha" in site["asked"][-1]


def test_a_cluster_that_cannot_be_asked_keeps_nobody_from_working_here(
    make_sweep: MakeSweep, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that two clusters share: runs are shared through it, whoever does them."""
    sweep = make_sweep()
    one = submitted(sweep)
    one.write_array(0, Array("12", 0, 2, "alpha"))
    site.update(sbatch="12\n", scontrol="ClusterName = beta\n")
    site["squeue"] = scheduler.SchedulerError(UNKNOWN)
    status = TaskStatus([one])
    status.refresh()
    assert status.line == "SLURM: cluster alpha cannot be asked from here"
    assert (status.known, status.live) == (False, [])
    assert cancel([one]) == []
    assert "not cancelled: job 12: cluster alpha cannot be asked" in capsys.readouterr().out
    launcher(wait=False, runs_per_task=4).launch(sweep)
    said = capsys.readouterr().out
    assert "job 12: cluster alpha cannot be asked from here; if its tasks live" in said
    assert "submitted 4 runs" in said
    assert calls(site, "scancel") == 0


def test_an_unknown_id_and_a_silent_slurm_submit_nothing(
    make_sweep: MakeSweep, site: dict[str, Any]
) -> None:
    """The submitter died before it wrote the id down, and the question by comment fails."""
    sweep = make_sweep()
    launcher(wait=False, runs_per_task=4).launch(sweep)
    (one,) = submissions(sweep.store)
    (one.folder / "array-0.json").unlink()
    site["squeue"] = scheduler.SchedulerError("squeue says: Unable to contact slurm controller")
    with pytest.raises(BluestabError, match="SLURM does not answer"):
        launcher(wait=False, runs_per_task=4).launch(sweep)
    assert calls(site, "sbatch") == 1

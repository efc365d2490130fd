"""What is submitted, and that it is submitted once: without a SLURM.

Sweeps on a real one: tests/slurm.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import BluestabError
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import scheduler, submission
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.submission import submissions
from tests.support.simulated_slurm import calls, launcher, squeue, submitted

MakeSweep = Callable[..., Sweep]

# --- submitting once -----------------------------------------------------------------------------


def test_the_same_command_attaches(
    make_sweep: MakeSweep, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    knobs = {"wait": False, "runs_per_task": 2}
    launcher(**knobs).launch(make_sweep())
    assert "submitted 4 runs, 2 per task, as job 12 (2 tasks)" in capsys.readouterr().out
    launcher(**knobs).launch(make_sweep())
    assert "4 runs are with job 12 (2 tasks) already; attached" in capsys.readouterr().out
    assert calls(site, "sbatch") == 1
    launcher(**knobs).launch(make_sweep(seeds=6))  # of the larger sweep, only what is new
    assert "submitted 2 runs, 2 per task" in capsys.readouterr().out
    site["squeue"] = squeue(ArrayTask("12_0", "COMPLETED"))
    launcher(**knobs).launch(make_sweep())
    assert "submitted 4 runs" in capsys.readouterr().out


def test_a_job_whose_id_was_never_written_down(
    make_sweep: MakeSweep, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep()
    launcher(wait=False, runs_per_task=4).launch(sweep)
    (one,) = submissions(sweep.store)
    (one.folder / "array-0.json").unlink()
    site["squeue"] = f"99|another\n12|{one.folder}\n"
    assert one.jobs() == ["12"]


def test_a_scheduler_that_does_not_answer(make_sweep: MakeSweep, site: dict[str, Any]) -> None:
    """Whether somebody works on the runs is not known, so nothing is submitted."""
    sweep = make_sweep()
    launcher(wait=False, runs_per_task=4).launch(sweep)
    site["squeue"] = scheduler.SchedulerError("squeue says: Unable to contact slurm controller")
    with pytest.raises(BluestabError, match="SLURM does not answer"):
        launcher(wait=False, runs_per_task=4).launch(sweep)
    assert calls(site, "sbatch") == 1


def test_what_is_refused_leaves_nothing(make_sweep: MakeSweep, site: dict[str, Any]) -> None:
    sweep = make_sweep()
    site["sbatch"] = scheduler.SchedulerError("sbatch says: invalid partition specified: x")
    with pytest.raises(BluestabError, match="invalid partition specified") as caught:
        launcher(wait=False, runs_per_task=4, partition="x").launch(sweep)
    assert caught.value.exit_code == 2
    assert submissions(sweep.store) == []


def test_no_slurm_here(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BluestabError, match="needs sbatch and squeue"):
        launcher(runs_per_task=1).launch(make_sweep())


# --- what a task goes by -------------------------------------------------------------------------


def test_tasks_stay_offline_and_find_what_the_command_found(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("BLUESTAB_ALLOW", "mylab")
    one = submitted(make_sweep(seeds=1), tasks=1)
    kept = one.content["environment"]
    assert kept["HF_HUB_OFFLINE"] == "1"
    assert kept["BLUESTAB_ALLOW"] == "mylab"
    assert "BLUESTAB_DATA" in kept
    assert "HF_TOKEN" not in kept
    assert Path(one.content["store"]).is_absolute()


def test_submissions_are_numbered_and_told_apart(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    first, second = submitted(sweep), submitted(sweep)
    assert (first.folder.name, second.folder.name) == ("s.1", "s.2")
    assert [one.folder for one in submissions(sweep.store, "s")] == [first.folder, second.folder]
    assert submissions(sweep.store, "other") == []
    assert first.keys == {p.run.key for p in sweep.runs}
    assert submission.next_folder(sweep.store, "s").name == "s.3"

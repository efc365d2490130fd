"""What SLURM's commands get of the environment: by fake commands that print theirs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.environment import cleaned, knobs_from
from bluestab.sweeps.slurm.submission import submissions
from tests.support.simulated_slurm import launcher

POLLUTED = {
    "SBATCH_PARTITION": "billed",
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_NO_REQUEUE": "1",
    "SQUEUE_PARTITION": "other",
    "SQUEUE_USERS": "nobody",
    "SQUEUE_NAMES": "x",
    "SCANCEL_STATE": "PENDING",
    "SACCT_FORMAT": "JobName",
    "SRUN_CPUS_PER_TASK": "64",
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
    "SLURM_CPU_BIND_TYPE": "mask_cpu:",
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "8",
    "SLURMD_NODENAME": "n9",
}
FINDS = {"SLURM_CONF": "/etc/other/slurm.conf", "SLURM_CLUSTERS": "beta", "PATH": "/bin"}

MakeSweep = Callable[..., Sweep]


@pytest.fixture
def printing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that write their environment into a folder, first on the path."""
    folder, kept = tmp_path / "bin", tmp_path / "seen"
    folder.mkdir()
    kept.mkdir()
    says = {"sbatch": "echo 12", "scontrol": "echo 'ClusterName = alpha'"}
    for name in ("sbatch", "squeue", "scancel", "sacct", "scontrol"):
        path = folder / name
        path.write_text(f"#!/bin/sh\nenv >> {kept}/{name}\n{says.get(name, ':')}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(scheduler, "_HERE", {})
    for name, value in POLLUTED.items():
        monkeypatch.setenv(name, value)
    return kept


def test_no_command_of_slurm_sees_options_or_a_job_around_it(
    printing: Path, make_sweep: MakeSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep()
    launcher(wait=False, runs_per_task=4).launch(sweep)
    launcher(wait=False, runs_per_task=4).launch(sweep)
    scheduler.accounted(["12"])
    scheduler.cancel(["12"])
    for name in ("sbatch", "squeue", "scancel", "sacct", "scontrol"):
        seen = {line.partition("=")[0] for line in (printing / name).read_text().splitlines()}
        assert not seen & set(POLLUTED), name
        assert "BLUESTAB_DATA" in seen, "the rest is for the tasks, as ever"
    said = capsys.readouterr().out
    assert "SBATCH_PARTITION=billed stands for hydra.launcher.partition" in said
    assert "left out: SBATCH_NO_REQUEUE=1, SBATCH_TIMELIMIT=1; the script goes by" in said
    script = (submissions(sweep.store)[0].folder / "script-0.sh").read_text()
    assert "#SBATCH --partition=billed" in script
    assert "#SBATCH --requeue" in script
    assert "--time" not in script


def test_a_dry_run_shows_the_same(
    printing: Path, make_sweep: MakeSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher(dry_run=True, runs_per_task=4).launch(make_sweep())
    said = capsys.readouterr().out
    assert "# SBATCH_PARTITION=billed stands for" in said
    assert "#SBATCH --partition=billed" in said


def test_where_the_cluster_is_stays() -> None:
    assert cleaned({**FINDS, **POLLUTED}) == FINDS
    assert cleaned({"SBATCH_CLUSTERS": "beta"}) == {"SLURM_CLUSTERS": "beta"}


def test_a_knob_that_is_set_wins() -> None:
    taken, told = knobs_from({"SBATCH_QOS": "high", "SBATCH_ACCOUNT": "mine"}, {"qos": "low"})
    assert taken == {"account": "mine"}
    assert "left out: SBATCH_QOS=high" in told[-1]
    assert knobs_from({"SBATCH_QOS": "low"}, {"qos": "low"}) == ({}, [])
    assert knobs_from({"PATH": "/bin", "SBATCH_QOS": ""}, {}) == ({}, [])

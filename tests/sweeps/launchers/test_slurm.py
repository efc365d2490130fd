"""The launcher for SLURM: its knobs, and a dry run that writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import BluestabError
from bluestab.sweeps.launchers.slurm import minutes_of
from bluestab.sweeps.plan import Sweep
from tests.support.simulated_slurm import launcher

MakeSweep = Callable[..., Sweep]


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        *[(None, None), (90, 90), ("90", 90), ("90:30", 90.5), ("2:00:00", 120)],
        *[("1-12", 2160), ("1-12:30", 2190), ("1-12:30:30", 2190.5), ("soon", None)],
    ],
)
def test_time_as_slurm_writes_it(limit: object, minutes: float | None) -> None:
    assert minutes_of(limit) == minutes


@pytest.mark.parametrize(
    ("knobs", "overrides", "said"),
    [
        ({"runs_per_task": 0}, (), "hydra.launcher.runs_per_task is 0"),
        ({"time": "soon"}, (), "hydra.launcher.time is 'soon': expected minutes"),
        ({"setup": "module load cuda"}, (), "hydra.launcher.setup"),
        ({"wait": 1}, (), "hydra.launcher.wait is 1"),
        ({}, ("device=cuda",), "no GPU is asked for; say hydra.launcher.gpus_per_node=1"),
        ({"gpus_per_node": 1}, (), "but hydra.launcher asks for GPUs"),
        ({"gres": "gpu:1"}, ("device=cuda:1",), "SLURM chooses the GPUs"),
        (
            {"gpus_per_node": "a100:2"},
            ("device=auto", "trainer.devices=4"),
            "trainer.devices is 4, but hydra.launcher.gpus_per_node is a100:2",
        ),
        (
            {"gres": "gpu:2", "srun_args": ["-N2"], "partition": "main*"},
            ("device=auto", "trainer.devices=4"),
            "(?s)a task has one node.*say main.*trainer.devices is 4, but hydra.launcher.gres is "
            "gpu:2; say hydra.launcher.gpus_per_node=4",
        ),
    ],
)
def test_wrong_knobs(make_sweep: MakeSweep, knobs: Any, overrides: Any, said: str) -> None:
    with pytest.raises(BluestabError, match=said):
        launcher(**knobs).launch(make_sweep(*overrides))


def test_a_dry_run_writes_nothing(
    make_sweep: MakeSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str], said: Any
) -> None:
    said["scontrol"] = "MaxArraySize            = 3\n"
    launcher(dry_run=True, runs_per_task=1).launch(make_sweep(seeds=5))
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "--array" in line] == [
        f"#SBATCH --array=0-{n}%{n + 1}" for n in (1, 1, 0)
    ]
    assert [line.split("--first=")[1] for line in out.splitlines() if "--first" in line] == [
        *("0", "2", "4")
    ]
    assert "5 runs in 5 tasks; nothing was submitted" in out
    assert not (tmp_path / "runs").exists()

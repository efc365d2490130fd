"""How large tasks are made, and how long before its limit a task is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import scheduler, sizing
from bluestab.sweeps.slurm.submission import submissions
from tests.support.simulated_slurm import launcher

MakeSweep = Callable[..., Sweep]

PARTITIONS = (
    "PartitionName=main Default=YES DefaultTime=NONE MaxTime=UNLIMITED State=UP\n"
    "PartitionName=short Default=NO DefaultTime=NONE MaxTime=00:01:00 State=UP\n"
    "PartitionName=lazy Default=NO DefaultTime=00:01:30 MaxTime=1-00:00:00 State=UP\n"
)


@pytest.mark.parametrize(
    ("time", "partition", "minutes", "delay"),
    [
        (None, None, None, 120),
        (None, "main", None, 120),
        (None, "short", 1.0, 20),
        (None, "lazy", 1.5, 20),
        (None, "main,short", 1.0, 20),
        (None, "nowhere", None, 120),
        ("10:00", "short", 10.0, 60),
        (90, None, 90.0, 120),
    ],
)
def test_a_limit_is_the_knobs_or_the_partitions(
    said: dict[str, Any], time: object, partition: str | None, minutes: float | None, delay: int
) -> None:
    said["scontrol"] = PARTITIONS
    limit = sizing.time_limit(time, partition)
    assert (limit.minutes, limit.signal_delay) == (minutes, delay)


def test_a_slurm_that_does_not_say_its_limits(said: dict[str, Any]) -> None:
    said["scontrol"] = scheduler.SchedulerError("scontrol says: no")
    assert sizing.time_limit(None, "short").signal_delay == 120


def test_a_short_partition_is_told_of_before_anything_is_submitted(
    make_sweep: MakeSweep, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    site["scontrol"] = PARTITIONS
    sweep = make_sweep()
    launcher(wait=False, runs_per_task=4, partition="short").launch(sweep)
    said = capsys.readouterr().out
    assert said.count("the limit of partition short, 1 minutes, ends a task soon: 20 seconds") == 1
    (one,) = submissions(sweep.store)
    script = (one.folder / "script-0.sh").read_text()
    assert "--signal=USR2@20" in script
    assert one.content["launcher"]["signal_delay"] == 20
    assert one.content["launcher"]["limit"] == "the limit of partition short, 1 minutes,"


def test_nothing_is_timed_where_jobs_are_submitted_unless_asked_for(
    make_sweep: MakeSweep,
    site: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    timed: list[Any] = []
    monkeypatch.setattr("bluestab.sweeps.launchers.check.dry_step", timed.append)
    sweep = make_sweep(seeds=25)
    launcher(wait=False).launch(sweep)
    said = capsys.readouterr().out
    assert timed == []
    assert "hydra.launcher.dry_step=true times a few steps on this machine" in said
    (one,) = submissions(sweep.store)
    assert (one.tasks, one.content["launcher"]["task_seconds"]) == (3, sizing.TASK_SECONDS)
    launcher(dry_run=True, dry_step=True).launch(sweep)
    assert len(timed) == 1


def test_every_knob_that_is_named_is_one_of_the_launcher() -> None:
    """In what is said under slurm, there is no knob of another launcher."""
    import re

    from bluestab.core.config import compose

    knobs = set(compose(["hydra/launcher=slurm"]).hydra.launcher)
    root = Path(sizing.__file__).parents[1]
    files = [
        *(root / "slurm").glob("*.py"),
        *(root / "launchers" / name for name in ("slurm.py", "check.py", "base.py")),
    ]
    named = {
        (file.name, knob)
        for file in files
        for knob in re.findall(r"hydra\.launcher\.(\w+)", file.read_text())
    }
    others = {("check.py", "workers")}  # the forecast's own
    assert {(file, knob) for file, knob in named if knob not in knobs} <= others

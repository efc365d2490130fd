"""The launcher of the command line takes as many workers as there is room for, and says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bluestab.core import devices
from bluestab.core.config import compose
from bluestab.core.devices import Kind
from bluestab.sweeps.forecast import Finished, workload
from bluestab.sweeps.launchers import auto, local, pool
from bluestab.sweeps.launchers.check import Check
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import scheduler
from bluestab.testing.corpora import ANY_FILE

Make = Callable[..., Any]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A machine of so many cores, GiB and GPUs, with SLURM or without."""

    def make(cores: int, gib: float = 64, slurm: bool = False) -> None:
        monkeypatch.setattr(devices, "cores", lambda: cores)
        monkeypatch.setattr(devices, "memory_mb", lambda: int(gib * 1024))
        monkeypatch.setattr(scheduler, "installed", lambda: slurm)

    return make


def chosen(sweep: Sweep, **more: Any) -> auto.WorkerChoice:
    more = {"environment": {}, **more}
    return auto.choose([planned.run for planned in sweep.runs], sweep.store, **more)


def test_the_least_of_cores_memory_and_runs(machine: Make, make_sweep: Make) -> None:
    sweep = make_sweep(seeds=4)
    machine(3)
    assert chosen(sweep).workers == 3
    assert chosen(sweep).line.startswith("hydra/launcher=pool with 3 workers (3 CPU cores, memory ")
    machine(16)
    assert chosen(sweep).workers == 4
    assert chosen(sweep).why.endswith("4 runs to do")
    assert chosen(sweep, most=2).workers == 2
    assert chosen(sweep, environment={"SLURM_CPUS_PER_TASK": "2"}).workers == 2
    machine(16, gib=6)
    assert chosen(sweep).workers == 2, "2 GB and more each"
    machine(16, gib=1)
    assert chosen(sweep).workers == 1
    machine(1)
    assert chosen(sweep).line.startswith("hydra/launcher=local (1 CPU core, ")
    assert chosen(make_sweep("trainer.threads=2")).workers == 1


def test_check_knows_how_many_a_pool_takes(machine: Make, make_sweep: Make) -> None:
    machine(3)
    sweep = make_sweep(seeds=4)
    runs = [planned.run for planned in sweep.runs]

    def at_once(launcher: str, workers: int | None = None) -> int:
        asked = Check(dry_step=False, workers=workers, group=None, launcher=launcher, gpus=False)
        return asked.at_once(runs, sweep.store)

    assert [at_once("pool"), at_once("pool", 2), at_once("local")] == [3, 2, 1]


def test_a_login_node_is_left_to_others(machine: Make, make_sweep: Make) -> None:
    machine(8, slurm=True)
    sweep = make_sweep(seeds=4)
    assert chosen(sweep) == auto.WorkerChoice(
        1, "SLURM is here: hydra/launcher=slurm submits, pool takes more of this machine"
    )
    assert chosen(sweep, environment={"SLURM_JOB_ID": "7"}).workers == 4
    assert chosen(sweep, most=3).workers == 3


def test_memory_is_that_of_like_runs(
    machine: Make, make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(16, gib=64)
    sweep = make_sweep(seeds=16)
    run = sweep.runs[0].run
    like = Finished(
        *(run.cell, workload(run.hashed), ()), steps=1, fit=1.0, rest=1.0,
        memory_mb={"process": 10_240.0}, parameters=1, device="cpu",
    )  # fmt: skip
    monkeypatch.setattr(auto, "finished_runs", lambda store: [like])
    assert chosen(sweep).workers == 5
    assert "memory for 5 of 10" in chosen(sweep).why


def test_one_worker_is_local_and_more_are_a_pool(
    machine: Make, make_sweep: Make, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(local.Local, "launch", lambda self, sweep: taken.append("local"))
    monkeypatch.setattr(
        pool.Pool, "launch", lambda self, sweep: taken.append(f"pool {self.workers}")
    )
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    knobs: dict[str, Any] = {"workers": None, "per_gpu": 1, "memory": None, "group": 1}
    for cores in (1, 3):
        machine(cores)
        auto.Auto(**knobs).launch(make_sweep())
    assert taken == ["local", "pool 3"]
    assert "hydra/launcher=local (1 CPU core" in capsys.readouterr().out


def test_the_command_line_asks_for_it_and_python_does_not(
    cli: Make, machine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compose([]).hydra.launcher.backend.endswith("local.Local")
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    monkeypatch.setattr(devices, "kind_of", lambda device: Kind("cpu", True))
    machine(2)
    gad = ("check", "-m", *ANY_FILE, "task=gad", "model=tiny", "sweep.seeds=3")
    rest = ("hydra.launcher.dry_step=false",)
    said = cli(*gad, *rest)
    assert said.code == 0, said.err
    assert "hydra/launcher=pool with 2 workers (2 CPU cores, memory for " in said.out
    assert "trainer.precision=bf16" in said.out
    assert "trainer.micro_batch=4" in said.out
    slurm = cli(*gad, *rest, "hydra/launcher=slurm", "hydra.launcher.gpus_per_node=1").out
    assert "trainer.micro_batch=null" in slurm
    assert "hydra/launcher=pool" not in slurm

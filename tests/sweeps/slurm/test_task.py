"""A task on a node: its time limit, its orders, its data and its GPUs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import BluestabError, StoreError
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import task
from bluestab.sweeps.slurm.submission import Submission
from bluestab.testing import simulated_runs
from tests.support.simulated_slurm import calls, queue_of, submitted

MakeSweep = Callable[..., Sweep]


def test_a_task_that_gets_nowhere_does_not_requeue_itself_for_ever(
    make_sweep: MakeSweep, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(seeds=2)
    one = submitted(sweep, tasks=1)
    queue = queue_of(one)
    planned = queue.next()
    assert planned is not None
    queue.put_back(planned)

    def end() -> int:
        notice = task.PreemptionNotice(print, one, "12_0.7")
        notice.asked = notice.time_is_up = True
        return task._end(notice, crashed=False, is_left=True, got_on=queue.got_on)

    assert [end(), end()] == [0, 0]
    assert calls(site, "scontrol") == 2
    assert end() == 1
    said = capsys.readouterr().out
    assert "the time limit of partition is too short, and hydra.launcher.time is not set" in said
    (sweep.store.root / ".resume" / planned.run.key).mkdir(parents=True)  # it has saved
    assert [end(), end(), end()] == [0, 0, 0]
    assert calls(site, "scontrol") == 5


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (
            "hydra.launcher.time=1",
            "hydra.launcher.time=1 is too short: hydra.launcher.time must be longer",
        ),
        (
            "the limit of partition short, 1 minutes,",
            "the limit of partition short, 1 minutes, is too short, and hydra.launcher.time is not",
        ),
    ],
)
def test_the_limit_that_was_too_short_is_named(
    make_sweep: MakeSweep, limit: str, said: str
) -> None:
    assert task._longer(submitted(make_sweep(seeds=1), limit=limit)).startswith(said)


def test_near_the_limit_runs_are_awaited_first(make_sweep: MakeSweep) -> None:
    one = submitted(make_sweep(seeds=1), tasks=1)
    said: list[str] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        with task.PreemptionNotice(said.append, one, "12_0.0") as notice:
            now = time.monotonic()
            os.kill(os.getpid(), signal.SIGUSR2)
            assert notice.asked
            assert notice.until is not None
            assert now + 40 < notice.order_at < notice.until < now + 110
            assert not one.is_excused("12_0.0")
            os.kill(os.getpid(), signal.SIGTERM)  # all the same, SLURM ends it now
            assert notice.order_at <= time.monotonic()
            assert notice.until <= time.monotonic() + task.KILL_WAIT
            assert one.is_excused("12_0.0")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert len(said) == 1
    assert said[0].startswith("the time limit is near")


def test_orders_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert task.main([str(tmp_path / "nowhere")]) == 2
    assert "must be on a disk that the nodes share" in capsys.readouterr().out
    (tmp_path / "orders.json").write_text('{"sweep": "s"')
    with pytest.raises(StoreError, match=r"orders\.json cannot be read"):
        Submission(tmp_path)


def test_data_that_differ_on_the_node(make_sweep: MakeSweep) -> None:
    one = submitted(make_sweep(seeds=1), tasks=1)
    content = json.loads((one.folder / "orders.json").read_text())
    content["runs"][0]["key"] = "0" * 16
    (one.folder / "orders.json").write_text(json.dumps(content))
    with pytest.raises(BluestabError, match="differ from those on the machine that submitted"):
        task.work(Submission(one.folder), 0, "1_0.0", simulated_runs.execute)


def test_data_that_the_node_does_not_see(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that the submitting machine could make is impossible on the node for its disks."""
    one = submitted(make_sweep(seeds=1), tasks=1)
    monkeypatch.setenv("BLUESTAB_DATA", str(tmp_path))
    with pytest.raises(
        BluestabError, match=r"must be on a disk that the nodes share; .*train\.tsv"
    ):
        task.work(one, 0, "1_0.0", simulated_runs.execute)


def test_gpus_that_torch_cannot_use(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bluestab.core.devices.cuda_devices", lambda: 0)
    one = submitted(make_sweep("device=auto", seeds=1), tasks=1, gpus=True)
    with pytest.raises(BluestabError, match="torch can use none of them"):
        task.work(one, 0, "1_0.0", simulated_runs.execute)


@pytest.mark.parametrize(
    ("said", "mb"),
    [
        ({}, 64_000),
        ({"SLURM_MEM_PER_NODE": "4000", "SLURM_MEM_PER_CPU": "9"}, 4000),
        ({"SLURM_MEM_PER_CPU": "1500", "SLURM_CPUS_ON_NODE": "2"}, 3000),
        ({"SLURM_MEM_PER_NODE": "0", "SLURM_CPUS_ON_NODE": "2"}, 64_000),  # all of the node's
    ],
)
def test_memory_is_what_slurm_gave(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], mb: int
) -> None:
    monkeypatch.setattr("bluestab.core.devices.memory_mb", lambda: 64_000)
    for name in ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert task._memory_mb() == mb

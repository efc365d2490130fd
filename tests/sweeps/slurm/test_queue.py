"""Which runs a task takes while others begin, idle, die or crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from bluestab.store.store import Store
from bluestab.sweeps.attempt import attempt
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import task
from bluestab.sweeps.slurm.queue import SharedQueue
from bluestab.testing import simulated_runs
from bluestab.testing.simulated_runs import acts
from tests.support.simulated_slurm import queue_of, submitted

MakeSweep = Callable[..., Sweep]


def seeds(queue: SharedQueue, n: int) -> list[int]:
    taken = [queue.next() for _ in range(n)]
    return [planned.run.cfg["seed"] for planned in taken if planned is not None]


def test_a_task_makes_room_while_others_have_not_begun(make_sweep: MakeSweep) -> None:
    one = submitted(make_sweep(seeds=5), tasks=3)
    one.begin(0)
    first = queue_of(one)
    assert seeds(first, 5) == [0, 1]
    assert len(first) == 0
    one.begin(1)
    one.begin(2)
    assert seeds(first, 5) == [2, 3, 4]  # nobody else is to come


def test_one_idle_task_stays_to_take_over(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(seeds=1)
    one = submitted(sweep, tasks=1)
    one.begin(0)
    key = sweep.runs[0].run.key
    claim = sweep.store.claims.take(key)
    assert claim is not None
    queues = [queue_of(one) for _ in range(3)]
    assert [queue.next() for queue in queues] == [None] * 3
    assert [len(queue) for queue in queues] == [1, 0, 0]
    with monkeypatch.context() as patch:
        patch.setattr("bluestab.sweeps.slurm.queue.STANDBY_SECONDS", 0.0)
        time.sleep(0.01)
        assert len(queues[0]) == 0  # not for ever
    claim.release()
    monkeypatch.setattr(queues[0], "_look_again", 0.0)
    assert seeds(queues[0], 1) == [0]
    queues[0].close()
    assert len(queues[1]) == 1  # the place is free again
    queues[1].close()


def test_what_has_crashed_is_for_the_next_submission(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(seeds=2)
    acts(sweep.store, s0=["crash"])
    one = submitted(sweep, tasks=1)
    assert task.work(one, 0, "1_0.0", simulated_runs.execute) == 1
    assert seeds(queue_of(one), 2) == []
    assert seeds(queue_of(submitted(sweep, tasks=1)), 2) == [0]


def dead_claim(sweep: Sweep, number: int, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process leaves that died at a run."""
    monkeypatch.setenv("BLUESTAB_JOB", job)
    key = sweep.runs[number].run.key
    claim = sweep.store.claims.take(key)
    assert claim is not None
    claim.content["process_start"] = "another"
    claim.beat()


def test_three_deaths_are_a_crash(
    make_sweep: MakeSweep,
    monkeypatch: pytest.MonkeyPatch,
    site: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = make_sweep(seeds=2)
    one = submitted(sweep, tasks=1)
    one.begin(0)
    site["sacct"] = "12_0|NODE_FAIL|0:0|n1\n12_0|RUNNING|0:0|n2\n12_1|OUT_OF_MEMORY|0:125|n1\n"
    for job in ("12_0.0", "12_1.0"):
        dead_claim(sweep, 0, job, monkeypatch)
        assert seeds(queue_of(one), 2) == [1, 0], "it may kill this task too: the others first"
    one.excuse("12_2.0")
    dead_claim(sweep, 0, "12_2.0", monkeypatch)  # told to stop: no doing of the run
    queue = queue_of(one)
    assert seeds(queue, 2) == [1, 0]
    dead_claim(sweep, 0, "12_0.1", monkeypatch)  # between the order and its beginning
    key, store = sweep.runs[0].run.key, sweep.store
    assert (
        attempt(sweep.runs[0].run, store, None, simulated_runs.execute, queue.failures[key]) is None
    )
    assert store.running() == {}
    lines: list[str] = []
    assert seeds(queue_of(one, say=lines.append), 2) == [1]
    (line,) = lines
    assert line.endswith("died 3 times, recorded as crashed")
    assert capsys.readouterr().out == "", "a queue prints nothing by itself"
    record = sweep.store.crash(sweep.runs[0].run.key)
    assert record is not None
    assert record.result["error"]["type"] == "OutOfMemoryKilled"
    said = record.result["error"]["message"]
    assert "died 3 times: in task 12_0" in said
    assert "(NODE_FAIL 0:0)" in said
    assert "(OUT_OF_MEMORY 0:125)" in said
    assert sweep.store.claims.deaths(record.key) == []  # the next submission starts from nought


def test_a_run_that_crashes_elsewhere_between_order_and_beginning_is_not_begun_again(
    make_sweep: MakeSweep,
) -> None:
    sweep = make_sweep(seeds=1)
    one = submitted(sweep, tasks=1)
    one.begin(0)
    simulated_runs.acts(sweep.store, s0=["crash"])
    queue = queue_of(one)
    planned = queue.next()
    assert planned is not None
    seen = queue.failures[planned.run.key]
    elsewhere = attempt(planned.run, sweep.store, None, simulated_runs.execute)
    assert elsewhere is not None
    assert elsewhere.status == "crashed"
    assert attempt(planned.run, sweep.store, None, simulated_runs.execute, seen) is None
    assert simulated_runs.attempts(sweep.store) == {"0": 1}
    queue.put_back(planned)
    assert queue.next() is None


def test_a_task_of_unknown_size_makes_room_by_the_clock(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its time, and at least one run, while others have not begun."""
    one = submitted(make_sweep(seeds=3), tasks=2)
    now = [100.0]
    monkeypatch.setattr("bluestab.sweeps.slurm.queue.time.monotonic", lambda: now[0])
    queue = SharedQueue(one, Store(one.content["store"]), 1, seconds=60.0)
    now[0] = 200.0
    assert queue.next() is not None, "late, but it has done nothing yet"
    assert queue.next() is None
    assert len(queue) == 0
    early = SharedQueue(one, Store(one.content["store"]), 1, seconds=60.0)
    assert early.next() is not None
    assert early.next() is not None, "the number of runs does not count"
    for index in range(2):
        one.begin(index)
    assert len(queue) == 2

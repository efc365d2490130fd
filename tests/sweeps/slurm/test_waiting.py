"""What a stage of a sequence waits for, as a task of an array sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import task
from bluestab.sweeps.slurm.submission import RunOrder
from bluestab.sweeps.slurm.waiting import StagesBefore
from bluestab.testing import simulated_runs
from bluestab.testing.simulated_runs import acts
from tests.support.simulated_slurm import queue_of, submitted

MakeSweep = Callable[..., Sweep]


def chained(sweep: Sweep, **knobs: Any) -> Any:
    """The runs of a sweep as one chain: each goes on from the one before."""
    one = submitted(sweep, **knobs)
    keys = [planned.run.key for planned in sweep.runs]
    for at, entry in enumerate(one.content["runs"]):
        cfg = dict(one.content["configs"][entry["config"]])
        if at:
            cfg["model"] = {**cfg["model"], "init_from": f"stage:{keys[at - 1]}:last"}
        one.content["configs"].append(cfg)
        entry["config"] = len(one.content["configs"]) - 1
    return one


def orders(one: Any) -> dict[str, RunOrder]:
    return {order.key: order for order in one.orders()}


def test_a_stage_waits_for_all_before_it(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(seeds=3)
    one, keys = chained(sweep), [planned.run.key for planned in sweep.runs]
    found = StagesBefore(orders(one), sweep.store, lambda order: False)
    assert [found.standing(key) for key in keys] == ["ready", "early", "early"]
    assert (
        task.work(submitted(make_sweep(seeds=1), tasks=1), 0, "1_0.0", simulated_runs.execute) == 0
    )
    assert [found.standing(key) for key in keys] == ["ready", "ready", "early"]


def test_what_follows_a_crash_is_not_started(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(seeds=3)
    one, keys = chained(sweep), [planned.run.key for planned in sweep.runs]
    given_up = StagesBefore(orders(one), sweep.store, lambda order: order.key == keys[0])
    assert [given_up.standing(key) for key in keys] == ["ready", "hopeless", "hopeless"]


def test_a_stage_of_another_submission_is_waited_for(make_sweep: MakeSweep) -> None:
    """Until it is done or has crashed there."""
    sweep = make_sweep(seeds=2)
    one, keys = chained(sweep), [planned.run.key for planned in sweep.runs]
    alone = {keys[1]: orders(one)[keys[1]]}
    found = StagesBefore(alone, sweep.store, lambda order: False)
    assert found.standing(keys[1]) == "early"
    acts(sweep.store, s0=["crash"])
    assert (
        task.work(submitted(make_sweep(seeds=1), tasks=1), 0, "1_0.0", simulated_runs.execute) == 1
    )
    assert found.standing(keys[1]) == "hopeless"


def test_a_queue_ends_where_nothing_can_follow(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(seeds=3)
    one = chained(sweep, tasks=1, runs_per_task=10)
    one.begin(0)
    acts(sweep.store, s0=["crash"])
    queue = queue_of(one)
    planned = queue.next()
    assert planned is not None
    assert (queue.next(), len(queue.early)) == (None, 2)
    assert (
        task.work(submitted(make_sweep(seeds=1), tasks=1), 0, "1_0.0", simulated_runs.execute) == 1
    )
    assert len(queue) == 0
    queue.close()

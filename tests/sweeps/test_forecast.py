"""What a sweep costs and how long it still takes: by hand, from real runs, from a dry step."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.types import WEIGHTS_TO_KEEP, RunRecord
from bluestab.report.terminal.time_left import Means, left, remaining
from bluestab.sweeps.forecast import (
    MARGIN,
    RUN_FILES,
    Cost,
    Finished,
    KnownCosts,
    evaluations,
    forecast,
    from_dry_step,
    on_device,
    workload,
)
from bluestab.testing.corpora import ANY_FILE
from bluestab.training.dry_run_step import DryStep

GAD = ["task=gad", "model=tiny", "task.max_length=32", "optim.batch_size=8", "optim.steps=3"]


def finished(**changes: Any) -> Finished:
    values: dict[str, Any] = {
        "cell": "a",
        "workload": "w",
        "techniques": ("llrd",),
        "steps": 100,
        "fit": 50.0,
        "rest": 4.0,
        "memory_mb": {"process": 900},
        "parameters": 1000,
        "device": "cpu x86_64",
        "disk": 20_000.0,
    }
    return Finished(**{**values, **changes})


def cost(seconds: float = 60.0, parameters: int = 0, disk: float = 0.0, **mb: float) -> Cost:
    return Cost(seconds, mb, disk, parameters, "dry step")


# --- remaining time ---------------------------------------------------------------------------


def test_remaining_time_by_hand() -> None:
    # 3 waiting runs of 60 s, one running with 30 s to go: 210 s of work on two workers
    assert remaining([60, 60, 60], [30], 2) == 105
    assert remaining([60, 60, 60], [30], 1) == 210
    # four workers would need 30 s on paper, but no run is split: the longest decides
    assert remaining([], [30, 10], 4) == 30
    assert remaining([60], [10, 10], 8) == 60
    assert remaining([], [], 2) == 0
    assert remaining([60, None], [30], 2) is None
    assert remaining([60], [None], 2) is None


def test_what_a_running_run_still_needs() -> None:
    assert left(100, 30, 0.0) == 70
    assert left(100, 30, 0.9) == 70  # what runs took in all, scoring included, is the better guide
    assert left(100, 120, 0.8) == pytest.approx(30)  # slower than the others: its own pace
    assert left(100, 120, 0.0) == 0
    assert left(None, 20, 0.25) == pytest.approx(60)
    assert left(None, 20, 0.01) is None
    assert left(None, 20, 0.0) is None


def test_the_nearest_kind_of_run_counts() -> None:
    means = Means()
    assert means.expected("a", "gad tiny") is None
    means.add("a", "gad tiny", 10)
    means.add("a", "gad tiny", 20)
    means.add("b", "gad tiny", 60)
    means.add("c", "gad large", 600)
    assert means.expected("a", "gad tiny") == 15
    assert means.expected("new", "gad tiny") == 30
    assert means.expected("new", "biosses tiny") == 172.5
    assert means.knows("a")
    assert not means.knows("new")


# --- the arithmetic of a forecast -------------------------------------------------------------

DRY = DryStep(
    prepare=2.0,
    step=0.5,
    evaluate={"train": 0.0, "validation": 3.0, "test": 5.0},
    memory_mb={"process": 1000},
    parameters=2**20,
    test_bytes=700.0,
    device="cpu",
)


@pytest.mark.parametrize(
    ("steps", "per_epoch", "every", "n"),
    [(120, 4, None, 30), (20, 4, 12, 2), (24, 4, 12, 2), (3, 10, None, 1), (25, 4, 12, 3)],
)
def test_number_of_evaluations(steps: int, per_epoch: int, every: int | None, n: int) -> None:
    assert evaluations(steps, per_epoch, every) == n


def test_a_run_from_a_dry_step_by_hand() -> None:
    found = from_dry_step(DRY, steps=100, steps_per_epoch=10, eval_every=25)
    # 2 to prepare, 100 steps of 0.5, 4 validations of 3, tests of the last and of the best
    assert found.seconds == 2 + 50 + 12 + 10
    assert found.memory_mb == {"process": 1004}  # 2**20 weights of 4 bytes are kept as the best
    assert found.disk == RUN_FILES + 1400
    short = from_dry_step(DRY, steps=5, steps_per_epoch=10, eval_every=None)
    assert short.seconds == 2 + 2.5 + 3 + 5  # the last is the best: one test
    gpu = from_dry_step(
        DryStep(1, 1, DRY.evaluate, {"process": 900, "gpu": 50}, 2**20, 0),
        steps=1,
        steps_per_epoch=1,
        eval_every=None,
    )
    assert gpu.memory_mb == {"process": 900, "gpu": 54}


def test_what_stages_hold_on_to_by_hand() -> None:
    held = replace(DRY, recall=7.0, memory_per_task_mb=30.0)
    found = {
        n: from_dry_step(held, steps=100, steps_per_epoch=10, eval_every=25, earlier=n)
        for n in (0, 1, 3)
    }
    # a recall, both tests and both validations of every earlier task; the first one's memory is in
    # that of the step; importances are measured once, at the end of a task's own run
    assert [found[n].seconds for n in (0, 1, 3)] == [74, 74 + 23, 74 + 69]
    measuring = replace(held, importance=13.0)
    line = {"steps": 100, "steps_per_epoch": 10, "eval_every": 25, "earlier": 3}
    assert from_dry_step(measuring, **line).seconds == found[3].seconds + 13
    assert [found[n].memory_mb["process"] for n in (0, 1, 3)] == [1004, 1004, 1064]


def test_a_dictionary_passes_once_with_the_same_weights_by_hand() -> None:
    ranking, line = replace(DRY, candidates=11.0), {"steps_per_epoch": 10, "eval_every": 25}

    def passes(steps: int, earlier: int) -> float:
        found = [from_dry_step(d, steps=steps, earlier=earlier, **line) for d in (ranking, DRY)]
        return (found[0].seconds - found[1].seconds) / 11

    assert passes(25, 0) == 1, "one validation, and the test of the same weights"
    assert passes(100, 0) == 5, "four, and the test of the best"
    assert passes(25, 2) == 3, "a dictionary of each earlier task"
    assert passes(100, 2) == 9


def test_a_sweep_by_hand() -> None:
    costs = [cost(60, 1000, 500, process=800), cost(100, 2000, 700, process=900, gpu=40), None]
    found = forecast(costs)
    assert (found.runs, found.unknown, found.workers) == (3, 1, 1)
    assert found.seconds == 160
    assert found.memory_mb == {"process": 900, "gpu": 40}
    assert found.disk == 1200
    assert forecast(costs, workers=2).seconds == 100
    assert forecast([None, None]).seconds is None
    assert forecast([None]).memory_mb == {}


@pytest.mark.parametrize(("keep", "n"), [("none", 0), ("best", 1), ("last", 1), ("all", 2)])
def test_checkpoints_take_four_bytes_for_each_parameter(keep: str, n: int) -> None:
    found = forecast([cost(parameters=1000), cost(parameters=3000)], keep=keep)
    assert found.disk == pytest.approx(n * 4 * 4000 * MARGIN)
    assert keep in WEIGHTS_TO_KEEP


def test_history_by_cell_then_technique_then_task_and_model() -> None:
    known = KnownCosts(
        [
            finished(cell="a", fit=50, rest=4),
            finished(cell="a", fit=70, rest=4, memory_mb={"process": 950}),
            finished(cell="b", techniques=("freeze",), fit=20, rest=2, steps=50),
        ]
    )
    same = known.cost("a", "w", ("llrd",), 100)
    assert same is not None
    assert (same.seconds, same.source, same.runs) == (64, "same cell", 2)
    assert same.memory_mb == {"process": 950}
    assert same.disk == 20_000
    longer = known.cost("new", "w", ("llrd",), 300)  # three times the steps
    assert longer is not None
    assert (longer.seconds, longer.source) == (3 * 60 + 4, "same technique")
    other = known.cost("new", "w", ("reinit",), 100)
    assert other is not None
    assert other.seconds == pytest.approx((54 + 74 + 42) / 3)
    assert (other.source, other.runs) == ("same task and model", 3)
    assert known.cost("new", "another workload", ("llrd",), 100) is None


def test_only_runs_on_the_same_kind_of_device_count() -> None:
    here, gpu = finished(device="cpu x86_64"), finished(device="cuda:0 NVIDIA H200")
    both = [here, gpu]
    assert on_device(both, "cpu", "cuda") == [here]
    assert on_device(both, "cuda:3", "cpu") == [gpu]
    assert on_device(both, "auto", "cpu") == [here]
    assert on_device(both, "auto", "cuda") == [gpu]
    assert on_device([gpu], "auto", "cpu") == [gpu]  # planned where it will not run
    assert on_device([gpu], "cpu", "cpu") == []


def test_a_workload_is_what_the_cost_of_a_step_depends_on(make_run: Callable[..., Any]) -> None:
    base = workload(make_run(*GAD).hashed)
    same = ("optim.lr=1e-3", "optim.steps=9", "seed=4", "technique=llrd", "optim.warmup=0.3")
    for override in same:
        assert workload(make_run(*GAD, override).hashed) == base, override
    for override in ("optim.batch_size=4", "trainer.precision=bf16", "task.max_length=16"):
        assert workload(make_run(*GAD, override).hashed) != base, override


def test_runs_that_did_not_go_to_their_end_say_nothing() -> None:
    result = {"status": "diverged", "steps": 3, "config": {}}
    assert Finished.of(RunRecord(1, result, {"seconds": {}})) is None


# --- from real runs and real steps ------------------------------------------------------------


def executed(run: Any, root: Path) -> Any:
    from bluestab.store.store import Store
    from bluestab.training.execute import execute_one

    store = Store(root)
    store.make_writable()
    return store, execute_one(run, store, lambda *_: None)


def test_history_from_a_real_record(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run = make_run(*GAD)
    _, record = executed(run, tmp_path / "runs")
    one = Finished.of(record, 1.0)
    assert one is not None
    assert (one.cell, one.workload, one.steps) == (run.cell, workload(run.hashed), 3)
    assert one.fit + one.rest == pytest.approx(record.measured["seconds"]["total"], abs=0.002)
    assert on_device([one], "cpu", "cuda") == [one]


@pytest.mark.parametrize("technique", ["none", "[freeze,llrd]"])
def test_dry_step_measures_and_leaves_no_trace(
    make_run: Callable[..., Any], tmp_path: Path, technique: str
) -> None:
    from bluestab.training.dry_run_step import STEPS, dry_step, planned_steps

    run = make_run(
        *GAD,
        f"technique={technique}",
        "technique.freeze.depth=1" if "freeze" in technique else "seed=0",
        "optim.batch_size=2",
    )
    before = sorted(tmp_path.rglob("*"))
    found = dry_step(run)
    assert sorted(tmp_path.rglob("*")) == before
    assert found.step > 0
    assert found.prepare > 0
    assert found.evaluate["validation"] > 0
    assert found.evaluate["test"] > 0
    assert found.memory_mb["process"] > 100
    assert found.device == "cpu"
    assert planned_steps(run) == (3, 12)  # 24 items in batches of 2
    assert STEPS >= 3
    _, record = executed(run, tmp_path / "runs")
    assert record.result["parameters"]["total"] == found.parameters


def test_the_first_batch_of_a_dry_step_holds_the_longest_items(
    make_run: Callable[..., Any],
) -> None:
    from bluestab.training.dry_run_step import STEPS, _batches, _length
    from bluestab.training.loop.batches import ShuffledOrder

    run = make_run(*GAD)
    items = run.data.select(run.seeds)["train"]
    sample = _batches(items, 2, seed=3)
    assert len(sample) == 2 * (1 + STEPS) < len(items)
    seen = [sample[i] for i in ShuffledOrder(len(sample), 3)]
    longest = sorted(map(_length, items), reverse=True)[:2]
    assert sorted(map(_length, seen[:2]), reverse=True) == longest
    assert _batches(items, 8, seed=3) == items


def test_check_forecasts_from_a_dry_step_then_from_history(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [*ANY_FILE, *GAD, f"store={tmp_path / 'runs'}"]
    said = cli("check", *line)
    assert (said.code, said.err) == (0, "")
    assert "a dry step" in said.out
    assert "forecast for the 1 run to do, on one worker (cpu): 0:" in said.out
    size = r"[\d.]+ .?B"
    assert re.search(
        f"counted, a step of training holds up to {size}: weights up to {size}, gradients {size}, "
        f"moments {size}, saved activations {size}",
        said.out,
    )
    assert not (tmp_path / "runs").exists()
    assert cli("run", *line).code == 0

    import bluestab.sweeps.launchers.check as module

    def never(run: Any) -> Any:
        raise AssertionError("history was there")

    monkeypatch.setattr(module, "dry_step", never)
    said = cli("check", "-m", *line, "technique=none,llrd", "sweep.seeds=3")
    assert (said.code, said.err) == (0, "")
    assert "6 runs in 2 cells, 1 done" in said.out
    assert "1 run " in said.out  # of the same cell
    assert "1 run, same task and model" in said.out
    assert "forecast for the 5 runs to do" in said.out
    assert "timing" not in said.out
    said = cli("check", *line, "optim.batch_size=4", "hydra.launcher.dry_step=false")
    assert said.code == 0
    assert "no forecast: 1 run to do is like none in the store" in said.out
    said = cli("check", "-m", *line, "technique=llrd", "sweep.seeds=4", "hydra/launcher=pool",
               "hydra.launcher.workers=2", "hydra.launcher.per_gpu=3")  # fmt: skip
    assert (said.code, said.err) == (0, "")
    assert "on 2 workers" in said.out


def test_no_weights_or_no_device_is_no_forecast_and_not_well(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    gad = [*ANY_FILE, "task=gad", "task.max_length=32", f"store={tmp_path / 'runs'}"]
    said = cli("check", *gad, "model=electra_base")
    weights = "the weights of model 'electra_base' are not on this machine"
    assert (said.code, weights in said.out, weights in said.err) == (2, True, True)
    import torch

    if not torch.cuda.is_available():
        said = cli("check", *gad, "model=tiny", "device=cuda")
        device = "device is cuda:0, but this machine has 0 CUDA devices"
        assert (said.code, device in said.out, device in said.err) == (2, True, True)


def test_wrong_knobs_of_check_are_named(cli: Callable[..., Any], tmp_path: Path) -> None:
    gad = [*ANY_FILE, *GAD, f"store={tmp_path / 'runs'}"]
    for knob, value in (("dry_step", "maybe"), ("workers", "0"), ("workers", "true")):
        said = cli("check", *gad, f"hydra.launcher.{knob}={value}")
        assert said.code == 2
        assert said.err.startswith(f"bluestab: hydra.launcher.{knob} is ")


def test_at_most_a_few_dry_steps(
    make_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest groups are timed, one of each workload first; what is like them is said so."""
    import bluestab.sweeps.launchers.check as module
    from bluestab.store.store import Store

    tried = []

    def fake(run: Any) -> DryStep:
        tried.append((run.cfg["optim"]["batch_size"], tuple(run.techniques)))
        return DRY

    monkeypatch.setattr(module, "dry_step", fake)
    monkeypatch.setattr(module, "GROUPS", 3)
    arms = [("none", 3), ("llrd", 2), ("reinit", 1)]
    runs = [
        make_run(*GAD, f"technique={name}", f"seed={seed}") for name, n in arms for seed in range(n)
    ]
    runs.append(make_run(*GAD, "optim.batch_size=4"))
    outlook = module.foresee(Store(tmp_path / "none"), runs, dry_steps=True)
    assert tried == [(8, ()), (4, ()), (8, ("llrd",))]
    sources = {tuple(run.techniques): outlook.costs[run.cell].source for run in runs[:6]}
    assert sources == {(): "dry step", ("llrd",): "dry step", ("reinit",): "like dry step"}
    assert outlook.gaps == []
    monkeypatch.setattr(module, "GROUPS", 1)
    outlook = module.foresee(Store(tmp_path / "none"), runs, dry_steps=True)
    assert runs[-1].cell not in outlook.costs
    assert outlook.gaps == ["1 run like gad tiny none: not tried out, for time"]

    def broken(run: Any) -> DryStep:
        raise RuntimeError("out of memory\n at some place")

    monkeypatch.setattr(module, "dry_step", broken)
    outlook = module.foresee(Store(tmp_path / "none"), runs[:1], dry_steps=True)
    assert outlook.gaps == [
        "gad tiny none: a dry step ends in RuntimeError: out of memory at some place"
    ]

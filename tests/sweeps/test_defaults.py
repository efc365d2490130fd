"""One precision for a sweep, the same when it goes on, and what is said of runs of before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core import devices
from bluestab.core.config import compose
from bluestab.core.devices import Kind
from bluestab.core.errors import BluestabError, ConfigError
from bluestab.sweeps.defaults import former_note
from bluestab.sweeps.launchers.slurm import Slurm
from bluestab.sweeps.lifecycle import begin
from bluestab.sweeps.plan import Sweep, plan_sweep
from bluestab.sweeps.slurm import task
from bluestab.testing import simulated_runs
from bluestab.testing.corpora import ANY_FILE

Plan = Callable[..., Sweep]
FORMERLY = (
    *("trainer.precision=32", "trainer.micro_batch=null", "trainer.dropout_masks=torch"),
    "trainer.embedding_rows=all",
)
FAST, SLOW = Kind("cpu", True), Kind("cpu", False)


@pytest.fixture
def plan(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Techniques -> their sweep, two seeds each, planned on a machine with such a device."""
    monkeypatch.chdir(tmp_path)
    common = (*ANY_FILE, "task=gad", "model=tiny", "device=cpu", f"store={tmp_path / 'runs'}")

    def make(kind: Kind, *techniques: str, said: tuple[str, ...] = (), seeds: int = 2) -> Sweep:
        jobs = [(*said, f"technique={t}", f"seed={s}") for t in techniques for s in range(seeds)]
        return plan_sweep(
            lambda given: compose([*common, *given]), jobs, None, kind_of=lambda device: kind
        )

    return make


def precisions(sweep: Sweep) -> set[Any]:
    return {planned.run.cfg["trainer"]["precision"] for planned in sweep.runs}


def finish(sweep: Sweep, n: int = 1) -> None:
    """The first runs of it are in the store, and its manifest."""
    begin(sweep)
    for planned in sweep.runs[:n]:
        simulated_runs.execute(planned.run, sweep.store, lambda *_: None)


def test_one_precision_for_all_arms(plan: Plan) -> None:
    both = plan(FAST, "none", "llrd")
    assert (precisions(both), both.settled["trainer.precision"]) == ({"bf16"}, "bf16")
    assert "trainer.precision=bf16 (the processor or GPU computes in it)" in both.notes[0]
    third = plan(FAST, "none", "r3f")
    assert (precisions(third), third.settled["trainer.precision"]) == ({32}, 32)
    assert "trainer.precision=32 (technique.r3f.eps is 1e-05" in third.notes[0]
    slow = plan(SLOW, "none")
    assert (precisions(slow), slow.settled["trainer.precision"]) == ({32}, 32)
    assert "no bf16 arithmetic" in slow.notes[0]
    assert (
        plan(FAST, "none", said=("trainer.precision=32",)).settled.get("trainer.precision") is None
    )
    mixed = plan(FAST, "none", "r3f", said=FORMERLY)
    assert mixed.notes == ()


def test_the_manifest_spells_it_out(plan: Plan) -> None:
    sweep = plan(FAST, "none", said=("trainer.micro_batch.cpu=2", "trainer.precision=auto"))
    manifest = sweep.manifest()
    assert manifest["settled"] == {
        "trainer.precision": "bf16", "trainer.micro_batch": [2],
        "trainer.dropout_masks": ["sfc64"], "trainer.embedding_rows": ["used"], "device": "cpu",
    }  # fmt: skip
    spelled = [
        *("trainer.precision=bf16", "trainer.micro_batch=2", "trainer.dropout_masks=sfc64"),
        "trainer.embedding_rows=used",
    ]
    assert manifest["runs"][0]["overrides"] == [*spelled, "technique=none", "seed=0"]
    assert "settled" not in plan(SLOW, "none", said=FORMERLY).manifest()
    assert sweep.runs[0].run.cfg["sweep"]["arm"] is None, "the same for all is no arm's name"


def test_a_sweep_goes_on_as_it_was_begun(plan: Plan) -> None:
    """More seeds and more arms, on a machine that would have chosen otherwise."""
    begun = plan(SLOW, "none")
    begin(begun)
    more = plan(FAST, "none", "llrd", seeds=3)
    assert precisions(more) == {32}
    assert {p.run.key for p in begun.runs} < {p.run.key for p in more.runs}
    assert "as an earlier command settled for" in more.notes[0]
    asked = plan(FAST, "none", said=("trainer.precision=bf16",))
    assert precisions(asked) == {"bf16"}, "what is said holds"


def test_and_on_another_kind_of_device(plan: Plan) -> None:
    """Whole batches on a GPU stay whole on a CPU, so that no run is done twice."""
    begun = plan(Kind("cuda", True), "none")
    begin(begun)
    more = plan(FAST, "none", "llrd", seeds=3)
    assert {p.run.key for p in begun.runs} < {p.run.key for p in more.runs}
    assert {p.run.cfg["trainer"]["micro_batch"] for p in more.runs} == {None}
    assert more.settled["device"] == "cuda"
    own = plan(FAST, "none", said=("trainer.micro_batch=4",))
    assert {p.run.cfg["trainer"]["micro_batch"] for p in own.runs} == {4}


@pytest.mark.parametrize(
    ("kind", "techniques", "why", "how"),
    [
        (FAST, ("none", "r3f"), "technique.r3f.eps is", "leave the arms that need float32 out"),
        (SLOW, ("none",), "no bf16 arithmetic", "go on on a machine that has it"),
    ],
)
def test_a_finished_run_is_not_left_behind(
    plan: Plan, kind: Kind, techniques: tuple[str, ...], why: str, how: str
) -> None:
    begun = plan(FAST, "none")
    begin(begun)
    assert precisions(plan(kind, *techniques)) == {32}, "nothing is lost yet"
    finish(begun)
    with pytest.raises(ConfigError, match="1 run of this sweep is finished in bf16") as refused:
        plan(kind, *techniques)
    for part in (why, "either say trainer.precision=32", how):
        assert part in str(refused.value)
    assert precisions(plan(kind, *techniques, said=("trainer.precision=32",))) == {32}


def test_runs_of_the_former_defaults_are_counted(plan: Plan) -> None:
    former = plan(SLOW, "none", said=FORMERLY)
    finish(former)
    sweep = plan(FAST, "none", "llrd")
    assert precisions(sweep) == {"bf16"}
    (_, note) = sweep.notes
    assert note.startswith("1 of 4 runs are in the store as earlier versions did them")
    assert note.endswith(f"add {' '.join(FORMERLY)}")
    half = plan(FAST, "none", said=("trainer.precision=32",))
    assert half.notes[1].endswith(f"add {' '.join(FORMERLY[1:])}")
    finish(sweep, 4)
    assert former_note([p.run for p in sweep.runs], sweep.store) is None


@pytest.mark.parametrize("then", [FORMERLY[2:], FORMERLY[3:]])
def test_runs_of_versions_between_are_counted(plan: Plan, then: tuple[str, ...]) -> None:
    """Those of versions that had the other defaults, but not these."""
    finish(plan(FAST, "none", said=then))
    assert plan(FAST, "none", "llrd").notes[1].endswith(f"add {' '.join(then)}")


def test_under_slurm_gpus_decide(plan: Plan, tmp_path: Path) -> None:
    knobs: Any = compose(["hydra/launcher=slurm"]).hydra.launcher
    rest = {k: v for k, v in knobs.items() if k not in ("_target_", "backend")}
    assert Slurm(**rest).kind_of("auto") == Kind("cpu", False)
    for asked in ({"gpus_per_node": 1}, {"gres": "gpu:a100:2"}):
        assert Slurm(**{**rest, **asked}).kind_of("auto") == Kind("cuda", True)
    assert Slurm(**{**rest, "gpus_per_node": 1}).kind_of("cpu") == Kind("cpu", False)


def test_a_node_that_cannot_leaves_its_runs_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = {"gpus": False, "workers_per_task": 1, "per_gpu": 1, "needs_bf16": True}
    configs = [{"device": "cpu", "trainer": {"devices": 1, "threads": 1}}]
    monkeypatch.setattr(devices, "kind_of", lambda device: SLOW)
    with pytest.raises(BluestabError, match="its runs are left to tasks on other nodes"):
        task._devices(knobs, configs)
    monkeypatch.setattr(devices, "kind_of", lambda device: FAST)
    assert task._devices(knobs, configs) == ["cpu"]

"""The launcher `packed`: who trains with whom, what runs apart, and what a death costs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose
from bluestab.core.errors import GroupTooLarge, RunsCrashed
from bluestab.core.types import RECORD_SCHEMA, RunRecord
from bluestab.store.store import Store
from bluestab.sweeps.grouping import (
    MOST,
    PackSizer,
    expected_bytes,
    in_blocks,
    longest,
    next_group,
    with_engines,
)
from bluestab.sweeps.lifecycle import begin, close
from bluestab.sweeps.local import run_here
from bluestab.sweeps.plan import Sweep, plan_sweep
from bluestab.sweeps.pool import run_in_pool
from bluestab.sweeps.queue import Queue
from bluestab.sweeps.slurm import task
from bluestab.sweeps.slurm.submission import write_orders
from bluestab.testing import simulated_runs
from bluestab.testing.corpora import ANY_FILE
from tests.conftest import Say

MakeSweep = Callable[..., Sweep]
SHORT = ("task=gad", "model=tiny", "device=cpu", "optim.steps=2", "optim.batch_size=6")


@pytest.fixture
def make_sweep(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSweep:
    """Overrides of each arm -> a sweep over some seeds, engines given as the launcher does."""
    monkeypatch.chdir(tmp_path)

    def make(*arms: Sequence[str], seeds: int = 3) -> Sweep:
        common = [*ANY_FILE, *SHORT, "task.max_length=32", f"store={tmp_path / 'runs'}"]

        def composed(given: Sequence[str]) -> Any:
            return compose([*common, *given])

        jobs = [(*arm, f"seed={seed}") for seed in range(seeds) for arm in arms or [()]]
        return plan_sweep(composed, with_engines(composed, jobs)[0], "s")

    return make


class Groups:
    """Stands in for training: notes who came together, records them as done."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.seen: list[list[tuple[str, int]]] = []

    def together(self, runs: Sequence[Any], store: Store, progress: Any) -> list[RunRecord]:
        if len(runs) > self.most:
            raise GroupTooLarge(f"{len(runs)} runs at once: as told")
        self.seen.append([("+".join(r.techniques) or "none", r.cfg["seed"]) for r in runs])
        return [self._done(run, store) for run in runs]

    def alone(self, run: Any, store: Store, progress: Any) -> RunRecord:
        return self.together([run], store, progress)[0]

    def _done(self, run: Any, store: Store) -> RunRecord:
        from bluestab.testing import simulated_runs

        result = simulated_runs.result(run, "done")
        with store.building(run.key) as work:
            record = RunRecord(RECORD_SCHEMA, result, simulated_runs.measured(run))
            return store.finish(work, record)


def launched(sweep: Sweep, groups: Groups, group: int | None = None) -> list[list[tuple[str, int]]]:
    begin(sweep)
    close(sweep, run_here(sweep, groups.alone, groups.together, group))
    return groups.seen


LLRD, SAM = ("technique=llrd",), ("technique=sam",)
SLOWER = ("technique=llrd", "technique.llrd.decay=0.5")


def test_siblings_come_together_and_others_apart(make_sweep: MakeSweep) -> None:
    sweep = make_sweep((), LLRD, SAM, SLOWER)
    engines = {p.run.cfg["trainer"]["engine"] for p in sweep.runs if "sam" in p.run.techniques}
    assert engines == {"lightning"}
    seen = launched(sweep, Groups())
    sizes = {tuple(sorted({name for name, _ in group})): len(group) for group in seen}
    assert sizes == {("none",): 3, ("llrd",): 6, ("sam",): 1}
    assert len(seen) == 5
    again = Groups()
    assert launched(make_sweep((), LLRD, SAM, SLOWER), again) == []
    assert launched(make_sweep((), LLRD, SAM, SLOWER, seeds=4), again) != []
    found = sorted(chain.from_iterable(again.seen))
    assert found == [("llrd", 3), ("llrd", 3), ("none", 3), ("sam", 3)]


def test_a_cell_never_mixes_engines(make_sweep: MakeSweep) -> None:
    """Also a run that is alone has the engine of its cell."""
    many = make_sweep((), SAM, seeds=4)
    one = make_sweep((), SAM, seeds=1)
    for sweep in (many, one):
        for planned in sweep.runs:
            engine = "lightning" if "sam" in planned.run.techniques else "packed"
            assert planned.run.cfg["trainer"]["engine"] == engine
    assert {p.run.cell for p in many.runs} == {p.run.cell for p in one.runs}


def test_an_engine_that_is_asked_for_is_given(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(("trainer.engine=lightning",))
    assert all("engine" not in p.run.hashed["trainer"] for p in sweep.runs)
    assert [len(group) for group in launched(sweep, Groups())] == [1, 1, 1]


@pytest.mark.parametrize(("group", "sizes"), [(2, [2, 2, 1]), (1, [1] * 5), (None, [5])])
def test_the_size_of_groups(make_sweep: MakeSweep, group: int | None, sizes: list[int]) -> None:
    seen = launched(make_sweep(seeds=5), Groups(), group)
    assert [len(one) for one in seen] == sizes


def test_groups_are_halved_until_they_fit(
    make_sweep: MakeSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = launched(make_sweep(seeds=9), Groups(most=2))
    assert [len(one) for one in seen] == [2, 2, 2, 2, 1]
    assert sorted(chain.from_iterable(seen)) == [("none", seed) for seed in range(9)]
    said = capsys.readouterr().out
    assert "groups of 4 from here on" in said
    assert "groups of 2 from here on" in said


def test_an_interrupted_sweep_is_a_smaller_one(make_sweep: MakeSweep) -> None:
    runs = in_blocks(make_sweep((), LLRD, seeds=6).runs, 2)
    order = [("+".join(p.run.techniques) or "none", p.run.cfg["seed"]) for p in runs]
    assert order[:4] == [("none", 0), ("none", 1), ("llrd", 0), ("llrd", 1)]
    assert len(set(order)) == 12


def test_runs_of_others_are_left_to_them(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(seeds=4)
    begin(sweep)
    with sweep.store.claims.take(sweep.runs[1].run.key, "other") or pytest.fail("no claim"):
        group = next_group(Queue(sweep.runs, sweep.store), lambda _: 9)
        assert [p.run.cfg["seed"] for p in group] == [0, 2, 3]


def test_expected_memory_decides_until_it_is_measured(make_sweep: MakeSweep) -> None:
    planned, *_ = make_sweep().runs
    sizer = PackSizer(None)
    assert sizer.size(planned.run) == MOST, "a tiny model"
    expected = expected_bytes(planned.run)
    for knob, more in (
        ("optim.batch_size=24", True),
        ("trainer.eval_batch_size=128", True),
        ("trainer.eval_tokens=64", False),
        ("trainer.precision=bf16", False),
        ("trainer.gradient_checkpointing=true", False),
    ):
        assert (expected_bytes(make_sweep((knob,)).runs[0].run) > expected) is more
    assert longest(planned.run) == 32, "cut there"
    assert PackSizer(7).size(planned.run) == 7


def test_what_was_measured_decides_but_never_over_what_failed(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_sweep().runs[0].run
    monkeypatch.setattr("bluestab.sweeps.grouping._available", lambda *_: 1000 * 2.0**20)
    peak = {"peak_memory_mb": {"gpu": 400.0}}
    seen = [RunRecord(RECORD_SCHEMA, {"status": "done"}, peak)] * 4
    sizer = PackSizer(None)
    sizer.measured(run, seen)
    assert sizer.size(run) == 10, "100 MiB each"
    sizer.too_large(run, 10, "as told")
    assert sizer.size(run) == 5
    sizer.measured(run, seen)
    assert sizer.size(run) == 5


def in_pool(sweep: Sweep, group: int | None = None) -> bool:
    places = ["cpu", "cpu"]
    return run_in_pool(sweep, places, 1e6, simulated_runs.execute, simulated_runs.together, group)


def in_a_task(sweep: Sweep, group: int | None = None) -> bool:
    """As a task of an array does it, with two workers."""
    knobs = {"runs_per_task": 100, "workers_per_task": 2, "per_gpu": 1, "gpus": False}
    submission = write_orders(
        *(sweep.store, sweep.name, in_blocks(sweep.runs, group)),
        tasks=1,
        launcher={**knobs, "group": group},
        command="bluestab",
    )
    task.work(submission, 0, "1_0.0", simulated_runs.execute, simulated_runs.together)
    return False


def seen_through(sweep: Sweep, launch: Callable[..., bool], group: int | None = None) -> None:
    begin(sweep)
    close(sweep, launch(sweep, group))


Launch = Callable[[Sweep, int | None], bool]
in_processes = pytest.mark.parametrize("launch", [in_pool, in_a_task])


def test_a_pool_shares_siblings_out_among_its_workers(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(seeds=6)
    seen_through(sweep, in_pool)
    assert sorted(chain.from_iterable(simulated_runs.groups(sweep.store))) == list(range(6))
    assert max(map(len, simulated_runs.groups(sweep.store))) == 3


@in_processes
def test_groups_in_worker_processes(make_sweep: MakeSweep, launch: Launch) -> None:
    sweep = make_sweep((), SAM, seeds=4)
    seen_through(sweep, launch, group=2)
    assert sorted(simulated_runs.groups(sweep.store)) == [[0, 1], [2, 3]], "none of sam's"
    assert simulated_runs.attempts(sweep.store) == {str(seed): 2 for seed in range(4)}
    assert sweep.store.running() == {}


@in_processes
def test_a_group_that_does_not_fit_is_halved(
    make_sweep: MakeSweep, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(seeds=8)
    simulated_runs.acts(sweep.store, **{f"s{seed}": ["large 2"] for seed in range(8)})
    seen_through(sweep, launch, group=4)  # halved once, whoever of two workers comes first
    found = simulated_runs.groups(sweep.store)
    assert max(map(len, found)) == 2
    assert sorted(sweep.store.keys()) == sorted(p.run.key for p in sweep.runs)
    assert "groups of" in capsys.readouterr().out


@in_processes
def test_a_death_in_a_group_is_laid_to_the_one_that_died(
    make_sweep: MakeSweep, launch: Launch
) -> None:
    """All of its runs once more, each by itself: the others end well."""
    sweep = make_sweep(seeds=4)
    simulated_runs.acts(sweep.store, s1=["kill"])
    with pytest.raises(RunsCrashed, match="1 of 4 runs crashed"):
        seen_through(sweep, launch, group=4 if launch is in_a_task else None)
    ended = {p.run.cfg["seed"]: sweep.store.has(p.run.key) for p in sweep.runs}
    assert ended == {0: True, 1: False, 2: True, 3: True}
    crash = sweep.store.crash(sweep.runs[1].run.key)
    assert crash is not None
    assert (
        "killed" in crash.result["error"]["message"] or "died" in crash.result["error"]["message"]
    )
    assert sweep.store.running() == {}


def test_data_that_changes_under_a_group(
    make_sweep: MakeSweep, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its runs says it for itself."""
    own = tmp_path / "corpora"
    shutil.copytree(small / "gad", own / "gad")
    monkeypatch.setenv("BLUESTAB_DATA", str(own))
    sweep = make_sweep(seeds=3)
    with (own / "gad" / "train.tsv").open("a") as file:
        file.write("more\tA sentence with @GENE$ and @DISEASE$ .\t1\n")
    with pytest.raises(RunsCrashed) as caught:
        seen_through(sweep, in_pool)
    assert str(caught.value).count("changed after the sweep began") == 3


@pytest.mark.parametrize("launcher", ["packed", "pool", "slurm"])
@pytest.mark.parametrize("value", ["0", "two", "1.5"])
def test_wrong_sizes_are_refused(cli: Say, launcher: str, value: str) -> None:
    knobs = (f"hydra/launcher={launcher}", f"hydra.launcher.group={value}")
    said = cli("run", "-m", *SHORT, *ANY_FILE, *knobs)
    assert said.code == 2
    assert "hydra.launcher.group is" in said.err
    assert "expected a whole number >= 1, or null" in said.err


def test_check_lists_what_runs_apart_and_why(cli: Say) -> None:
    line = (*ANY_FILE, *SHORT, "technique=none,sam,swa", "sweep.seeds=2")
    said = cli("check", "-m", *line, "hydra/launcher=packed", "hydra.launcher.dry_step=false")
    assert said.code == 0, said.err
    assert "2 runs train packed, all alike" in said.out
    assert "2 runs by themselves: technique sam has no form for several runs at once" in said.out
    assert "technique swa has no form" in said.out
    without = cli("check", "-m", *line, "hydra.launcher.dry_step=false")
    assert "packed" not in without.out


def test_a_sweep_from_the_command_line(cli: Say, tmp_path: Path) -> None:
    line = ("run", "-m", *ANY_FILE, *SHORT, "task.max_length=32", "technique=none,[llrd,rdrop]")
    said = cli(*line, "sweep.seeds=2", "hydra/launcher=packed", f"store={tmp_path / 'runs'}")
    assert said.code == 0, said.err
    assert "4 runs train packed, of 2 kinds" in said.out
    store = Store(tmp_path / "runs")
    records = [store.read(key) for key in store.keys()]  # noqa: SIM118
    assert [r.measured["packed"]["runs"] for r in records] == [2] * 4
    assert {r.status for r in records} == {"done"}
    again = cli(*line, "sweep.seeds=2", "hydra/launcher=packed", f"store={tmp_path / 'runs'}")
    assert again.code == 0
    assert len(store.keys()) == 4


@pytest.mark.parametrize("launcher", ["packed", pytest.param("pool", marks=pytest.mark.slow)])
def test_the_seeds_of_a_point_of_a_search_train_as_one(
    cli: Say, tmp_path: Path, launcher: str
) -> None:
    """The confirmation too; and the study refuses to go on with another engine."""
    store = Store(tmp_path / "runs")
    line = ("run", "-m", "hydra/sweeper=optuna", *ANY_FILE, *SHORT, "task.max_length=32")
    line = (*line, "technique=llrd", "technique.llrd.decay=choice(0.5,0.9)", f"store={store.root}")
    line = (*line, "search.n_trials=2", "search.seeds=3", "search.confirm=2", "search.workers=1")
    packed = (f"hydra/launcher={launcher}", "hydra.launcher.group=null")
    said = cli(*line, *packed)
    assert said.code == 0, said.err
    records = [store.read(key) for key in store.keys()]  # noqa: SIM118
    assert {r.result["config"]["trainer"]["engine"] for r in records} == {"packed"}
    assert sorted(r.measured["packed"]["runs"] for r in records) == [2] * 2 + [3] * 6 + [4] * 4, (
        "baseline, points, winner with the second best"
    )
    again = cli(*line, *packed)
    assert again.code == 0, again.err
    assert len(store.keys()) == 12
    other = cli(*line)
    assert other.code == 2
    assert "trainer.engine: packed before" in other.err


KILLED = """
import os, signal, sys
from bluestab.cli.hydra_app import compose
from bluestab.sweeps.local import run_here
from bluestab.core.config import compose
from bluestab.sweeps.launchers.local import run_here
from bluestab.training.packed.siblings import Sibling
from bluestab.sweeps.grouping import with_engines
from bluestab.sweeps.plan import plan_sweep
from bluestab.store.store import Store
from bluestab.sweeps.lifecycle import begin

def dying(of, name, nth):
    whole, calls = getattr(of, name), []
    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*args, **kwargs)
    setattr(of, name, call)

if __name__ == "__main__":
    if sys.argv[1] == "step":
        dying(Sibling, "step", 6)
    elif sys.argv[1] == "publish":
        dying(Store, "publish", 4)
    composed = lambda given: compose([*sys.argv[2:], *given])
    jobs = [(f"seed={seed}",) for seed in range(4)]
    sweep = plan_sweep(composed, with_engines(composed, jobs)[0], "s")
    begin(sweep)
    run_here(sweep, group=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("when", "left"), [("step", 2), ("publish", 3)])
def test_a_death_costs_what_its_group_had_not_recorded(
    small: Path, tmp_path: Path, when: str, left: int
) -> None:
    """Killed in the second group: what was recorded is kept, the same command does the rest."""
    script = tmp_path / "sweep.py"
    script.write_text(KILLED)
    store = Store(tmp_path / "runs")
    given = [*ANY_FILE, *SHORT, "task.max_length=32", f"store={store.root}"]
    env = {**os.environ, "BLUESTAB_DATA": str(small)}

    def run(how: str) -> int:
        line = [sys.executable, str(script), how, *given]
        return subprocess.run(line, env=env, stdout=subprocess.DEVNULL, timeout=300).returncode

    assert run(when) == -signal.SIGKILL
    kept = {key: store.read(key) for key in store.keys()}  # noqa: SIM118
    assert len(kept) == left
    assert run("not") == 0
    records = [store.read(key) for key in store.keys()]  # noqa: SIM118
    assert [r.status for r in records] == ["done"] * 4
    assert all(store.read(key).measured == record.measured for key, record in kept.items())
    assert store.running() == {}
    assert [p.name for p in (store.root / ".work").iterdir()] == []

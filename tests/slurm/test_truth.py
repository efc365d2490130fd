"""Real training on a real SLURM: whatever SLURM does to a task, the bytes are those of `local`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bluestab.store.store import Store
from bluestab.sweeps.slurm import scheduler
from bluestab.testing.corpora import TINY_RUN
from tests.slurm.conftest import Cluster, Site, until
from tests.slurm.test_slurm import assert_tidy, last_states
from tests.training.test_execute import kept

pytestmark = pytest.mark.slurm

MakeSite = Callable[..., Site]

# 24 items in batches of 2: 12 steps an epoch, 576 in all, so that a run can be hit at any of them
LONG = ("optim.batch_size=2", "optim.epochs=48", "trainer.eval_every=144", "sweep.seeds=1")
"""Long enough that SLURM, which takes a second or two, meets the run while it trains."""
SAVING = "checkpoint_every=2"  # never in the way of what `local` does undisturbed


@pytest.fixture(scope="module")
def undisturbed(
    corpora: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, dict[str, bytes]]]:
    """Overrides -> key -> what `local` leaves of the run."""
    known: dict[tuple[str, ...], dict[str, dict[str, bytes]]] = {}

    def made(*overrides: str) -> dict[str, dict[str, bytes]]:
        if overrides not in known:
            folder = tmp_path_factory.mktemp("local")
            site = Site(folder, [*TINY_RUN], False, {})
            environment = {**os.environ, "BLUESTAB_DATA": str(corpora)}
            environment["PYTHONPATH"] = str(Path(__file__).parents[2])
            line = [sys.executable, "-m", "bluestab", "run", "-m", *site.common, *overrides]
            done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            root = folder / "runs"
            known[overrides] = {key: kept(root, key) for key in keys(root)}
        return known[overrides]

    return made


def keys(root: Path) -> list[str]:
    return Store(root).keys()


def bytes_of(site: Site) -> dict[str, dict[str, bytes]]:
    return {key: kept(site.store.root, key) for key in keys(site.store.root)}


def step_reached(site: Site, step: int) -> Callable[[], bool]:
    def reached() -> bool:
        return any((c.get("step") or 0) >= step for c in site.store.running().values())

    return reached


def resumed(site: Site) -> list[int | None]:
    return [site.store.read(key).measured["resumed_from"] for key in keys(site.store.root)]


def test_packed_and_shared_it_is_what_local_gives(
    make_site: MakeSite, undisturbed: Callable[..., dict[str, dict[str, bytes]]]
) -> None:
    site = make_site("technique=none,reinit", "sweep.seeds=3", stand_ins=False)
    shape = ("runs_per_task=3", "workers_per_task=2", "mem=4000")
    site.run(*(f"hydra.launcher.{knob}" for knob in shape))
    expected = undisturbed("technique=none,reinit", "sweep.seeds=3")
    assert len(expected) == 6
    assert bytes_of(site) == expected
    assert_tidy(site)


@pytest.mark.slow
def test_a_run_on_two_devices_is_one_task(
    make_site: MakeSite, undisturbed: Callable[..., dict[str, dict[str, bytes]]]
) -> None:
    """Its ranks are started on the node of the task; requeued, they start again."""
    shape = (*LONG, "trainer.devices=2")
    site = make_site(*shape, SAVING, stand_ins=False)
    process = site.start("hydra.launcher.cpus_per_task=2", "hydra.launcher.mem=5000")
    until(step_reached(site, 20), "step 20")
    ((job, _),) = site.tasks().items()
    scheduler.requeue(job)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said + site.logs()
    (begun,) = resumed(site)
    assert begun is not None
    assert bytes_of(site) == undisturbed(*shape)
    assert_tidy(site)


RAISING = """
from bluestab.techniques.base import Technique


class Raising(Technique):
    def edit_data(self, train, seeds):
        if seeds.order == 123:
            raise ValueError("seed 123 is refused")
        return train

    def effects(self, built, trained):
        return {"looked": 1}
"""


@pytest.mark.slow
def test_two_hundred_runs_of_which_one_raises(make_site: MakeSite, tmp_path: Path) -> None:
    """Twenty tasks of ten; prints how long it took until the first of them ran."""
    site = make_site("technique=raising", "optim.steps=4", "sweep.seeds=200", stand_ins=False)
    for name, text in {
        "lab/raising.py": RAISING,
        "conf/technique/raising.yaml": "raising:\n  _target_: lab.raising.Raising\n",
    }.items():
        (site.folder / name).parent.mkdir(parents=True)
        (site.folder / name).write_text(text)
    site.environment |= {
        "BLUESTAB_ALLOW": "lab",
        "PYTHONPATH": f"{site.folder}:{site.environment['PYTHONPATH']}",
    }
    begun = time.monotonic()
    process = site.start("hydra.launcher.runs_per_task=10", "optim.epochs=null")
    until(lambda: any(t.state == "RUNNING" for t in site.tasks().values()), "a task runs")
    print(f"from the command to the first task that runs: {time.monotonic() - begun:.1f} s")
    until(lambda: site.store.keys(), "a run is done")
    print(f"from the command to the first result: {time.monotonic() - begun:.1f} s")
    said, _ = process.communicate(timeout=9000)
    print(f"from the command to the last of 200 results: {time.monotonic() - begun:.1f} s")
    assert process.returncode == 1, said + site.logs()
    assert "1 of 200 runs crashed" in said
    expected = {**dict.fromkeys(range(200), "done"), 123: "crashed"}
    assert list(site.statuses().items()) == list(expected.items())
    states = last_states(site)
    assert sorted(states.values()) == ["COMPLETED"] * 19 + ["FAILED"]
    (failed,) = [job for job, state in states.items() if state == "FAILED"]
    assert "seed 123: crashed, ValueError" in site.submission.log_of(failed).read_text()
    assert_tidy(site)


@pytest.fixture
def long_run(make_site: MakeSite) -> Site:
    return make_site(*LONG, SAVING, stand_ins=False)


@pytest.mark.parametrize("step", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_requeued_it_goes_on_where_it_was(
    long_run: Site, undisturbed: Callable[..., dict[str, dict[str, bytes]]], step: int
) -> None:
    process = long_run.start("hydra.launcher.runs_per_task=1")
    until(step_reached(long_run, step), f"step {step}")
    ((job, _),) = long_run.tasks().items()
    scheduler.requeue(job)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said + long_run.logs()
    (begun,) = resumed(long_run)
    assert begun is not None
    assert begun >= step - 1
    assert "is given back" in long_run.logs()
    assert bytes_of(long_run) == undisturbed(*LONG)
    assert_tidy(long_run)


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 5, 25, 50, 75])
def test_preempted_it_goes_on_where_it_was(
    long_run: Site, undisturbed: Callable[..., dict[str, dict[str, bytes]]], step: int
) -> None:
    """An urgent job takes the node; SLURM requeues ours."""
    process = long_run.start("hydra.launcher.runs_per_task=1")
    until(step_reached(long_run, step), f"step {step}")
    urgent = scheduler.ask(
        *("sbatch", "--parsable", "--partition=urgent", "--nodes=3", "--exclusive"),
        *("--output=/dev/null", "--wrap", "sleep 3"),
    ).strip()
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said + long_run.logs()
    scheduler.cancel([urgent])
    (begun,) = resumed(long_run)
    assert begun is not None
    assert begun >= step - 2
    states = {t.state for t in scheduler.accounted(long_run.submission.jobs(), every=True)}
    assert "PREEMPTED" in states
    assert bytes_of(long_run) == undisturbed(*LONG)


@pytest.mark.slow
def test_at_its_time_limit_it_goes_on_in_a_requeued_task(
    make_site: MakeSite, undisturbed: Callable[..., dict[str, dict[str, bytes]]]
) -> None:
    longer = (LONG[0], "optim.epochs=200", "trainer.eval_every=400", "sweep.seeds=1")
    site = make_site(*longer, "checkpoint_every=10min", stand_ins=False)
    said = site.run("hydra.launcher.time=1", "hydra.launcher.partition=short")
    assert "1 of 1" in said or "[1/1]" in said
    assert "put back into the queue" in site.logs()
    assert resumed(site) != [None]
    assert bytes_of(site) == undisturbed(*longer)


@pytest.mark.slow
def test_a_node_that_dies(
    long_run: Site, cluster: Cluster, undisturbed: Callable[..., dict[str, dict[str, bytes]]]
) -> None:
    process = long_run.start("hydra.launcher.runs_per_task=1")
    until(step_reached(long_run, 30), "step 30")
    (task,) = long_run.live()
    cluster.do("kill-node", task.node)
    try:
        said, _ = process.communicate(timeout=900)
    finally:
        cluster.do("start-node", task.node)
    assert process.returncode == 0, said + long_run.logs()
    (begun,) = resumed(long_run)
    assert begun is not None
    assert bytes_of(long_run) == undisturbed(*LONG)
    (task,) = long_run.tasks().values()
    assert (task.state, task.restarts) == ("COMPLETED", 1)

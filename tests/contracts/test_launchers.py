"""What every launcher promises, tried on all of them, and what the pool promises beside.

Only the training is a stand-in (`simulated_runs`); processes, signals, claims and records are real.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import BluestabError, DiskFull, RunsCrashed
from bluestab.core.paths import conf_dir
from bluestab.sweeps import failures, local, stopping
from bluestab.sweeps import pool as worker_pool
from bluestab.sweeps.attempt import attempt
from bluestab.sweeps.launchers import pool
from bluestab.sweeps.lifecycle import begin, close
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import task
from bluestab.sweeps.slurm.submission import write_orders
from bluestab.testing import simulated_runs
from bluestab.testing.corpora import ANY_FILE
from bluestab.testing.launchers import LauncherSuite, assert_tidy, statuses
from bluestab.testing.simulated_runs import acts, attempts, workers

MakeSweep = Callable[..., Sweep]
Launch = Callable[[Sweep], bool]


def in_a_task(sweep: Sweep) -> bool:
    """As one task of an array does it; arrays of several are in tests/slurm."""
    knobs = {"runs_per_task": 100, "workers_per_task": 2, "per_gpu": 1, "gpus": False}
    submission = write_orders(
        *(sweep.store, sweep.name, sweep.runs), tasks=1, launcher=knobs, command="bluestab"
    )
    return task.work(submission, 0, "1_0.0", simulated_runs.execute) == 128 + signal.SIGINT


LAUNCHERS: dict[str, Launch] = {
    "local": lambda sweep: local.run_here(sweep, simulated_runs.execute),
    "pool": lambda sweep: worker_pool.run_in_pool(
        sweep, ["cpu", "cpu"], 1e6, simulated_runs.execute
    ),
    "packed": lambda sweep: local.run_here(sweep, simulated_runs.execute, group=None),
    "slurm": in_a_task,
}
NOT_RUNNING = {"check", "fetch"}  # launchers that start nothing
CHOOSING = {"auto"}  # and one that is local or pool


SLOW_PACKED = pytest.param("packed", marks=pytest.mark.slow)


def whole(launcher: str) -> Launch:
    """A launcher, from the manifest to the closing table."""

    def launch(sweep: Sweep) -> bool:
        begin(sweep)
        stopped = LAUNCHERS[launcher](sweep)
        close(sweep, stopped)
        return stopped

    return launch


class TestLaunchers(LauncherSuite):
    """Ours, from the manifest to the closing table."""

    @pytest.fixture(scope="class")
    @classmethod
    def small_corpora(cls, corpora: Path) -> Iterator[Path]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BLUESTAB_DATA", str(corpora))
            yield corpora

    # packed is local with groups, whose own tests are in test_packing.py: once is enough by default
    @pytest.fixture(params=[n if n != "packed" else SLOW_PACKED for n in sorted(LAUNCHERS)])
    def launch(self, request: pytest.FixtureRequest) -> Launch:
        return whole(request.param)

    def test_packed_does_everything_once(self, make_sweep: MakeSweep) -> None:
        self.test_everything_is_done_once(whole("packed"), make_sweep)


def test_every_launcher_is_here() -> None:
    yamls = {file.stem for file in (conf_dir() / "hydra" / "launcher").glob("*.yaml")}
    assert yamls - NOT_RUNNING - CHOOSING == set(LAUNCHERS)


# --- the pool alone --------------------------------------------------------------------------


def in_pool(sweep: Sweep, n: int = 2, budget_mb: float = 1e6) -> None:
    begin(sweep)
    close(sweep, worker_pool.run_in_pool(sweep, ["cpu"] * n, budget_mb, simulated_runs.execute))


@pytest.mark.parametrize(
    ("death", "how"),
    [
        ("segfault", "killed by SIGSEGV"),
        ("kill", r"killed by SIGKILL \(out of memory\?\)"),
        ("exit 7", "ended with exit code 7"),
        ("exit 0", "ended with exit code 0"),
    ],
)
def test_a_dead_worker_costs_its_run_only(
    make_sweep: MakeSweep, capsys: pytest.CaptureFixture[str], death: str, how: str
) -> None:
    """Once more in a fresh worker; the second death is a crash, with what is known of it."""
    sweep = make_sweep(seeds=6)
    acts(sweep.store, s1=[death, "done"], s3=[death])
    with pytest.raises(RunsCrashed, match=f"1 of 6 runs crashed:\n  WorkerDied: .*{how}"):
        in_pool(sweep)
    assert statuses(sweep) == {**dict.fromkeys(range(6), "done"), 3: "crashed"}
    assert attempts(sweep.store) == {"0": 1, "1": 2, "2": 1, "3": 2, "4": 1, "5": 1}
    assert re.search(f"seed 1: .*{how}; once more", capsys.readouterr().out)
    key = sweep.runs[3].run.key
    log = (sweep.store.crash_folder(key) / "log.txt").read_text()
    assert log.startswith("attempt at seed 3\n")
    assert re.search(how, log)
    if death == "segfault":
        assert "Fatal Python error: Segmentation fault" in log
        assert "simulated_runs.py" in log
    assert (sweep.store.crash_folder(key) / "config.yaml").is_file()
    record = sweep.store.crash(key)
    assert record is not None
    assert record.measured["names"]["seed"] == 3
    assert_tidy(sweep)


def test_workers_stay_warm_and_are_as_many_as_asked(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(seeds=9)
    acts(sweep.store, **{f"s{i}": ["sleep 0.1"] for i in range(9)})
    in_pool(sweep, n=3)
    assert len(set(workers(sweep.store))) == 3
    assert os.getpid() not in workers(sweep.store)


def test_a_worker_over_its_memory_makes_room_for_a_fresh_one(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(seeds=4)
    acts(sweep.store, s1=["eat 3000"])
    in_pool(sweep, n=1, budget_mb=3000)
    assert statuses(sweep) == dict.fromkeys(range(4), "done")
    first, second, third, fourth = workers(sweep.store)
    assert first == second != third == fourth


def test_a_run_that_hangs_is_killed(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "GRACE", 0.5)
    sweep = make_sweep("timeout=0.5")
    acts(sweep.store, s2=["sleep 60"])
    with pytest.raises(RunsCrashed, match="did not stop at its timeout and was killed"):
        in_pool(sweep)
    assert statuses(sweep) == {0: "done", 1: "done", 2: "crashed", 3: "done"}
    assert attempts(sweep.store)["2"] == 1
    assert_tidy(sweep)


def test_a_death_on_a_full_disk_is_recorded_when_there_is_room(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parent has nowhere to write what it knows of a dead run: it waits, and does not die."""
    monkeypatch.setattr(stopping, "LOOK_AGAIN", 0.05)
    sweep = make_sweep(seeds=2)
    acts(sweep.store, s1=["kill", "kill"])
    write, full = failures.write_text, [True, True]

    def no_room(path: Path, text: str) -> None:
        if full:
            raise OSError(full.pop() and errno.ENOSPC, "No space left on device")
        write(path, text)

    monkeypatch.setattr(failures, "write_text", no_room)
    with pytest.raises(RunsCrashed, match="was killed by SIGKILL"):
        in_pool(sweep)
    assert not full
    assert statuses(sweep) == {0: "done", 1: "crashed"}
    assert capsys.readouterr().out.count("paused: the disk of") == 2
    assert_tidy(sweep)


def test_no_room_for_a_claim_is_a_full_disk(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written first: a run that finds the disk full is no crash."""
    sweep = make_sweep(seeds=1)
    (planned,) = sweep.runs

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bluestab.store.claims.Claims.take", no_room)
    with pytest.raises(DiskFull, match=f"no room left for the result of run {planned.run.key}"):
        attempt(planned.run, sweep.store)


def test_data_that_changes_under_a_sweep(make_sweep: MakeSweep, small: Path) -> None:
    """A worker reads them anew; its runs would be other runs than those that were planned."""
    sweep = make_sweep(seeds=3)
    file = small / "gad" / "train.tsv"
    before = file.read_text()
    try:
        file.write_text(before.replace("gene", "genes"))
        with pytest.raises(RunsCrashed, match=r"3 of 3 runs crashed:\n.*data or weights changed"):
            in_pool(sweep)
    finally:
        file.write_text(before)


def test_workers_that_cannot_even_start(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluestab.sweeps.pool_worker.serve", simulated_runs.abort)
    sweep = make_sweep()
    with pytest.raises(BluestabError, match="die before they can start"):
        in_pool(sweep)
    assert set(statuses(sweep).values()) == {"missing"}


def test_workers_die_with_their_parent(make_sweep: MakeSweep, small: Path, tmp_path: Path) -> None:
    sweep = make_sweep()
    acts(sweep.store, **{f"s{i}": ["sleep 60"] for i in range(4)})
    code = (
        "import pickle, sys\n"
        "from bluestab.testing import simulated_runs\n"
        "from bluestab.sweeps.pool import run_in_pool\n"
        "if __name__ == '__main__':\n"
        " sweep = pickle.load(open(sys.argv[1], 'rb'))\n"
        " run_in_pool(sweep, ['cpu', 'cpu'], 1e6, simulated_runs.execute)\n"
    )
    import pickle

    begin(sweep)
    (tmp_path / "sweep.pkl").write_bytes(pickle.dumps(sweep))
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen([sys.executable, "parent.py", "sweep.pkl"], cwd=tmp_path)
    until = time.monotonic() + 60
    while len(sweep.store.running()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    pids = {claim["pid"] for claim in sweep.store.running().values()}
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    while sweep.store.running() and time.monotonic() < until:
        time.sleep(0.05)
    assert sweep.store.running() == {}
    acts(sweep.store)
    in_pool(sweep)
    assert statuses(sweep) == dict.fromkeys(range(4), "done")
    assert_tidy(sweep)


@pytest.mark.parametrize(
    ("knob", "expected"),
    [
        ("workers=0", "a whole number >= 1, or null"),
        ("workers=two", "a whole number >= 1, or null"),
        ("per_gpu=1.5", "a whole number >= 1"),
        ("per_gpu=null", "a whole number >= 1"),
        ("memory=-1", "a number of GiB > 0, or null"),
        ("memory=true", "a number of GiB > 0, or null"),
    ],
)
def test_wrong_knobs(cli: Callable[..., Any], knob: str, expected: str) -> None:
    said = cli("run", "-m", "task=gad", "model=tiny", *ANY_FILE, "hydra/launcher=pool",
               f"hydra.launcher.{knob}")  # fmt: skip
    assert said.code == 2
    assert f"hydra.launcher.{knob.partition('=')[0]} is" in said.err
    assert expected in said.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("cores", "gpus", "overrides", "knobs", "places"),
    [
        (4, 0, [], {}, ["cpu"] * 4),
        (4, 0, ["trainer.threads=2"], {}, ["cpu"] * 2),
        (1, 0, ["trainer.threads=2"], {}, ["cpu"]),
        (4, 0, [], {"workers": 6}, ["cpu"] * 6),
        (4, 2, ["device=auto"], {}, ["cuda:0", "cuda:1"]),
        (4, 2, ["device=cuda"], {"per_gpu": 2}, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        (4, 2, ["device=auto"], {"workers": 3}, ["cuda:0", "cuda:1", "cuda:0"]),
        (4, 2, ["device=cuda:1"], {}, ["cuda:1"]),
        (4, 2, ["device=cpu"], {}, ["cpu"] * 4),
    ],
)
def test_where_workers_go(
    make_sweep: MakeSweep,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    gpus: int,
    overrides: list[str],
    knobs: dict[str, Any],
    places: list[str],
) -> None:
    monkeypatch.setattr("bluestab.core.devices.cores", lambda: cores)
    monkeypatch.setattr("bluestab.core.devices.cuda_devices", lambda: gpus)
    given = {"workers": None, "per_gpu": 1, "memory": None, "group": 1, **knobs}
    assert pool.Pool(**given).devices(make_sweep(*overrides, seeds=1)) == places

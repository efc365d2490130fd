"""Processes of a search are killed, twenty times, and nothing is lost: whichever storage it has.

Runs are stand-ins (`simulated_search`); processes, signals and storages are real, PostgreSQL too.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bluestab.store.store import Store
from bluestab.sweeps.search.told import points
from bluestab.sweeps.search.trials import Trials
from tests.support import simulated_search

SCRIPT = Path(simulated_search.__file__)
KILLS = 20


def command(store: Path, storage: str, workers: int, n_trials: int) -> subprocess.Popen[str]:
    line = [sys.executable, str(SCRIPT), str(store), storage, str(workers), str(n_trials)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def at_work(store: Path) -> list[int]:
    """Workers that live: they have begun a run."""
    file = store / "attempts"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [pid for pid in {int(line.split()[1]) for line in lines} if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def see_through_kills(store: Path, storage: str, n_trials: int, kills: int) -> str:
    """Kill a worker or the command `kills` times; what the last command said."""
    simulated_search.acts(store, all=0.2)
    draws, process, done = random.Random(1), command(store, storage, 4, n_trials), 0
    while done < kills and process.poll() is None:
        time.sleep(draws.uniform(0.2, 0.8))
        workers = at_work(store)
        if not workers:
            continue
        if done % 5 == 4:
            process.kill()
            process.communicate()
            process = command(store, storage, 4, n_trials)
        else:
            os.kill(draws.choice(workers), signal.SIGKILL)
        done += 1
    said, _ = process.communicate(timeout=900)
    assert done == kills, f"the search ended before it had been killed {kills} times:\n{said}"
    assert process.returncode == 0, said
    return said


def assert_whole(store: Path, storage: str, n_trials: int) -> None:
    """Exactly as many points, each once, none lost, nothing left behind."""
    search = simulated_search.plan(store, storage=storage, n_trials=n_trials, seeds=3)
    trials = Trials.open(search)
    found = points(trials.all())
    assert len(found) == n_trials
    assert {t.state.name for t in found} <= {"COMPLETE", "PRUNED"}
    assert len({t.user_attrs["cell"] for t in found}) == n_trials
    assert not trials.under_way()
    finished = {key for key in simulated_search.attempts(store) if Store(store).has(key)}
    # a point that was taken up again may have been stopped earlier than before
    assert len(finished) >= sum(len(t.intermediate_values) for t in found)
    assert Store(store).running() == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "sqlite", "postgresql"])
def test_twenty_kills_lose_nothing(
    kind: str, small: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = tmp_path / "runs"
    storage = {"journal": str(tmp_path / "j.log"), "sqlite": f"sqlite:///{tmp_path}/s.db"}.get(kind)
    storage = storage or request.getfixturevalue("postgres")
    assert "finished" in see_through_kills(store, storage, n_trials=60, kills=KILLS)
    assert_whole(store, storage, 60)


@pytest.mark.slow
def test_four_workers_evaluate_no_point_twice(small: Path, tmp_path: Path) -> None:
    store, storage = tmp_path / "runs", str(tmp_path / "j.log")
    simulated_search.acts(store, all=0.05)
    said, _ = command(store, storage, 4, 40).communicate(timeout=600)
    assert "finished" in said
    assert_whole(store, storage, 40)
    assert max(Counter(simulated_search.attempts(store)).values()) == 1


@pytest.mark.slow
def test_two_commands_share_one_search(small: Path, tmp_path: Path) -> None:
    store, storage = tmp_path / "runs", str(tmp_path / "j.log")
    simulated_search.acts(store, all=0.05)
    both = [command(store, storage, 2, 30) for _ in range(2)]
    for process in both:
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        assert "finished" in said
    assert_whole(store, storage, 30)
    assert max(Counter(simulated_search.attempts(store)).values()) == 1


@pytest.mark.slow
def test_a_study_of_the_oldest_optuna_goes_on_under_this_one(small: Path, tmp_path: Path) -> None:
    """Begun under 4.9, continued here; `pip install --no-deps` brings the old one."""
    old = tmp_path / "old"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(old)]
    if subprocess.run([*pip, "optuna==4.9.0"], capture_output=True).returncode:
        pytest.skip("optuna 4.9.0 is not to be had here")
    for kind in ("journal", "sqlite"):
        store = tmp_path / kind
        storage = str(store / "j.log") if kind == "journal" else f"sqlite:///{store}/s.db"
        store.mkdir()
        line = [sys.executable, str(SCRIPT), str(store), storage, "1"]
        before = {**os.environ, "PYTHONPATH": str(old)}
        version = [sys.executable, "-c", "import optuna; print(optuna.__version__)"]
        assert subprocess.check_output(version, env=before, text=True).strip() == "4.9.0"
        done = subprocess.run([*line, "8"], env=before, capture_output=True, text=True)
        assert "finished" in done.stdout, done.stdout + done.stderr
        done = subprocess.run([*line, "16"], capture_output=True, text=True)
        assert "finished" in done.stdout, done.stdout + done.stderr
        assert "going on with search s: 8 points" in done.stdout
        assert_whole(store, storage, 16)

"""A real SLURM, and what is not as it should be: environment, colleague, disk, database."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bluestab.store.store import Store
from bluestab.sweeps.search.told import points
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.submission import submissions
from bluestab.testing.corpora import TINY_RUN
from bluestab.testing.simulated_runs import acts, attempts, release
from tests.slurm.conftest import HERE, ROOT, Cluster, Site, said_until, until
from tests.slurm.test_search import SEARCH, assert_each_point_once, trials
from tests.support import simulated_search
from tests.support.polluted import POLLUTION
from tests.support.two_users import interpreter_for_all, open_folder, packages, shared_folder

pytestmark = pytest.mark.slurm

ANN, BOB, GROUP = 5, 34, 100  # games, backup and users, as Debian has them: nodes know their names
LEFT_OUT = "left out: SBATCH_ARRAY_INX=0-1"


@dataclass
class Astray:
    """Two people whose group may write to one store, in an environment that leads astray."""

    folder: Path
    data: Path
    interpreter: str

    @property
    def store(self) -> Store:
        return Store(self.folder / "runs")

    def start(self, user: int, *arguments: str, inside: bool = False) -> subprocess.Popen[str]:
        """A command; inside: a job of the cluster."""
        home = self.folder / str(user)
        job = ["srun", "--partition=main", "--ntasks=1", "--mem=1000", "--job-name=inside"]
        return subprocess.Popen(
            [
                *(job if inside else []),
                *("env", *(f"{name}={value}" for name, value in POLLUTION.items())),
                *(self.interpreter, "-m", "bluestab", *arguments),
            ],
            cwd=home,
            env={
                **os.environ,
                "HOME": str(home),
                "USER": f"user{user}",
                "LOGNAME": f"user{user}",
                "BLUESTAB_DATA": str(self.data),
                "BLUESTAB_CACHE": str(home / "cache"),
                "BLUESTAB_CONF": str(home / "conf"),
                "BLUESTAB_STORE": str(self.store.root),
                "PYTHONPATH": ":".join([str(ROOT), *packages()]),
            },
            user=user,
            group=GROUP,
            extra_groups=[],
            umask=0o022,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def say(self, user: int, *arguments: str, inside: bool = False, code: int = 0) -> str:
        process = self.start(user, *arguments, inside=inside)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == code, said
        return said

    def sweep(self, *more: str) -> tuple[str, ...]:
        return (*self._line(), "hydra.launcher.runs_per_task=2", *more)

    def search(self, *more: str) -> tuple[str, ...]:
        return (*self._line(), *SEARCH, "search.workers=2", "search.race.kind=none", *more)

    def _line(self) -> tuple[str, ...]:
        fake = f"hydra.launcher.python='{self.interpreter} {HERE / 'with_stand_ins.py'}'"
        line = ("run", "-m", *TINY_RUN, "sweep.name=s")
        return (*line, "hydra/launcher=slurm", fake)


@pytest.fixture
def astray(cluster: Cluster, corpora: Path) -> Iterator[Astray]:
    with open_folder() as folder:
        data = folder / "data"
        subprocess.run(["cp", "-r", corpora, data], check=True)
        subprocess.run(["chmod", "-R", "a+rX", data], check=True)
        for user in (ANN, BOB):
            (folder / str(user)).mkdir()
            os.chown(folder / str(user), user, GROUP)
        shared_folder(folder / "runs", owner=ANN, group=GROUP)
        (folder / "runs" / "attempts").touch()  # of the simulated runs, which know no sharing
        (folder / "runs" / "attempts").chmod(0o666)
        people = Astray(folder, data, interpreter_for_all())
        yield people
        jobs = [job for one in submissions(people.store) for job in one.jobs()]
        scheduler.cancel([job for job in jobs if scheduler.queued([job])])


def test_a_polluted_environment_a_job_around_it_and_a_colleague(astray: Astray) -> None:
    """One submits from inside a job and leaves; the other finds the tasks, waits, and adds runs."""
    acts(astray.store, **{f"s{seed}": ["await end"] for seed in range(4)})
    said = astray.say(ANN, *astray.sweep("sweep.seeds=4", "hydra.launcher.wait=false"), inside=True)
    assert LEFT_OUT in said
    (one,) = submissions(astray.store)
    (job,) = one.jobs()
    tasks = scheduler.queued([job]) or []
    assert {task.job for task in tasks} == {f"{job}_0", f"{job}_1"}
    assert {task.comment for task in scheduler.queued([job], [one.comment]) or []} == {one.comment}
    until(lambda: len(astray.store.running()) == 2, "two tasks work")
    assert "2 running" in astray.say(BOB, "status", "--sweep", "s")
    process = astray.start(BOB, *astray.sweep("sweep.seeds=6"))
    said = said_until(process, "submitted 2 runs")
    assert f"4 runs are with job {job} (2 tasks) already; attached" in said
    release(astray.store, "end")
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert attempts(astray.store) == {str(seed): 1 for seed in range(6)}
    ours = [job for one in submissions(astray.store) for job in one.jobs()]
    assert {task.state for task in scheduler.queued(ours) or []} == {"COMPLETED"}
    assert "6 done" in astray.say(ANN, "status", "--sweep", "s")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "postgres"])
def test_a_search_of_two_people(astray: Astray, kind: str, request: pytest.FixtureRequest) -> None:
    """One study, its tasks submitted by one and then by the other, each of whom may look and wait;
    what is not theirs to cancel is left alone."""
    storage = None if kind == "journal" else request.getfixturevalue("postgres")
    where = [] if storage is None else [f"search.storage='{storage}'"]
    simulated_search.acts(astray.store.root, all="await end")
    said = astray.say(ANN, *astray.search(*where, "search.n_trials=8", "hydra.launcher.wait=false"))
    assert "(2 tasks)" in said
    (first,) = submissions(astray.store)
    (job,) = first.jobs()
    until(lambda: len(simulated_search.attempts(astray.store.root)) >= 2, "tasks work")
    assert "Access/permission denied" in astray.say(BOB, "cancel", code=2)
    assert "of 8 points told" in astray.say(BOB, "status")
    process = astray.start(BOB, *astray.search(*where, "search.n_trials=8"))
    said = said_until(process, f"job {job} (2 tasks) works on it already; attached")
    release(astray.store, "end")
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert "best" in said
    said = astray.say(BOB, *astray.search(*where, "search.n_trials=12"))
    assert "going on with search s: 8 points are told" in said
    assert "submitted as" in said
    assert len(submissions(astray.store)) == 2
    found = points(trials(astray.store, storage))
    assert [t.state.name for t in found] == ["COMPLETE"] * 12
    assert len({t.user_attrs["cell"] for t in found}) == 12
    attempts = Counter(simulated_search.attempts(astray.store.root))
    assert set(attempts.values()) == {1}
    assert len(attempts) == 24
    assert "winner" in astray.say(ANN, "search")


@pytest.mark.slow
def test_a_store_that_the_nodes_do_not_see(make_site: Callable[..., Site], tmp_path: Path) -> None:
    """Its command has it on a disk of its own; that is what the tasks' ends are said to be for."""
    site = make_site("sweep.seeds=2", "hydra.launcher.runs_per_task=1")
    (site.folder / "runs").mkdir()
    said = site.refused_behind("mount -t tmpfs none runs")
    assert "all tasks have ended, and 2 of 2 runs are missing" in said
    assert "the store must be on a disk that the nodes share with this machine" in said


@pytest.mark.slow
def test_a_database_that_is_stopped_under_a_search(
    make_site: Callable[..., Site], postgres_server: object
) -> None:
    """For six seconds, twice: the tasks and the command wait; no task fails."""
    from tests.conftest import PostgresServer

    assert isinstance(postgres_server, PostgresServer)
    site = make_site(*SEARCH)
    simulated_search.acts(site.store.root, all=0.5)
    url = postgres_server.url
    shape = ("search.workers=2", "search.n_trials=16", f"search.storage='{url}'")
    process = site.start(*shape)
    for n in (3, 10):
        until(lambda n=n: len(simulated_search.attempts(site.store.root)) >= n, "runs")  # type: ignore[misc]
        postgres_server.stop("immediate")
        time.sleep(6)
        postgres_server.start()
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said + site.logs()
    assert "Traceback" not in said + site.logs()
    assert said.count("is away") == said.count("is back after") == 2
    assert_each_point_once(site, 16, url)

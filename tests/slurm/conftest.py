"""A real SLURM on this machine, and sweeps that are submitted to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest

from bluestab.store.store import Store
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.submission import Submission, submissions
from bluestab.testing.corpora import TINY_RUN
from tests.support.in_process import exit_code

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCRIPT = HERE / "cluster.sh"
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd")
SLOW = 400.0  # seconds after which what should have happened has not


def control(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"cluster.sh {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@contextmanager
def one_cluster() -> Iterator[None]:
    """Alone on this machine: two clusters at once would starve each other's daemons."""
    lock = Path(tempfile.gettempdir()) / "bluestab-test-cluster.lock"
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def free_ports(n: int = 6) -> int:
    """The first of `n` ports in a row that nobody listens on, below those given out at random."""
    for first in random.sample(range(20_000, 32_000, n), 200):
        try:
            for port in range(first, first + n):
                with closing(socket.socket()) as tried:
                    tried.bind(("", port))
        except OSError:
            continue
        return first
    raise OSError(f"no {n} free ports in a row")


@dataclass
class Cluster:
    """What a test may do to the cluster."""

    folder: Path

    def do(self, command: str, *arguments: str) -> None:
        control(command, str(self.folder), *arguments)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes with two cores each, accounting, preemption; ended when the tests are."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    lacking = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if lacking:
        pytest.skip(f"no {', '.join(lacking)}: tests/slurm/cluster.sh install brings them")
    if os.getuid() != 0:
        pytest.skip("a SLURM of one's own needs root")
    with one_cluster():
        folder = Path(tempfile.mkdtemp(prefix="bst-", dir="/tmp"))
        try:
            control("start", str(folder), SLURM_TEST_PORT=str(free_ports()))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
                yield Cluster(folder)
        finally:
            control("stop", str(folder))
            shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], object], what: str, seconds: float = SLOW) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not in {seconds:.0f} seconds: {what}"
        time.sleep(0.1)


def said_until(process: subprocess.Popen[str], text: str) -> str:
    """What a command in the background says, up to a line in which there is this text."""
    assert process.stdout is not None
    said = ""
    while text not in (line := process.stdout.readline()):
        said += line
        assert line, f"never said: {text}\n{said}"
    return said + line


@dataclass
class Site:
    """A person's folder on the login node, with a store in it."""

    folder: Path
    common: list[str]
    stand_ins: bool
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return Store(self.folder / "runs")

    def command(self, *overrides: str) -> list[str]:
        fake = f"{sys.executable} {HERE / 'with_stand_ins.py'}"
        python = [f"hydra.launcher.python='{fake}'"] if self.stand_ins else []
        line = ["run", "-m", *self.common, "hydra/launcher=slurm", *python, *overrides]
        return [sys.executable, "-m", "bluestab", *line]

    def refused_behind(self, mount: str) -> str:
        """What the command says that fails behind a mount of its own, which no node sees; skips the
        test where nothing can be mounted."""
        alone = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
        done = subprocess.run(
            [*alone, *self.command()],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        said = done.stdout + done.stderr
        if "mount: " in said:
            pytest.skip("no mounts here")
        assert done.returncode == 1, said
        return said

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        """The command in the background."""
        process = subprocess.Popen(
            self.command(*overrides),
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.started.append(process)
        return process

    def run(self, *overrides: str, code: int = 0) -> str:
        """The command to its end; what it said."""
        return self.verb(*self.command(*overrides)[3:], code=code)

    def verb(self, *arguments: str, code: int = 0) -> str:
        said = StringIO()
        with contextlib.chdir(self.folder), redirect_stdout(said), redirect_stderr(said):
            found = exit_code(arguments, self.environment)
        assert found == code, said.getvalue() + self.logs()
        return said.getvalue()

    @property
    def submission(self) -> Submission:
        (one,) = submissions(self.store)
        return one

    def tasks(self) -> dict[str, ArrayTask]:
        jobs = [job for one in submissions(self.store) for job in one.jobs()]
        return {task.job: task for task in scheduler.queued(jobs) or []}

    def live(self) -> list[ArrayTask]:
        return [task for task in self.tasks().values() if task.live]

    def statuses(self) -> dict[int, str]:
        """Seed -> done, crashed or missing."""
        manifest = self.store.manifest(None)
        assert manifest is not None
        found = {}
        for run in manifest["runs"]:
            crash = self.store.crash(run["key"])
            done = self.store.has(run["key"])
            found[run["seed"]] = "done" if done else crash.status if crash else "missing"
        return found

    def logs(self) -> str:
        return "".join(
            f"\n--- {path.name}\n{path.read_text()}"
            for path in sorted((self.folder / "runs" / ".slurm").rglob("*log.out"))
        )


@pytest.fixture
def make_site(cluster: Cluster, corpora: Path, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(*overrides: str, stand_ins: bool = True, name: str = "site") -> Site:
        folder = tmp_path / name
        folder.mkdir()
        environment = {
            **os.environ,
            "BLUESTAB_DATA": str(corpora),
            "BLUESTAB_CACHE": str(tmp_path / "cache"),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
        }
        environment.pop("BLUESTAB_STORE", None)
        common = [*TINY_RUN, *overrides]
        made.append(Site(folder, common, stand_ins, environment))
        return made[-1]

    yield make
    for site in made:
        jobs = [job for one in submissions(site.store) for job in one.jobs()]
        scheduler.cancel([job for job in jobs if scheduler.queued([job])])
        for process in site.started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        until(lambda site=site: not site.live(), "the jobs of a test have ended")  # type: ignore[misc]

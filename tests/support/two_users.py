"""Two people of one group, as real users of this machine: what they make, and what they may do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bluestab.testing.corpora import write_corpora

GROUP, ANN, BOB = 61000, 61001, 61002
ROOT = Path(__file__).parents[2]


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("to be two users takes root")


def in_child_as(user: int, what: Callable[[], object], umask: int = 0o022) -> str:
    """What a function says that is called in a child process as this user; its last error line."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            os.setgroups([GROUP])
            os.setgid(user)
            os.setuid(user)
            os.umask(umask)
            said = str(what())
        except BaseException:
            said = traceback.format_exc()
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user of this machine can enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="bstu-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def packages() -> list[str]:
    """Where what this interpreter imports is installed."""
    return [path for path in sys.path if path.endswith("-packages")]


def interpreter_for_all() -> str:
    """A Python of this version that every user of this machine may run; skips if there is none."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for interpreter in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            subprocess.run([interpreter, "-c", ""], user=ANN, group=ANN, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return interpreter
    pytest.skip(f"no {version} that other users of this machine may run")


def shared_folder(path: Path, owner: int = ANN, mode: int = 0o2775, group: int = GROUP) -> Path:
    """A folder of `owner` that the group may write to."""
    path.mkdir()
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


@dataclass
class People:
    """Two people, each with a home, and a store that is shared."""

    folder: Path
    interpreter: str
    umask: int = 0o022

    @classmethod
    def at(cls, folder: Path) -> People:
        """Skips where no interpreter is to be had that everybody may run."""
        need_root()
        before = os.umask(0o022)
        data = write_corpora(folder / "data")
        os.umask(before)
        for path in (data, *data.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shared_folder(folder / "runs")
        for user in (ANN, BOB):
            home = folder / str(user)
            home.mkdir()
            os.chown(home, user, user)
        return cls(folder, interpreter_for_all())

    @property
    def store(self) -> Path:
        return self.folder / "runs"

    def environment(self, user: int) -> dict[str, str]:
        home = str(self.folder / str(user))
        return {
            **os.environ,
            "HOME": home,
            "USER": f"user{user}",
            "LOGNAME": f"user{user}",
            "BLUESTAB_DATA": str(self.folder / "data"),
            "BLUESTAB_CACHE": f"{home}/cache",
            "BLUESTAB_CONF": f"{home}/conf",
            "BLUESTAB_STORE": str(self.store),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": ":".join([str(ROOT), *packages()]),
        }

    def python(self, user: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.interpreter, *arguments],
            cwd=self.folder / str(user),
            env=self.environment(user),
            user=user,
            group=user,
            extra_groups=[GROUP],
            umask=self.umask,
            capture_output=True,
            text=True,
        )

    def bluestab(self, user: int, *arguments: str, code: int = 0) -> str:
        """What a command says to this user."""
        done = self.python(user, "-m", "bluestab", *arguments)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert done.returncode == code, said
        return said

"""A store on a file system without hard links, or that renames over nothing (sshfs).

The kernel that this runs on need not know such a file system: a preloaded library refuses it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bluestab.store.store import Store
from bluestab.store.verify import problems
from bluestab.testing.corpora import ANY_FILE
from tests.support.preloaded import preloaded

pytestmark = pytest.mark.slow

LINE = (
    "run", "-m", "task=gad", "model=tiny", "technique=none,llrd", "device=cpu", "optim.steps=4",
    "trainer.eval_every=2", "checkpoint_every=2", "task.max_length=32", "sweep.seeds=2",
    "sweep.name=s", *ANY_FILE,
)  # fmt: skip
POOL = ("hydra/launcher=pool", "hydra.launcher.workers=2")

Started = subprocess.Popen[str]
Start = Callable[..., Started]


@pytest.fixture
def start(tmp_path: Path, corpora: Path) -> Start:
    """A command whose file system lacks what is named."""
    library = str(preloaded("poor_file_system", tmp_path))
    given = {**os.environ, "BLUESTAB_DATA": str(corpora), "LD_PRELOAD": library}

    def begin(lacks: str, *words: str) -> Started:
        return subprocess.Popen(
            [sys.executable, "-m", "bluestab", *words],
            cwd=tmp_path,
            env={**given, "POOR": lacks},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


def ended(process: Started) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=600)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out, err


def assert_whole(root: Path, start: Start) -> None:
    """The sweep is there, as an ordinary file system has it."""
    assert ended(start("", *LINE, "store=plain"))[0] == 0
    plain, poor = Store(root / "plain"), Store(root / "runs")
    keys = plain.keys()
    assert len(keys) == 4
    assert poor.keys() == keys
    assert all(poor.read(key).result == plain.read(key).result for key in keys)
    assert list(problems(poor)) == []
    assert poor.running() == {}


def test_no_hard_links(tmp_path: Path, start: Start) -> None:
    code, _, err = ended(start("links", *LINE, *POOL))
    assert code == 0, err
    assert_whole(tmp_path, start)


def test_no_renaming_over_what_is_there(tmp_path: Path, start: Start) -> None:
    """A sweep that grows, a damaged run, pages and a merge: each writes over a name."""

    def bluestab(*words: str) -> str:
        code, out, err = ended(start("replace", *words))
        assert code == 0, err
        return out

    (tmp_path / "taken").touch()
    tried = "import os; open('a', 'w'); os.replace('a', 'taken')"
    environment = {**os.environ, "LD_PRELOAD": str(tmp_path / "poor_file_system.so")}
    refused = subprocess.run(
        [sys.executable, "-c", tried],
        cwd=tmp_path,
        env={**environment, "POOR": "replace"},
        capture_output=True,
        text=True,
    )
    assert "FileExistsError" in refused.stderr, "the library is at work"
    bluestab(*LINE, "sweep.seeds=1")
    bluestab(*LINE, *POOL)
    for key in Store(tmp_path / "runs").keys()[:1]:
        (tmp_path / "runs" / key / "record.json").write_text("{")
    bluestab(*LINE)
    assert len(list((tmp_path / "runs" / ".damaged").iterdir())) == 1
    for _ in range(2):
        bluestab("report", "runs", "--out", "out")
    assert_whole(tmp_path, start)
    bluestab("store", "merge", "plain", "runs")
    bluestab("store", "gc", "runs")
    assert not list(tmp_path.rglob(".*.old.*"))

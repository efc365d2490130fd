"""A store on a file system without hard links.

The kernel that this runs on need not know such a file system: a preloaded library refuses them.
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

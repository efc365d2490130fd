"""A sweep whose wall clock jumps by days at every look: the results are those of a quiet one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bluestab.store.store import Store
from bluestab.store.verify import problems
from bluestab.testing.corpora import ANY_FILE
from tests.support.preloaded import preloaded

pytestmark = pytest.mark.slow

LINE = (
    "run", "-m", "task=gad", "model=tiny", "technique=none,llrd", "device=cpu", "optim.steps=2",
    "task.max_length=32", "sweep.seeds=2", "sweep.name=s", *ANY_FILE,
)  # fmt: skip
JUMPS = "import time; a = [time.time() for _ in range(9)]; print(max(a) - min(a) > 86400)"


def test_jumping_clocks(tmp_path: Path, corpora: Path) -> None:
    library = str(preloaded("jumping_clock", tmp_path))
    environment = {**os.environ, "BLUESTAB_DATA": str(corpora), "LD_PRELOAD": library}

    def bluestab(*words: str, jumping: bool = True) -> str:
        env = environment if jumping else {**environment, "LD_PRELOAD": ""}
        done = subprocess.run(
            [sys.executable, "-m", "bluestab", *words],
            cwd=tmp_path, env=env, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = subprocess.run(
        [sys.executable, "-c", JUMPS], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout == "True\n", "the library is at work"
    bluestab(*LINE, "store=quiet", jumping=False)
    bluestab(*LINE, "store=jumping", "hydra/launcher=pool", "hydra.launcher.workers=2")
    quiet, jumping = Store(tmp_path / "quiet"), Store(tmp_path / "jumping")
    assert jumping.keys() == quiet.keys()
    assert len(quiet.keys()) == 4
    assert all(jumping.read(k).result == quiet.read(k).result for k in quiet.keys())  # noqa: SIM118
    for words in (
        ("store", "gc", "jumping"),
        ("status", "jumping"),
        ("store", "verify", "jumping"),
    ):
        bluestab(*words)
    assert list(problems(jumping)) == []
    assert jumping.keys() == quiet.keys()

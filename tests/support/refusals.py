"""Commands that are refused: exit code 2, one paragraph on standard error, and not one new file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Say = Callable[..., Any]
ANY_FILE = ("task.sha256.train=null", "task.sha256.validation=null", "task.sha256.test=null")
GAD = ("task=gad", "model=tiny", *ANY_FILE, "optim.steps=1", "device=cpu")
RUN = ("run", *GAD)
SWEEP = ("run", "-m", *GAD, "sweep.seeds=1")


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(cli: Say, arguments: Sequence[str], *expected: str, **env: str) -> str:
    """Exit code 2, one paragraph on standard error that says `expected`, and no new file."""
    before = tree(Path.cwd())
    said = cli(*arguments, **env)
    assert said.code == 2, said.err
    assert said.err.startswith("bluestab: "), said.err
    assert said.err.count("bluestab: ") == 1
    assert "Traceback" not in said.err
    assert "\n\n" not in said.err.strip()
    for part in expected:
        assert part in said.err
    assert tree(Path.cwd()) - before == set()
    return str(said.err)

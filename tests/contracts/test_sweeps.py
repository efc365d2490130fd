"""Every sweep file says its question and cost, and every run it declares can be started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bluestab.paths import sweeps_dir

SWEEPS = sorted(file.stem for file in sweeps_dir().glob("*.yaml"))


def check(name: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bluestab", "check", "-m", f"+sweeps={name}", *overrides]
    command.append("hydra.launcher.dry_step=false")  # takes seconds
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))


def test_all_files_are_yaml() -> None:
    assert SWEEPS, "no sweep was found"
    assert all(file.suffix == ".yaml" for file in sweeps_dir().iterdir())


@pytest.mark.parametrize("name", SWEEPS)
def test_opens_with_question_and_cost(name: str) -> None:
    text = (sweeps_dir() / f"{name}.yaml").read_text()
    opening = text.split("\ndefaults:")[0]
    assert opening.startswith("# @package _global_\n# Question: ")
    assert "\n# Cost: " in opening
    assert f"name: {name}" in text


def test_quickstart_needs_nothing_but_the_package(tmp_path: Path) -> None:
    done = check("quickstart", f"store={tmp_path}", "model=tiny", "technique.freeze.depth=1")
    assert done.returncode == 0, done.stderr
    assert "12 runs in 4 cells, 0 done" in done.stdout


@pytest.mark.parametrize("name", [name for name in SWEEPS if name != "quickstart"])
def test_composes_and_checks(name: str, tmp_path: Path) -> None:
    if not os.environ.get("BLUESTAB_DATA"):
        pytest.skip("real corpora: set BLUESTAB_DATA to the folder that holds them")
    freezes = "freeze" in (sweeps_dir() / f"{name}.yaml").read_text()
    depth = ["technique.freeze.depth=1"] if freezes else []  # the tiny model has two blocks
    done = check(name, f"store={tmp_path}", "model=tiny", *depth)
    assert done.returncode == 0, done.stderr

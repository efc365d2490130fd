"""The golden runs (`make.py`): same config, same key, and the same figures as when stored.

`assets/golden_runs.json` holds key, cell, status, score and last training loss of all of them.
Their bytes are compared with `make.py --compare`, on one machine.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("make.py")
ASSET = Path(__file__).parents[1] / "assets" / "golden_runs.json"
STORED: dict[str, Any] = json.loads(ASSET.read_text(encoding="utf-8"))

FAST = ("classes", "pairs", "numbers", "labels", "spans", "thaw")
"""Every kind of head, seven techniques, on the tiny models."""

TOLERANCE = 1e-2
"""Of scores and losses: another CPU rounds otherwise, and a few steps carry that on."""


def made(out: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    """The outcome of `make.py --out OUT`, run by this interpreter."""
    asked = [part for name in only for part in ("--only", name)]
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", out, *asked], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads((out / "outcome.json").read_text(encoding="utf-8"))
    return found


def assert_as_stored(found: dict[str, Any], names: Sequence[str]) -> None:
    assert list(found) == list(names)
    for name in names:
        run, stored = found[name], STORED[name]
        # a key holds the weights that a run starts from, which another processor rounds otherwise
        same = ("config", "status") if name == "started" else ("key", "cell", "status")
        assert {k: run[k] for k in same} == {k: stored[k] for k in same}, name
        assert run["score"] == pytest.approx(stored["score"], abs=TOLERANCE), name
        assert run["train_loss"] == pytest.approx(stored["train_loss"], abs=TOLERANCE), name


def test_a_few_runs_are_as_they_were(tmp_path: Path) -> None:
    assert_as_stored(made(tmp_path, FAST), FAST)


@pytest.mark.slow
def test_all_runs_are_as_they_were(tmp_path: Path) -> None:
    assert len(STORED) >= 24
    assert_as_stored(made(tmp_path), list(STORED))


def test_a_difference_is_said(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_text(json.dumps(STORED))
    changed = copy.deepcopy(STORED)
    changed["fold"]["key"] = "0" * 16
    del changed["smart"]
    other.write_text(json.dumps(changed))

    def compared(a: Path, b: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, SCRIPT, "--compare", a, b]
        return subprocess.run(command, capture_output=True, text=True)

    assert compared(one, one).returncode == 0
    said = compared(one, other)
    assert said.returncode == 1
    assert said.stdout.splitlines() == [
        "smart: only in the first",
        f"fold: key {STORED['fold']['key']} != {'0' * 16}",
    ]

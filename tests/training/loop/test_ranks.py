"""One run on two devices (two processes on the CPU) is the run with two micro-batches on one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from bluestab.core import devices, preemption  # noqa: E402
from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.preemption import Preempted  # noqa: E402
from bluestab.core.types import RunRecord  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.sweeps.pool import assign_devices  # noqa: E402
from bluestab.training.execute import execute_one  # noqa: E402
from bluestab.training.loop.memory import Sizes  # noqa: E402
from bluestab.training.loop.ranks import Ranks, together  # noqa: E402

Make = Callable[..., Any]
Progress = Callable[..., None]

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")

# 24 items in batches of 7, parts of 4 and 3; the last batch of 3 is one part: a device has none
BASE = ("task=gad", "model=tiny", "device=cpu", "optim.batch_size=7", "optim.epochs=2")
FAST = "optim.lr=3e-3"
TWO, PARTS = "trainer.devices=2", "trainer.micro_batch=4"


@pytest.fixture
def do(make_run: Make, tmp_path: Path) -> Callable[..., tuple[RunRecord, Path]]:
    """A run in a store of its own: its record and its folder."""

    def done(
        name: str, *overrides: str, progress: Progress = lambda *_: None, **cfg: Any
    ) -> tuple[RunRecord, Path]:
        run = make_run(*BASE, FAST, *overrides)
        run = replace(run, cfg={**run.cfg, **cfg})
        store = Store(tmp_path / name)
        store.make_writable()
        record = execute_one(run, store, progress)
        crashed = record.status == "crashed"
        return record, store.crash_folder(run.key) if crashed else store.folder(run.key)

    return done


def logits(folder: Path) -> np.ndarray:
    return np.concatenate(pd.read_parquet(folder / "predictions.parquet")["logits"].to_list())


def curve(folder: Path) -> np.ndarray:
    return pd.read_csv(folder / "curve.csv").to_numpy(dtype=float)


def children(module: str = "bluestab.training.rank_process") -> list[int]:
    """Other ranks that this process has started."""
    said = subprocess.run(
        ["ps", "-ww", "--ppid", str(os.getpid()), "-o", "pid=,stat=,args="],
        capture_output=True,
        text=True,
    ).stdout
    lines = [line.split() for line in said.splitlines() if module in line]
    return [int(pid) for pid, stat, *_ in lines if not stat.startswith("Z")]


@pytest.mark.parametrize(
    "technique", ["none", *(pytest.param(t, marks=pytest.mark.slow) for t in ("smart", "sam,lora"))]
)
def test_two_devices_are_two_micro_batches(do: Any, technique: str) -> None:
    """Dropout and all: equal to rounding. With one batch at once the dropout is another."""
    said = f"technique=[{technique}]"
    one, alone = do("one", PARTS, said)
    two, both = do("two", TWO, said)
    assert one.key != two.key
    for name in ("steps", "items", "parameters", "micro_batch", "status"):
        assert one.result[name] == two.result[name], name
    np.testing.assert_allclose(curve(alone), curve(both), rtol=1e-4, atol=1e-5)
    off = np.abs(logits(alone) - logits(both)).max()
    assert off < 1e-5
    assert (
        json.loads((both / "record.json").read_text())["result"]["config"]["trainer"]["devices"]
        == 2
    )
    _, folder = do("whole", said)
    assert np.abs(logits(folder) - logits(both)).max() > 100 * max(off, 1e-6)
    assert children() == []


@pytest.mark.slow
def test_divergence_is_met_by_all(do: Any) -> None:
    record, _ = do("diverged", TWO, "optim.lr=1e30", "optim.warmup=0")
    assert record.status == "diverged"
    assert children() == []


@pytest.mark.slow
def test_given_back_it_goes_on_with_the_same_bytes(
    do: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = do("whole", TWO)
    reached: list[int] = []

    def at_five(step: int, *_: Any) -> None:
        if step == 5 and not reached:
            reached.append(step)

    monkeypatch.setattr(preemption, "is_requested", lambda: len(reached) == 1)
    with pytest.raises(Preempted):
        do("parts", TWO, progress=at_five, checkpoint_every=1000)
    assert children() == []
    reached.append(0)
    record, folder = do("parts", TWO)
    assert record.measured["resumed_from"] == 5
    for name in ("curve.csv", "predictions.parquet"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_rank_that_is_killed_is_a_crash_that_says_so(do: Any) -> None:
    """And not a process that waits for it for ever."""

    def kill(step: int, *_: Any) -> None:
        if step == 3:
            for pid in children():
                os.kill(pid, signal.SIGKILL)

    record, folder = do("killed", TWO, progress=kill)
    assert record.status == "crashed"
    assert record.result["error"]["type"] == "RankDied"
    assert "rank 1 of this run ended with exit code -9" in record.result["error"]["message"]
    assert children() == []
    assert not list(folder.parent.parent.glob(".work/*"))


@pytest.mark.slow
def test_ranks_that_drift_apart_are_found_out(
    do: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A technique that draws where the ranks' streams differ."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "drifting.py").write_text(
        "import os\n"
        "from bluestab.techniques.base import Technique, before_each_step\n\n\n"
        "class Drifting(Technique):\n"
        "    def callbacks(self, built):\n"
        "        import torch\n\n"
        "        def move(trainer):\n"
        "            with torch.no_grad():\n"
        "                next(built.model.parameters()).add_(os.getpid() * 1e-6)\n\n"
        "        return [before_each_step(move)]\n"
    )
    (tmp_path / "conf" / "technique").mkdir(parents=True)
    (tmp_path / "conf" / "technique" / "drifting.yaml").write_text(
        "drifting:\n  _target_: mine.drifting.Drifting\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLUESTAB_ALLOW", "mine")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(tmp_path))
    record, _ = do("drift", TWO, "technique=drifting")
    assert record.result["error"]["type"] == "RankDied"
    assert "have drifted apart" in record.result["error"]["message"]


def test_the_others_end_with_the_first(tmp_path: Path) -> None:
    """Whatever it dies of: their standard input closes."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from bluestab.training.loop.ranks import _start\n"
        "other = _start({'rank': 1}, Path(sys.argv[1]))\n"
        "print(other.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    pid = int(said.stdout)
    for _ in range(600):
        if gone(pid):
            break
        time.sleep(0.1)
    assert gone(pid)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


# --- who takes what ------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_parts", "size"), [(1, 2), (2, 2), (3, 2), (5, 3), (1, 4)])
def test_every_part_is_taken_once(n_parts: int, size: int) -> None:
    parts = [(1 / n_parts, f"part {i}") for i in range(n_parts)]
    taken = [part for rank in range(size) for part in Ranks(rank, size).mine(parts)]
    assert sorted((i, p) for i, share, p in taken if share) == [
        (i, f"part {i}") for i in range(n_parts)
    ]
    assert sum(share for _, share, _ in taken) == pytest.approx(1)
    assert all(Ranks(rank, size).mine(parts) for rank in range(size))


@pytest.mark.parametrize(("batches", "size"), [(1, 2), (5, 2), (2, 3), (7, 4)])
def test_every_batch_is_evaluated_and_every_rank_evaluates(batches: int, size: int) -> None:
    taken = [
        [i for i in range(batches) if Ranks(r, size).evaluates(i, batches)] for r in range(size)
    ]
    assert set().union(*taken) == set(range(batches))
    assert all(taken)
    if batches >= size:
        assert sum(map(len, taken)) == batches
    assert all(Ranks(1, 2, divides_evaluation=False).evaluates(i, 5) for i in range(5))


def test_one_device_is_what_it_was() -> None:
    with together({}, 1, "cpu") as ranks:
        assert (ranks.rank, ranks.size) == (0, 1)
    value = torch.tensor([1.0])
    assert ranks.sum_of(value) is value


def test_sizes_leave_something_for_each_device() -> None:
    def micro(batch: int, micro: int | None, n: int) -> int | None:
        cfg = {
            "optim": {"batch_size": batch},
            "trainer": {"micro_batch": micro, "devices": n, "eval_batch_size": 8},
        }
        return Sizes.of(cfg).micro_batch

    assert micro(16, None, 1) is None
    assert micro(16, None, 4) == 4
    assert micro(7, None, 2) == 4
    assert micro(16, 2, 4) == 2
    assert micro(16, 12, 4) == 4


# --- what does not go ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("trainer.devices=8",), "every device takes a part"),
        ((TWO, "technique=mixout"), "technique mixout runs on one device alone"),
        (
            (TWO, "technique=lora", "technique.lora.dropout=0.1"),
            "technique lora runs on one device",
        ),
        ((TWO, "device=mps"), "device is mps, of which there is one"),
    ],
)
def test_what_does_not_go_is_refused_by_the_check(
    make_run: Make, overrides: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        make_run(*BASE, *overrides)


def test_gpus_are_given_out_in_groups(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cuda_devices", lambda: 5)
    cfg = {**make_run(*BASE, TWO).cfg, "device": "auto"}
    assert assign_devices([cfg], None, 1) == ["cuda:0", "cuda:2"]
    assert devices.of_ranks("cuda:2", 2) == ["cuda:2", "cuda:3"]
    eight = {**cfg, "trainer": {**cfg["trainer"], "devices": 8}}
    with pytest.raises(ConfigError, match=r"devices is 8, beginning with cuda:0, but"):
        assign_devices([eight], None, 1)
    monkeypatch.setattr(devices, "cuda_devices", lambda: 0)
    assert assign_devices([{**cfg, "device": "cpu"}], None, 1, cores=8) == ["cpu"] * 4

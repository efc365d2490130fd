"""One run on two devices (two processes on the CPU) is the run with two micro-batches on one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from bluestab.errors import ConfigError  # noqa: E402
from bluestab.ranks import RankDied, Ranks, _buckets, together  # noqa: E402
from bluestab.run import execute  # noqa: E402
from bluestab.store import Store  # noqa: E402

Make = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")

# 24 items in batches of 7, the last of them ragged: parts of 4 and 3; one device has none at the end
BASE = ("task=gad", "model=tiny", "device=cpu", "optim.batch_size=7", "optim.epochs=2")
TWO, PARTS = "trainer.devices=2", "trainer.micro_batch=4"


@pytest.fixture
def result(make_run: Make, tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    def of(name: str, *overrides: str, **cfg: Any) -> tuple[Any, Path]:
        run = make_run(*BASE, *overrides)
        run = replace(run, cfg={**run.cfg, **cfg})
        store = Store(tmp_path / name)
        store.make_writable()
        record = execute(run, store, lambda *_: None)
        assert record.status != "crashed", record.result["error"]
        return record, store.folder(run.key)

    return of


def logits(folder: Path) -> np.ndarray:
    return np.concatenate(pd.read_parquet(folder / "predictions.parquet")["logits"].to_list())


def curve(folder: Path) -> np.ndarray:
    return pd.read_csv(folder / "curve.csv").to_numpy(dtype=float)


@pytest.mark.parametrize(
    "technique", ["none", "smart", pytest.param("sam,freelb", marks=pytest.mark.slow)]
)
def test_two_devices_are_two_micro_batches(result: Any, technique: str) -> None:
    """Dropout and all: equal to rounding."""
    said = f"technique=[{technique}]"
    one, alone = result("one", PARTS, said)
    two, both = result("two", TWO, said)
    assert one.key != two.key
    for name in ("steps", "items", "parameters", "micro_batch", "status"):
        assert one.result[name] == two.result[name], name
    np.testing.assert_allclose(logits(alone), logits(both), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(curve(alone), curve(both), rtol=1e-3, atol=1e-4)
    whole, folder = result("whole", said)  # which is another run: its dropout is drawn at once
    assert np.abs(logits(folder) - logits(both)).max() > 1e-3


def test_divergence_is_met_by_all(result: Any) -> None:
    record, _ = result("diverged", TWO, "optim.lr=1e30", "optim.warmup=0")
    assert record.status == "diverged"

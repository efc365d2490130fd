"""Groups of sibling runs that are trained as one, and their bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bluestab.store.store import Store
from bluestab.training.check import Run
from bluestab.training.loop.phases import Phases
from bluestab.training.packed.training import Group

SHORT = (
    *("device=cpu", "trainer.engine=packed", "optim.steps=4", "optim.batch_size=6"),
    *("optim.lr=1e-3", "trainer.eval_every=2", "task.max_length=32"),
)
ASKED = ("task=gad", "model=tiny", *SHORT)


def told(*_: Any) -> None:
    pass


def fitted(runs: Sequence[Run]) -> Group:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    group = Group(runs, [(told, told)] * len(runs), torch.device("cpu"), Phases())
    group.fit()
    return group


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "runs")
    found.make_writable()
    return found

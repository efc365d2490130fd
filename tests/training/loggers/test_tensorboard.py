"""TensorBoard's own reader finds what was logged."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from bluestab.store.store import Store
from bluestab.testing.corpora import ANY_FILE
from bluestab.testing.loggers import no_text
from tests.conftest import Say
from tests.support.logged_runs import RUN, curve, needs


def test_tensorboards_own_reader(cli: Say, small: Path) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said = cli("run", "-m", *RUN, *ANY_FILE, "technique=none,llrd", "sweep.seeds=1",
               "sweep.name=boards", "logger=[csv,tensorboard]")  # fmt: skip
    assert said.code == 0, said.err
    folders = sorted(Path("runs/tensorboard/boards").iterdir())
    store = Store("runs")
    assert len(folders) == 2
    assert [f.name.split("_seed_")[0] for f in folders] == ["technique=llrd", "technique=none"]
    for folder in folders:
        (key,) = [k for k in sorted(store.keys()) if k.startswith(folder.name[-8:])]
        events = EventAccumulator(str(folder))
        events.Reload()
        rows = curve(store.root / key)
        for tag, column in (("train_loss", "train_loss"), ("validation/accuracy", "accuracy")):
            found = [(e.step, e.value) for e in events.Scalars(tag)]
            assert found == [
                (int(r["step"]), pytest.approx(float(r[column]), rel=1e-6)) for r in rows
            ]
        (final,) = events.Scalars("test/last/accuracy")
        record = store.read(key)
        assert final.value == pytest.approx(record.result["metrics"]["last"]["test"]["accuracy"])
    no_text(Path("runs/tensorboard"))

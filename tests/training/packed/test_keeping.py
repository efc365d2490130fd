"""An interrupted group goes on with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.store.records import to_json
from bluestab.store.store import Store
from bluestab.training.check import Run
from bluestab.training.execute import execute
from tests.conftest import Make
from tests.support.packed_groups import ASKED, told


class Stopped(BaseException):
    """Stands for a kill."""


def stopping_at(step: int) -> Any:
    def progress(now: int, total: int, loss: Any, score: Any) -> None:
        if now == step and loss is None:
            raise Stopped

    return progress


@pytest.mark.parametrize(
    "knobs",
    [
        ("technique=[mixout,rdrop,llrd]",),
        ("technique=recadam", "technique.recadam.gamma=50", "optim.bias_correction=false"),
    ],
)
def test_a_group_goes_on_with_the_same_bits(
    make_run: Make, tmp_path: Path, knobs: tuple[str, ...]
) -> None:
    """Also with a run that has diverged, and one that had its best weights before."""
    wild = ("optim.lr=1e30", "optim.clip=null", "optim.warmup=0")
    asked = (*ASKED, "optim.steps=6", "checkpoint_every=3", *knobs)

    def runs() -> list[Run]:
        extra = () if "technique=recadam" in knobs else wild  # which recadam refuses
        return [make_run(*asked, "seed=0"), make_run(*asked, *extra, "seed=1")]

    stores = [Store(tmp_path / name) for name in ("whole", "cut")]
    whole = execute(runs(), stores[0], [told] * 2)
    with pytest.raises(Stopped):
        execute(runs(), stores[1], [stopping_at(5), told])
    assert stores[1].keys() == []
    assert len(list((stores[1].root / ".resume").glob("*/step-00000003-*.ckpt"))) == 1
    cut = execute(runs(), stores[1], [told] * 2)
    for one, other in zip(whole, cut, strict=True):
        assert (one.measured["resumed_from"], other.measured["resumed_from"]) == (None, 3)
        assert to_json(one.result) == to_json(other.result)
        for file in ("curve.csv", "predictions.parquet"):
            content = [(s.folder(one.key) / file).read_bytes() for s in stores]
            assert content[0] == content[1]
    assert list((stores[1].root / ".resume").glob("*/*.ckpt")) == []


def test_another_group_does_not_go_on(make_run: Make, store: Store) -> None:
    asked = (*ASKED, "checkpoint_every=1")
    with pytest.raises(Stopped):
        execute([make_run(*asked, f"seed={s}") for s in range(2)], store, [told, stopping_at(3)])
    records = execute([make_run(*asked, f"seed={s}") for s in (0, 2)], store, [told] * 2)
    assert [r.measured["resumed_from"] for r in records] == [None, None]
    log = (store.folder(records[0].key) / "log.txt").read_text()
    assert "is set aside: it was made with key" in log


def test_what_is_given_back_is_saved_first(
    make_run: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bluestab.core import preemption

    steps: list[int] = []
    monkeypatch.setattr(preemption, "is_requested", lambda: len(steps) >= 2)
    runs = [make_run(*ASKED, "checkpoint_every=1h", f"seed={s}") for s in range(2)]
    with pytest.raises(preemption.Preempted):
        execute(runs, store, [lambda *s: steps.append(s[0]), told])
    assert len(list((store.root / ".resume").glob("*/step-00000002-*.ckpt"))) == 1

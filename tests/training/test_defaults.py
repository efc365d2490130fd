"""What is left open becomes a plain value before it enters a key; what is said stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core import devices
from bluestab.core.config import compose, resolved
from bluestab.core.devices import Kind
from bluestab.core.errors import ConfigError
from bluestab.core.keys import with_trainer
from bluestab.techniques.base import Technique
from bluestab.techniques.llrd import Llrd
from bluestab.training.defaults import FORMER
from bluestab.training.packable import row_problems

Make = Callable[..., Any]
GAD = ("task=gad", "model=tiny", "device=cpu")
FAST_CPU, SLOW_CPU, GPU = Kind("cpu", True), Kind("cpu", False), Kind("cuda", True)


@pytest.fixture
def on(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A kind of device and overrides -> the run as it is checked there."""

    def make(kind: Kind, *overrides: str) -> Any:
        monkeypatch.setattr(devices, "kind_of", lambda device: kind)
        return make_run(*GAD, *overrides)

    return make


def found(run: Any) -> tuple[Any, Any]:
    knobs = run.cfg["trainer"]
    return knobs["precision"], knobs["micro_batch"]


@pytest.mark.parametrize(
    ("kind", "overrides", "expected"),
    [
        (FAST_CPU, (), ("bf16", 4)),
        (SLOW_CPU, (), (32, 4)),
        (GPU, (), ("bf16", None)),
        (Kind("cuda", False), (), (32, None)),
        (Kind("mps", False), (), (32, None)),
        (FAST_CPU, ("trainer.precision=auto",), ("bf16", 4)),
        (FAST_CPU, ("trainer.precision=32",), (32, 4)),
        (SLOW_CPU, ("trainer.precision=bf16",), ("bf16", 4)),
        (FAST_CPU, ("trainer.micro_batch=null",), ("bf16", None)),
        (GPU, ("trainer.micro_batch=8",), ("bf16", 8)),
        (FAST_CPU, ("trainer.micro_batch.cpu=2",), ("bf16", 2)),
        (GPU, ("trainer.micro_batch.cpu=2",), ("bf16", None)),
        (FAST_CPU, ("trainer.engine=packed",), ("bf16", None)),
        (FAST_CPU, ("trainer.devices=2",), ("bf16", None)),
        (FAST_CPU, ("trainer.devices=2", "trainer.micro_batch=2"), ("bf16", 2)),
        (FAST_CPU, ("technique=r3f",), (32, 4)),
        (FAST_CPU, ("technique=[llrd,r3f]", "technique.r3f.eps=0.1"), ("bf16", 4)),
    ],
)
def test_what_becomes_of_what_is_left_open(
    on: Make, kind: Kind, overrides: tuple[str, ...], expected: tuple[Any, Any]
) -> None:
    run = on(kind, *overrides)
    assert found(run) == expected
    assert {o.partition("=")[0] for o in run.settled.overrides()} <= set(FORMER)


def test_a_default_is_what_it_becomes(on: Make) -> None:
    """The same run, by whichever name: what was said to be fast keeps its key as a default."""
    said = (
        *("trainer.precision=bf16", "trainer.micro_batch=4", "trainer.dropout_masks=sfc64"),
        "trainer.embedding_rows=used",
    )
    run = on(FAST_CPU)
    assert run.settled.overrides() == list(said)
    spelled = on(GPU, *said)
    assert spelled.key == run.key
    assert spelled.settled.overrides() == []


UNSAID = {"dropout_masks": "torch", "embedding_rows": "all"}
"""What a key that does not name them means."""


@pytest.mark.parametrize(
    ("knob", "kind", "overrides", "value"),
    [
        ("dropout_masks", FAST_CPU, (), "sfc64"),
        ("dropout_masks", GPU, (), "torch"),
        ("dropout_masks", FAST_CPU, ("trainer.dropout_masks=torch",), "torch"),
        ("dropout_masks", GPU, ("trainer.dropout_masks=sfc64",), "sfc64"),
        ("dropout_masks", FAST_CPU, ("trainer.engine=packed",), "torch"),
        ("embedding_rows", FAST_CPU, (), "used"),
        ("embedding_rows", GPU, (), "all"),
        ("embedding_rows", GPU, ("trainer.embedding_rows=used",), "used"),
        ("embedding_rows", FAST_CPU, ("trainer.embedding_rows=all",), "all"),
        ("embedding_rows", FAST_CPU, ("trainer.engine=packed",), "all"),
        ("embedding_rows", FAST_CPU, ("technique=llrd",), "used"),
        ("embedding_rows", FAST_CPU, ("technique=[llrd,mixout]",), "all"),
        ("embedding_rows", FAST_CPU, ("keep_path_integral=true", "keep=last"), "all"),
    ],
)
def test_who_draws_dropout_masks_and_which_rows_of_the_word_embeddings_are_held(
    on: Make, knob: str, kind: Kind, overrides: tuple[str, ...], value: str
) -> None:
    run = on(kind, *overrides)
    assert run.cfg["trainer"][knob] == value
    assert run.hashed["trainer"].get(knob, UNSAID[knob]) == value


def test_a_group_draws_its_own_masks(on: Make) -> None:
    with pytest.raises(ConfigError, match=r"dropout_masks is sfc64: a group draws its own"):
        on(FAST_CPU, "trainer.engine=packed", "trainer.dropout_masks=sfc64")


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (("technique=mixout",), "technique mixout reads the whole table of word embeddings"),
        (("keep_path_integral=true", "keep=last"), "keep_path_integral=true needs the whole"),
        (("trainer.engine=packed",), "embedding_rows is used: seeds draw other items"),
    ],
)
def test_used_rows_are_refused_where_others_are_read(
    on: Make, overrides: tuple[str, ...], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        on(FAST_CPU, "trainer.embedding_rows=used", *overrides)


@pytest.mark.parametrize(("task", "refused"), [("mlm", 1), ("linking", 1), ("gad", 0)])
def test_pieces_are_drawn_or_looked_up_in_no_part_of_a_table(task: str, refused: int) -> None:
    cfg = resolved(compose([f"task={task}", "trainer.embedding_rows=used"]))
    assert len(row_problems(cfg, {})) == refused
    assert row_problems(resolved(compose([f"task={task}", "trainer.embedding_rows=all"])), {}) == []


@pytest.mark.parametrize("value", ["mt19937", "{cpu:mt19937}"])
def test_unknown_masks_are_refused(on: Make, value: str) -> None:
    expected = "expected one of torch, sfc64; or one of these for each of cpu, cuda and mps"
    with pytest.raises(ConfigError, match=f"trainer.dropout_masks is .*: {expected}"):
        on(FAST_CPU, f"trainer.dropout_masks={value}")


def test_a_technique_that_needs_whole_batches_gets_them(
    on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole(self: Technique, cfg: Any, model: Any) -> list[str]:
        size = cfg["trainer"]["micro_batch"]
        return [] if size is None else [f"trainer.micro_batch is {size}: whole batches are needed"]

    monkeypatch.setattr(Llrd, "check", whole)
    assert found(on(FAST_CPU, "technique=llrd")) == ("bf16", None)
    with pytest.raises(ConfigError, match=r"trainer.micro_batch is 4: whole batches"):
        on(FAST_CPU, "technique=llrd", "trainer.micro_batch=4")


def test_the_former_defaults_keep_their_keys(on: Make) -> None:
    said = (
        *("trainer.precision=32", "trainer.micro_batch=null", "trainer.dropout_masks=torch"),
        "trainer.embedding_rows=all",
    )
    former = on(FAST_CPU, *said)
    assert former.hashed["trainer"]["precision"] == 32
    assert not {"micro_batch", "dropout_masks", "embedding_rows"} & former.hashed["trainer"].keys()
    assert with_trainer(on(FAST_CPU).hashed, FORMER) == former.hashed


@pytest.mark.parametrize("value", ["0", "{cpu:0}", "all"])
def test_wrong_sizes_are_refused(on: Make, value: str) -> None:
    expected = "expected a whole number >= 1, or null; or one of these for each of cpu, cuda"
    with pytest.raises(ConfigError, match=f"trainer.micro_batch is .*: {expected}"):
        on(FAST_CPU, f"trainer.micro_batch={value}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n", True),
        ("processor : 0\nFeatures\t: fp asimd bf16 i8mm\n", True),
        ("model name : AMD bf16\nflags : fpu avx2\n", False),
        ("", False),
    ],
)
def test_which_processors_compute_in_bf16(
    text: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, *_, **__: text)
    devices.cpu_has_bf16.cache_clear()
    try:
        assert devices.cpu_has_bf16() is expected
    finally:
        devices.cpu_has_bf16.cache_clear()

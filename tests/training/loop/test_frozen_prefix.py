"""The frozen part computed once gives what computing it in every step gives."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from bluestab.data import cache
from bluestab.models.passes import model_logits, perturbed
from bluestab.store.store import Store
from bluestab.testing.technique_arms import HEADS, NAMES, chosen
from bluestab.training.loop import frozen_prefix
from tests.training.test_execute import done

Make = Callable[..., Any]
SHORT = ("device=cpu", "optim.steps=4", "optim.batch_size=6", "trainer.eval_every=2")
FROZEN = ("technique=freeze", "technique.freeze.depth=1")
OFF = "trainer.prefix_cache=false"
FAMILIES = ("tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert")

CANNOT = {"freelb", "r3f", "smart"}
"""Techniques that need every block even above a frozen one: they add noise below it."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLUESTAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / frozen_prefix.FOLDER


def fitted(assembly: Any) -> Any:
    """After training and a test; everything random starts where it would in a run."""
    from bluestab.core.seeding import seed_global_streams

    seed_global_streams(0)
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    assembly.trainer.test(assembly.module, assembly.loaders["test"], verbose=False)
    return assembly


def same(one: Any, other: Any, tolerance: float = 2e-5) -> None:
    """Losses, weights and logits of the test items, to the rounding of float32."""
    a, b = ([row["train_loss"] for row in x.history.rows] for x in (one, other))
    assert a == pytest.approx(b, rel=1e-4, abs=tolerance)
    weights = dict(other.built.model.named_parameters())
    for name, value in one.built.model.named_parameters():
        assert torch.allclose(value, weights[name], rtol=1e-3, atol=tolerance), name
    for a, b in zip(one.module.item_logits, other.module.item_logits, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=10 * tolerance)


@pytest.mark.parametrize(
    ("model", "task"),
    [
        # every family and every head once; all of their products are slow
        pytest.param(
            *(model, task),
            id=f"{model}-{head}",
            marks=[] if i % len(HEADS) == j or j % len(FAMILIES) == i else pytest.mark.slow,
        )
        for i, model in enumerate(FAMILIES)
        for j, (head, task) in enumerate(HEADS.items())
    ],
)
def test_every_family_and_head(make_assembly: Make, model: str, task: str) -> None:
    asked = (f"task={task}", f"model={model}", *SHORT, *FROZEN)
    with_cache, without = fitted(make_assembly(*asked)), fitted(make_assembly(*asked, OFF))
    assert (with_cache.prefix, without.prefix) == (1, None)
    same(with_cache, without)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("freeze", "pela")])
def test_every_technique_above_it(make_assembly: Make, name: str) -> None:
    """A new technique is tried by itself; one that needs the blocks below must say so. (`pela` and
    `freeze` refuse each other.)"""
    asked = ("task=gad", "model=tiny", *SHORT, *chosen("freeze", name))
    with_cache, without = fitted(make_assembly(*asked)), fitted(make_assembly(*asked, OFF))
    assert with_cache.prefix == (None if name in CANNOT else 1)
    same(with_cache, without)


@pytest.mark.parametrize("depth", [1, 2])
def test_frozen_blocks_compute_nothing(
    make_assembly: Make, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    asked = (
        "task=gad",
        "model=tiny",
        *SHORT,
        "technique=freeze",
        f"technique.freeze.depth={depth}",
    )
    first = make_assembly(*asked)
    attention = [block.attention for block in first.built.model.bert.encoder.layer]
    called = [0, 0]
    for i, module in enumerate(attention):

        def count(*args: Any, i: int = i, **kwargs: Any) -> None:
            called[i] += 1

        module.register_forward_pre_hook(count)
    fitted(first)
    assert called[:depth] == [0] * depth
    assert all(called[depth:])
    # and a second run computes them not even once
    monkeypatch.setattr(frozen_prefix, "_compute", lambda *_: pytest.fail("was computed again"))
    same(fitted(make_assembly(*asked)), first)


def test_micro_batches_take_their_part(make_assembly: Make) -> None:
    asked = ("task=ncbi_disease", "model=tiny", *SHORT, *FROZEN, "trainer.micro_batch=2")
    same(fitted(make_assembly(*asked)), fitted(make_assembly(*asked, OFF)))


def test_bf16(make_assembly: Make) -> None:
    asked = ("task=gad", "model=tiny", *SHORT, *FROZEN, "trainer.precision=bf16")
    same(fitted(make_assembly(*asked)), fitted(make_assembly(*asked, OFF)), tolerance=2e-3)


@pytest.mark.parametrize(
    ("asked", "depth"),
    [
        (("technique=none",), None),
        (("technique=freeze", "technique.freeze.depth=0"), None),
        ((*FROZEN, "technique.freeze.eval_mode=false"), None),
        ((*FROZEN, "technique.freeze.embeddings=false"), None),
        ((*FROZEN, "model.head=mean"), 1),
        ((*FROZEN, "model.head=concat:2"), 1),  # hears block 1, whose output is supplied
        (("technique=freeze", "technique.freeze.depth=2", "model.head=concat:2"), 1),
        (("technique=train_only",), None),
        (("technique=thaw",), None),
    ],
)
def test_how_deep_it_reaches(
    make_assembly: Make, asked: tuple[str, ...], depth: int | None
) -> None:
    line = ("task=gad", "model=tiny", *SHORT, *asked)
    assembly = make_assembly(*line)
    assert assembly.prefix == depth
    if depth is not None:
        same(fitted(assembly), fitted(make_assembly(*line, OFF)))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.arrow")}


def test_what_decides_the_states_decides_the_file(make_assembly: Make, folder: Path) -> None:
    """Other texts, weights, depth, precision or batches never find each other's states."""
    asked = ("task=gad", "model=tiny", *SHORT, *FROZEN)
    make_assembly(*asked)
    seen = names(folder)
    assert len(seen) == 3  # a file for every split
    for other, n_new in (
        ("seed=1", 0),
        ("optim.lr=1e-3", 0),
        ("task.train_size=10", 1),
        ("task.max_length=24", 3),
        ("technique.freeze.depth=2", 3),
        ("trainer.precision=bf16", 3),
        ("trainer.eval_batch_size=5", 3),
        ("trainer.eval_tokens=64", 3),
        ("trainer.attention.cpu=sdpa", 3),
    ):
        make_assembly(*asked, other)
        assert len(names(folder) - seen) == n_new, other
        seen |= names(folder)


def test_other_weights_are_other_states(make_assembly: Make, folder: Path) -> None:
    assembly = make_assembly("task=gad", "model=tiny", *SHORT, *FROZEN, OFF)
    found = frozen_prefix.find_prefix(assembly.built, assembly.plan, [])
    with torch.no_grad():
        assembly.built.model.bert.encoder.layer[1].output.dense.weight[0, 0] += 1e-3
    above = frozen_prefix.find_prefix(assembly.built, assembly.plan, [])
    with torch.no_grad():
        assembly.built.model.bert.encoder.layer[0].output.dense.weight[0, 0] += 1e-3
    below = frozen_prefix.find_prefix(assembly.built, assembly.plan, [])
    assert found is not None
    assert above == found
    assert below is not None
    assert below.digest != found.digest


def test_a_damaged_file_is_computed_again(make_assembly: Make, folder: Path) -> None:
    asked = ("task=gad", "model=tiny", *SHORT, *FROZEN)
    whole = fitted(make_assembly(*asked))
    for path in folder.glob("*.arrow"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    again = fitted(make_assembly(*asked))
    assert again.prefix == 1
    same(again, whole, tolerance=0.0)


def test_without_a_cache_they_are_computed_in_memory(
    make_assembly: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("task=gad", "model=tiny", *SHORT, *FROZEN)
    kept = fitted(make_assembly(*asked))
    monkeypatch.setenv("BLUESTAB_CACHE", "/proc/nowhere")
    same(fitted(make_assembly(*asked)), kept, tolerance=0.0)


def test_too_large_for_the_budget(
    make_assembly: Make, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    asked = ("task=gad", "model=tiny", *SHORT, *FROZEN, "trainer.prefix_gb=1e-6")
    with caplog.at_level(logging.INFO, "bluestab"):
        assembly = make_assembly(*asked)
    assert assembly.prefix is None
    assert not folder.exists()
    assert "trainer.prefix_gb allows 1e-06: they are computed in every step" in caplog.text
    same(fitted(assembly), fitted(make_assembly(*asked, OFF)), tolerance=0.0)


def test_the_file_used_longest_ago_makes_room(folder: Path) -> None:
    table = pa.table({"states": pa.array([0.5] * 1000, type=pa.float32())})

    def cached(letter: str) -> None:
        cache.cached(letter * 64, lambda: table, folder=frozen_prefix.FOLDER, budget=15e-6)

    def kept() -> str:
        return "".join(sorted(name[0] for name in names(folder)))

    for letter in "abc":
        cached(letter)
        for path in folder.glob(f"{letter}*"):
            os.utime(path, ns=(ord(letter), path.stat().st_mtime_ns))
    assert kept() == "abc"
    cached("a")  # is used: b is now the oldest
    cached("d")
    assert kept() == "acd"


def test_a_network_called_past_the_batch_is_told(make_assembly: Make) -> None:
    assembly = make_assembly("task=gad", "model=tiny", *SHORT, *FROZEN)
    said = r"set trainer\.prefix_cache=false"
    with pytest.raises(RuntimeError, match=said):
        assembly.built.model(input_ids=torch.ones((1, 4), dtype=torch.int64))
    batch = next(iter(assembly.loaders["train"]))
    model_logits(assembly.built.model, batch)
    with (
        perturbed(assembly.built.model, torch.zeros((*batch["input_ids"].shape, 32))),
        pytest.raises(RuntimeError, match=said),
    ):
        model_logits(assembly.built.model, batch)


def test_a_run_says_it_and_keeps_whole_weights(make_run: Make, tmp_path: Path) -> None:
    asked = ("task=gad", "model=tiny", *SHORT, *FROZEN, "keep=last")
    runs = [make_run(*asked), make_run(*asked, OFF)]
    assert runs[0].key != runs[1].key
    on, off = (done(run, tmp_path / "runs") for run in runs)
    assert (on.measured["frozen_prefix"], off.measured["frozen_prefix"]) == (1, None)
    assert on.result["effects"] == off.result["effects"]
    assert on.result["score"] == pytest.approx(off.result["score"], abs=1e-4)
    from safetensors.torch import load_file

    one, other = (
        load_file(next(Store(tmp_path / "runs").folder(r.key).rglob("model.safetensors")))
        for r in (on, off)
    )
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[n], other[n], rtol=1e-3, atol=2e-5) for n in one)

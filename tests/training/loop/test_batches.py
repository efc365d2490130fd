"""Which items meet in a batch: buckets of like length, evaluation within a budget of pieces."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from datasets import Dataset  # noqa: E402

from bluestab.training.loop.batches import (  # noqa: E402
    ShuffledOrder,
    bucketed,
    evaluation_batches,
    training_order,
)
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


def table(lengths: list[int]) -> Dataset:
    return Dataset.from_dict({"input_ids": [[1] * length for length in lengths]})


def batches(rows: list[int], size: int) -> list[list[int]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


# --- training ------------------------------------------------------------------------------------


def test_by_hand() -> None:
    """Two windows of two batches of two, and one item over."""
    lengths, order = [9, 1, 8, 2, 7, 3, 6, 4, 5], [0, 1, 2, 3, 4, 5, 6, 7, 8]
    found = batches(bucketed(order, lengths, 2, 2, torch.Generator()), 2)
    assert sorted(found[:2]) == [[1, 3], [2, 0]]
    assert sorted(found[2:4]) == [[5, 7], [6, 4]]
    assert found[4:] == [[8]]


@given(lengths=LENGTHS, size=st.integers(1, 9), window=st.integers(2, 6), seed=st.integers(0, 9))
def test_only_whole_batches_of_a_window_are_sorted(
    lengths: list[int], size: int, window: int, seed: int
) -> None:
    plain = list(ShuffledOrder(len(lengths), seed))
    optim = {"batch_size": size, "bucket": window}
    found = list(training_order(table(lengths), optim, seed))
    whole = len(plain) - len(plain) % size
    assert found[whole:] == plain[whole:]
    for start in range(0, whole, size * window):
        end = min(start + size * window, whole)
        assert sorted(found[start:end]) == sorted(plain[start:end]), "the same items meet there"
        parts = sorted(batches([lengths[row] for row in found[start:end]], size))
        assert list(itertools.chain(*parts)) == sorted(lengths[row] for row in plain[start:end])


def test_plain_shuffle_unless_asked_and_a_pure_function_of_seed_and_epoch() -> None:
    rows = table([length % 13 + 1 for length in range(50)])
    plain = training_order(rows, {"batch_size": 4, "bucket": None}, 3)
    assert list(plain) == list(ShuffledOrder(50, 3))
    order = training_order(rows, {"batch_size": 4, "bucket": 5}, 3)
    first = list(order)
    assert list(order) == first
    order.set_epoch(1)
    second = list(order)
    other = list(training_order(rows, {"batch_size": 4, "bucket": 5}, 4))
    assert len({tuple(first), tuple(second), tuple(other)}) == 3
    order.resume(1, 8)
    assert list(order) == second[8:]


# --- evaluation ----------------------------------------------------------------------------------


@given(lengths=LENGTHS, size=st.integers(1, 9), tokens=st.none() | st.integers(1, 200))
def test_within_the_budget_and_no_smaller_than_it_allows(
    lengths: list[int], size: int, tokens: int | None
) -> None:
    trainer = {"eval_batch_size": size, "eval_tokens": tokens}
    found = evaluation_batches(table(lengths), trainer)
    assert sorted(itertools.chain(*found)) == list(range(len(lengths)))
    assert [lengths[row] for rows in found for row in rows] == sorted(lengths)
    budget = tokens or 10**9
    for rows in found:
        assert len(rows) <= size
        assert len(rows) * max(lengths[row] for row in rows) <= budget or len(rows) == 1
    for rows, after in itertools.pairwise(found):
        assert len(rows) == size or (len(rows) + 1) * lengths[after[0]] > budget


def test_by_hand_within_a_budget() -> None:
    rows = table([30, 2, 3, 12, 2])
    assert evaluation_batches(rows, {"eval_batch_size": 3, "eval_tokens": 12}) == [
        [1, 4, 2], [3], [0]
    ]  # fmt: skip


# --- whole runs ----------------------------------------------------------------------------------

SHORT = ("task=gad", "model=tiny", "device=cpu", "optim.batch_size=4", "optim.epochs=2")


def widths(make_assembly: Make, *knobs: str) -> dict[str, list[tuple[int, ...]]]:
    loaders = make_assembly(*SHORT, *knobs).loaders
    return {
        split: [tuple(batch["input_ids"].shape) for batch in found]
        for split, found in loaders.items()
    }


def padded(shapes: list[tuple[int, ...]]) -> int:
    return sum(n_items * width for n_items, width in shapes)


def test_a_run_pads_less(make_assembly: Make) -> None:
    plain, less = widths(make_assembly), widths(make_assembly, "optim.bucket=50")
    assert padded(less["train"]) < padded(plain["train"])
    assert sum(n for n, _ in less["train"]) == sum(n for n, _ in plain["train"])
    assert less["test"] == plain["test"]
    bounded = widths(make_assembly, "trainer.eval_tokens=128")
    assert bounded["train"] == plain["train"]
    assert len(bounded["test"]) > len(plain["test"])
    assert max(n * width for n, width in bounded["test"] if n > 1) <= 128


def test_the_budget_changes_rounding_only_and_buckets_the_run(
    make_run: Make, tmp_path: Path
) -> None:
    def result(*knobs: str) -> Any:
        return done(make_run(*SHORT, *knobs), tmp_path / "runs")

    plain, bounded, alike = result(), result("trainer.eval_tokens=128"), result("optim.bucket=50")
    assert len({plain.key, bounded.key, alike.key}) == 3

    def losses(record: Any) -> list[str]:
        with (tmp_path / "runs" / record.key / "curve.csv").open() as file:
            return [row["train_loss"] for row in csv.DictReader(file)]

    assert losses(bounded) == losses(plain) != losses(alike)
    for at in ("last", "best"):
        ours, theirs = (record.result["metrics"][at]["test"] for record in (bounded, plain))
        assert ours == pytest.approx(theirs, rel=1e-4)

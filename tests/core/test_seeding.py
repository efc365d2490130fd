"""Streams: equal for equal seed and name on every machine, unrelated otherwise.

Literal values are pinned: if one changes, every stored run means something else.
"""

from __future__ import annotations

import inspect
import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bluestab.core import seeding
from bluestab.core.seeding import Seeds, generator, stream_seed, subset
from bluestab.tasks.data import EVALUATION_SEED
from bluestab.training.loop.batches import ShuffledOrder

FREE = {"init": None, "order": None, "dropout": None, "split": 0}


def test_pinned_streams() -> None:
    assert stream_seed(0) == 3456079177858693020
    assert stream_seed(0, "init", "classifier.weight") == 7401772914680653218
    assert stream_seed(1, "init", "classifier.weight") == 5919147005609827716
    assert stream_seed(0, "order", 0) == 3955691223199900983
    assert stream_seed(0, "step", 0) == 5243349180942421779


def test_pinned_draws() -> None:
    assert torch.randint(1000, (4,), generator=generator(0, "init", "x")).tolist() == [
        771,
        714,
        412,
        721,
    ]
    assert list(ShuffledOrder(8, seed=0)) == [7, 5, 6, 0, 3, 4, 1, 2]
    items = [f"item {i}" for i in range(20)]
    assert subset(items, items, 4, 0, "subset/train") == ["item 2", "item 5", "item 6", "item 18"]


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_streams_are_distinct_and_fit_torch(one: int, other: int) -> None:
    names = [("init", "a"), ("init", "b"), ("order", 0), ("order", 1), ("step", 0), ("step", 10)]
    seeds = {stream_seed(seed, *name) for seed in {one, other} for name in names}
    assert len(seeds) == len({one, other}) * len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_digits_cannot_be_moved_between_seed_and_name() -> None:
    assert stream_seed(1, "2") != stream_seed(12)
    assert stream_seed(1, 23) != stream_seed(12, 3)


def test_a_generator_starts_anew_and_leaves_the_global_one_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = torch.rand(3, generator=generator(0, "init", "w"))
    assert torch.equal(first, torch.rand(3, generator=generator(0, "init", "w")))
    assert torch.equal(torch.rand(2), expected)


def test_no_stream_can_know_the_technique() -> None:
    """Arms are comparable because nothing that draws is told which arm it draws for."""
    for function in (Seeds.from_config, stream_seed, generator, subset):
        assert "technique" not in inspect.signature(function).parameters
    assert "technique" not in inspect.signature(ShuffledOrder).parameters
    assert "bluestab.techniques" not in inspect.getsource(seeding)


def test_streams_follow_the_seed_except_split() -> None:
    assert Seeds.from_config(7, FREE) == Seeds(init=7, order=7, dropout=7, split=0)
    assert Seeds.from_config(7, {**FREE, "order": 0}) == Seeds(7, 0, 7, 0)
    assert Seeds.from_config(7, {**FREE, "split": 3}) == Seeds(7, 7, 7, 3)
    assert Seeds.from_config(7, {**FREE, "split": None}).split == 0
    assert Seeds(1, 2, 3, 4).as_dict() == {"init": 1, "order": 2, "dropout": 3, "split": 4}


def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_only() -> None:
    order = ShuffledOrder(50, seed=3)
    first = list(order)
    assert sorted(first) == list(range(50))
    assert list(order) == first, "asking twice changes nothing"
    order.set_epoch(1)
    second = list(order)
    order.set_epoch(0)
    assert list(order) == first
    assert len({tuple(first), tuple(second), tuple(ShuffledOrder(50, seed=4))}) == 3


@pytest.mark.parametrize("seed", [EVALUATION_SEED, 1, 2])
def test_subsets_are_nested_across_sizes(seed: int) -> None:
    ids = [str(i) for i in range(60)]
    sets = [subset(ids, ids, size, seed, "subset/train") for size in range(61)]
    for small, large in itertools.pairwise(sets):
        assert set(small) < set(large)
        assert large == sorted(large, key=int), "in the file's order"
    assert sets[60] == ids
    assert subset(ids, ids, 30, seed, "subset/test") != sets[30]
    assert subset(ids, ids, 30, seed + 1, "subset/train") != sets[30]


def test_subsets_know_items_by_their_id() -> None:
    """Neither the order of the file nor other items change who is ranked first."""
    ids = [str(i) for i in range(60)]
    chosen = set(subset(ids, ids, 20, 0, "subset/train"))
    shuffled = random.Random(0).sample(ids, len(ids))
    assert set(subset(shuffled, shuffled, 20, 0, "subset/train")) == chosen
    without = [i for i in ids if i not in list(chosen)[:5]]
    assert chosen & set(without) <= set(subset(without, without, 20, 0, "subset/train"))

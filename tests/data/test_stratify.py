"""Parts that are drawn: even in labels, whole in groups, the same for the same items and seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluestab.data.stratify import assign, bins, joined, rarest

SHARES = (0.64, 0.16, 0.2)


def test_every_label_keeps_its_share() -> None:
    strata = ["a"] * 100 + ["b"] * 50 + ["c"] * 5 + ["d"]
    parts = assign(strata, range(len(strata)), SHARES, seed=0, name="parts")
    for label, n in Counter(strata).items():
        found = Counter(p for p, s in zip(parts, strata, strict=True) if s == label)
        for part, share in enumerate(SHARES):
            assert abs(found[part] - share * n) <= 1, (label, part)
    assert parts[-1] == 0, "what occurs once is trained on"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=60),
    st.integers(0, 5),
)
def test_groups_stay_together_and_nothing_is_lost(items: list[tuple[str, int]], seed: int) -> None:
    strata, groups = zip(*items, strict=True)
    parts = assign(strata, groups, SHARES, seed=seed, name="parts")
    assert len(parts) == len(items)
    assert all(
        len({p for p, g in zip(parts, groups, strict=True) if g == group}) == 1 for group in groups
    )
    assert parts == assign(strata, groups, SHARES, seed=seed, name="parts")


def test_the_seed_and_nothing_else_draws() -> None:
    strata, groups = ["a", "b"] * 30, range(60)
    one, other = (assign(strata, groups, [1, 1, 1], seed=s, name="folds") for s in (0, 1))
    assert one != other
    assert Counter(one) == Counter(other) == {0: 20, 1: 20, 2: 20}


def test_groups_are_spread_by_their_labels() -> None:
    """Ten documents of ten items; a fifth of the labels is in two of them."""
    groups = [i // 10 for i in range(100)]
    strata = ["rare" if g in (3, 7) else "often" for g in groups]
    parts = assign(strata, groups, [0.5, 0.5], seed=0, name="parts")
    assert Counter(p for p, s in zip(parts, strata, strict=True) if s == "rare") == {0: 10, 1: 10}


def test_items_are_joined_by_any_key() -> None:
    found = joined(["p", "p", None, "q", None], ["x", "y", "y", "z", "w"])
    assert found[0] == found[1] == found[2]
    assert len(set(found)) == 3


def test_strata_of_numbers_and_of_sets() -> None:
    assert bins([5, 1, 4, 2, 3], 5) == [4, 0, 3, 1, 2]
    assert Counter(bins([1.0] * 10, 5)) == dict.fromkeys(range(5), 2)
    assert rarest([["a", "b"], ["a"], [], ["a", "b", "c"]]) == ["b", "a", "", "c"]


def test_shares_need_not_sum_to_one() -> None:
    parts = assign(["a"] * 30, range(30), [3, 2, 1], seed=0, name="x")
    assert Counter(parts) == {0: 15, 1: 10, 2: 5}


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_items_go_to_training_first(n: int) -> None:
    parts = assign(["a"] * n, range(n), SHARES, seed=0, name="parts")
    assert parts.count(0) >= n - 1

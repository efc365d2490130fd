"""Shares of variance between two seeds, and means over folds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as oracle

from bluestab import stats


def test_two_way_by_hand() -> None:
    """Rows 1 2 3 / 3 4 8: means 2, 5; columns 2, 3, 5.5."""
    found = stats.two_way([[1, 2, 3], [3, 4, 8]])
    assert found is not None
    assert (found.df_init, found.df_order, found.df_residual) == (1, 2, 2)
    assert found.f_init == pytest.approx(13.5 / 1.5)
    assert found.f_order == pytest.approx(6.5 / 1.5)
    assert found.residual == pytest.approx(1.5)
    assert found.init == pytest.approx((13.5 - 1.5) / 3)
    assert found.order == pytest.approx((6.5 - 1.5) / 2)
    assert found.p_init == pytest.approx(oracle.f.sf(9, 1, 2))
    assert found.p_order == pytest.approx(oracle.f.sf(13 / 3, 2, 2))
    total = 1.5 + 4 + 2.5
    assert (found.share_init, found.share_order, found.share_residual) == pytest.approx(
        (4 / total, 2.5 / total, 1.5 / total)
    )
    # varying the initialisation alone: columns (1, 3), (2, 4), (3, 8) have variances 2, 2, 12.5
    assert found.std_init_alone == pytest.approx(np.sqrt(5.5))
    assert found.std_order_alone == pytest.approx(np.sqrt((1 + 7) / 2))


def test_two_way_finds_what_was_put_in() -> None:
    rng = np.random.default_rng(9)
    found = [
        stats.two_way(
            2 * rng.normal(size=(8, 1)) + rng.normal(size=6) + 0.5 * rng.normal(size=(8, 6))
        )
        for _ in range(1500)
    ]
    means = np.mean([(f.init, f.order, f.residual) for f in found if f], axis=0)
    assert means == pytest.approx([4.0, 1.0, 0.25], rel=0.06)
    null = [stats.two_way(rng.normal(size=(5, 5))) for _ in range(2000)]
    for share in (
        np.mean([f.p_init <= 0.05 for f in null if f and f.p_init is not None]),
        np.mean([f.p_order <= 0.05 for f in null if f and f.p_order is not None]),
    ):
        assert share == pytest.approx(0.05, abs=0.015)


def test_two_way_edges() -> None:
    scores = np.random.default_rng(10).normal(size=(4, 3))
    found = stats.two_way(scores)
    assert stats.two_way(scores[::-1, [2, 0, 1]]) == found
    turned = stats.two_way(scores.T)
    assert found is not None
    assert turned is not None
    assert turned.init == pytest.approx(found.order)
    flat = stats.two_way(np.full((3, 3), 0.1))
    assert flat is not None
    assert (flat.init, flat.share_init, flat.f_init, flat.p_init) == (0.0, None, None, None)
    assert stats.two_way([[1.0, 2.0]]) is None
    with pytest.raises(ValueError, match=r"not of shape \(2,\)"):
        stats.two_way([1.0, 2.0])
    with pytest.raises(ValueError, match="failure_score"):
        stats.two_way([[1.0, np.nan], [1.0, 2.0]])


def test_nested_mean_by_hand() -> None:
    found = stats.nested_mean({1: [0.6, 0.8], 0: [0.5], 10: [0.9, 0.9, 0.9]})
    assert found is not None
    assert found.by_fold == pytest.approx([0.5, 0.7, 0.9])
    assert found.mean == pytest.approx(0.7)
    assert found.std_folds == pytest.approx(0.2)
    assert found.std_seeds == pytest.approx(np.sqrt((0.02 + 0) / 2))
    assert (found.n_folds, found.n) == (3, 6)
    single = stats.nested_mean({"a": [0.5]})
    assert single is not None
    assert (single.std_folds, single.std_seeds) == (None, None)
    assert stats.nested_mean({}) is None
    with pytest.raises(ValueError, match="fold 'b' has no score"):
        stats.nested_mean({"a": [1.0], "b": []})


def test_two_stages_of_one_setting_are_two_way() -> None:
    scores = np.random.default_rng(11).normal(size=(4, 3))
    one, other = stats.two_stages(scores[None]), stats.two_way(scores)
    assert one is not None
    assert other is not None
    assert one.setting is None
    assert (one.before, one.after, one.residual) == pytest.approx(
        (other.init, other.order, other.residual)
    )
    assert one.shares == pytest.approx(
        (0, other.share_init, other.share_order, other.share_residual)
    )


def test_two_stages_find_what_was_put_in() -> None:
    rng = np.random.default_rng(12)
    found = []
    for _ in range(800):
        setting, before = 1.5 * rng.normal(size=(6, 1, 1)), 2 * rng.normal(size=(6, 5, 1))
        drawn = setting + before + rng.normal(size=4) + 0.5 * rng.normal(size=(6, 5, 4))
        found.append(stats.two_stages(drawn))
    means = np.mean([(f.setting, f.before, f.after, f.residual) for f in found if f], axis=0)
    assert means == pytest.approx([2.25, 4.0, 1.0, 0.25], rel=0.12)


def test_two_stages_edges() -> None:
    flat = stats.two_stages(np.full((2, 2, 2), 0.1))
    assert flat is not None
    assert flat.shares is None
    assert stats.two_stages(np.zeros((2, 1, 3))) is None
    assert stats.two_stages(np.zeros((2, 3, 1))) is None
    for wrong in (np.zeros((2, 2)), np.full((1, 2, 2), np.nan)):
        with pytest.raises(ValueError, match="score"):
            stats.two_stages(wrong)

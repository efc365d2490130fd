"""Failed runs of two arms: exact tests, Newcombe's published example, and what was not seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as oracle

from bluestab.stats.failing import at_most, mcnemar, newcombe_paired, unseen
from tests.support.contrasts import changes


def pairs(a: int, b: int, c: int, d: int) -> tuple[list[bool], list[bool]]:
    own = [True] * (a + b) + [False] * (c + d)
    return own, [True] * a + [False] * b + [True] * c + [False] * d


def test_mcnemar_is_a_binomial_of_the_discordant() -> None:
    for cells in ((0, 8, 0, 2), (3, 7, 1, 9), (5, 2, 2, 11)):
        own, reference = pairs(*cells)
        found = mcnemar(own, reference)
        expected = oracle.binomtest(cells[1], cells[1] + cells[2]).pvalue
        assert found.p == pytest.approx(min(1.0, expected))
        assert found.statistic == pytest.approx((cells[1] - cells[2]) / sum(cells))
    assert mcnemar([True] * 10, [True] * 10).p == 1.0
    assert mcnemar([True] * 5, [False] * 5).p is None
    with pytest.raises(ValueError, match="cannot be paired"):
        mcnemar([True], [])


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((54, 0, 0, 0), -0.0664, 0.0664),
        ((0, 0, 0, 30), -0.1135, 0.1135),
    ],
)  # fmt: skip
def test_newcombe_published(cells: tuple[int, ...], low: float, high: float) -> None:
    """Newcombe 1998, method 10; without a discordant pair the ends are those of Wilson's."""
    found = newcombe_paired(*pairs(*cells))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_upper_bound_of_a_share() -> None:
    for failed, n in ((0, 10), (1, 20), (4, 9)):
        exact = oracle.binomtest(failed, n, alternative="less").proportion_ci(0.95)
        assert at_most(failed, n) == pytest.approx(exact.high)
    assert at_most(3, 3) == at_most(0, 0) == 1.0


def test_failures_that_were_not_seen() -> None:
    """Ten seeds cannot exclude a failed share of 25.9 %, which undoes 0.1 but not 0.3."""
    none, fine = np.full(10, 0.5), [False] * 10
    for gain, turns in ((0.1, True), (0.3, False)):
        found = unseen(none + gain, none, fine, fine, 0.0)
        assert found is not None
        assert found.share == pytest.approx(1 - 0.05**0.1)
        assert found.turns is turns
        turned = unseen(none, none + gain, fine, fine, 0.0)
        assert turned is not None
        # the baseline is ahead: it is its own failures that would undo it
        assert turned.turns is turns
    lower = unseen(none - 0.1, none, fine, fine, 1.0, higher_is_better=False)
    assert lower is not None
    assert lower.turns
    assert unseen(none, none, fine, fine, 0.0) is None
    assert unseen(none + 0.1, none, fine, fine, None) is None


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 10, 20])
def test_equal_means_and_unequal_failing_are_not_called_a_change(n: int) -> None:
    plain, guarded = rejections(n)
    assert guarded <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5, (plain, guarded)


def rejections(n: int, experiments: int = 1000) -> tuple[float, float]:
    """A remedy without failures beside 20 % of them, means equal: how often p < 5 % is reached,
    and how often failures not seen could not turn it."""
    rng = np.random.default_rng(n)
    plain = guarded = 0
    for _ in range(experiments):
        failed = rng.random(n) < 0.2
        base = np.where(failed, 0.4, 0.8) + 0.02 * rng.normal(size=n)
        own = 0.72 + 0.02 * rng.normal(size=n)
        one = changes({"x": dict(enumerate(own))}, dict(enumerate(base)))["x"]
        if one.p is None or one.p >= 0.05:
            continue
        plain += 1
        found = unseen(own, base, [False] * n, failed.tolist(), 0.4)
        guarded += found is not None and not found.turns
    return plain / experiments, guarded / experiments

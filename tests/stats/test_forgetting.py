"""Forgetting and transfer of one sequence, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bluestab.stats.forgetting import average, backward, drops, forgetting, forward, reduction

NAN = float("nan")
SCORES = [[0.8, NAN, NAN], [0.9, 0.6, NAN], [0.5, 0.4, 0.7]]


def test_by_hand() -> None:
    assert average(SCORES) == pytest.approx((0.5 + 0.4 + 0.7) / 3)
    assert forgetting(SCORES) == pytest.approx((0.4 + 0.2) / 2), "the best before, not the first"
    assert backward(SCORES) == pytest.approx(-(0.3 + 0.2) / 2)
    assert drops(SCORES) == pytest.approx([0.3, 0.2])
    assert forward(SCORES, [9.0, 0.5, 0.4]) == pytest.approx((0.1 + 0.3) / 2)


def test_a_task_that_gains_is_not_hidden() -> None:
    assert forgetting([[0.5, NAN], [0.7, 0.6]]) == pytest.approx(-0.2)


def test_reduction_is_a_ratio_of_means() -> None:
    found, interval = reduction([[0.1], [0.0]], [[0.1], [0.3]])
    assert found == pytest.approx(1 - 0.05 / 0.2)
    assert interval is None, "two seeds say nothing of their spread"
    own, other = [[0.1, 0.2], [0.2, 0.2], [0.1, 0.0]], [[0.4, 0.4], [0.3, 0.5], [0.5, 0.5]]
    found, interval = reduction(own, other)
    assert interval is not None
    assert interval.low < found < interval.high
    assert reduction(own, other) == (found, interval)


@pytest.mark.parametrize("wrong", [[[1.0]], [[1.0, NAN], [NAN, 1.0]], np.zeros((2, 3))])
def test_what_is_no_such_table_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"\(T, T\)|finite score"):
        forgetting(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot be paired"):
        reduction([[1.0]], [[1.0], [2.0]])

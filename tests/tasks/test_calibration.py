"""Calibration by hand and against its definition, scikit-learn and torchmetrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import (
    brier_score_loss,
)

from bluestab.tasks.calibration import brier, ece

Score = Callable[[npt.ArrayLike, npt.ArrayLike], float | None]


def test_calibration_by_hand() -> None:
    p = [[0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [0.05, 0.95]]
    targets = [0, 1, 1, 1]
    # 5 bins: (0.4, 0.6] holds item 1 (wrong), (0.6, 0.8] items 0 and 2, (0.8, 1] item 3
    assert ece(p, targets, 5) == pytest.approx((1 * 0.6 + 2 * 0.25 + 1 * 0.05) / 4)
    # one bin: accuracy 3/4 against the mean confidence
    assert ece(p, targets, 1) == pytest.approx(abs(3 / 4 - (0.7 + 0.6 + 0.8 + 0.95) / 4))
    assert brier(p, targets) == pytest.approx(2 * (0.09 + 0.36 + 0.04 + 0.0025) / 4)
    # three classes: 0.5^2 + 0.3^2 + 0.2^2
    assert brier([[0.5, 0.3, 0.2]], [0]) == pytest.approx(0.38)


def test_calibration_at_its_ends() -> None:
    certain = np.eye(3)
    assert ece(certain, [0, 1, 2]) == brier(certain, [0, 1, 2]) == 0.0
    assert ece(certain, [1, 2, 0]) == 1.0
    assert brier(certain, [1, 2, 0]) == 2.0
    # a tie belongs to the first class, as in the prediction itself
    assert ece([[0.5, 0.5]], [0]) == ece([[0.5, 0.5]], [1]) == 0.5
    assert brier([[0.5, 0.5]], [0]) == 0.5
    assert ece([], []) is brier([], []) is ece(np.zeros((0, 3)), []) is None


def test_bins_are_closed_on_the_right() -> None:
    """0.5 on the edge of two bins: with 0.4 and not with 0.6; with 0.6 the errors would cancel."""
    p = np.array([[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]])
    # (0, 0.5]: right - confidence = 0.5 and -0.4; (0.5, 1]: 0.4
    assert ece(p, [0, 1, 0], 2) == pytest.approx((abs(0.5 - 0.4) + 0.4) / 3)
    # 1.0 lies in the last bin, beside 0.99
    p = np.array([[1.0, 0.0], [0.99, 0.01]])
    assert ece(p, [1, 0], 15) == pytest.approx(abs(-1.0 + 0.01) / 2)


@pytest.mark.parametrize("score", [ece, brier])
def test_calibration_refuses_nonsense(score: Score) -> None:
    good = [[0.5, 0.5], [0.1, 0.9]]
    for bad, said in [
        ([[0.5, 0.5], [0.5, 0.6]], "item 1: its probabilities sum to 1.1"),
        ([[0.5, 0.5], [1.2, -0.2]], "item 1: .* no probability"),
        ([[math.nan, 0.5], [0.1, 0.9]], "item 0: .* no probability"),
        ([[math.inf, 0.5], [0.1, 0.9]], "item 0: .* no probability"),
        ([0.5, 0.5], "shape"),
        ([[0.5, 0.5]], "shape"),
    ]:
        with pytest.raises(ValueError, match=said):
            score(bad, [0, 1])
    with pytest.raises(ValueError, match=r"item 1: target 2 is outside the classes 0 \.\. 1"):
        score(good, [0, 2])
    with pytest.raises(ValueError, match="item 0: target -100"):
        score(good, [-100, 0])
    with pytest.raises(ValueError, match="integers"):
        score(good, [0.0, 1.0])
    with pytest.raises(ValueError, match="shape"):
        score(good, [[0], [1]])
    with pytest.raises(ValueError, match="shape"):
        score([], [0])
    with pytest.raises(ValueError, match="n_bins is 0"):
        ece(good, [0, 1], 0)
    # what single precision makes of a softmax is near enough
    assert score(np.array([[1 / 3, 2 / 3 + 5e-5]]), [0]) is not None
    with pytest.raises(ValueError, match="sum to"):
        score(np.array([[1 / 3, 2 / 3 + 2e-4]]), [0])


def random_probabilities(
    n: int, seed: int
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
    """1 to 60 items, 2 to 7 classes, from even to nearly certain; right about as often as said."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        n_items, n_classes = int(rng.integers(1, 61)), int(rng.integers(2, 8))
        logits = rng.normal(size=(n_items, n_classes)) * 10 ** rng.uniform(-2, 1)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        noise = rng.integers(n_classes, size=n_items)
        yield p, np.where(rng.random(n_items) < 0.5, p.argmax(axis=1), noise)


def guo_ece(p: npt.NDArray[np.float64], targets: npt.NDArray[np.int64], n_bins: int) -> float:
    """Eq. 3 of Guo et al. 2017, bin by bin: sum of |B_m| / n * |acc(B_m) - conf(B_m)|."""
    confidence, predicted = p.max(axis=1), p.argmax(axis=1)
    total = 0.0
    for m in range(1, n_bins + 1):
        inside = (confidence > (m - 1) / n_bins) & (confidence <= m / n_bins)
        if inside.any():
            gap = np.mean(predicted[inside] == targets[inside]) - np.mean(confidence[inside])
            total += inside.mean() * abs(gap)
    return total


def test_calibration_equals_the_definition_and_scikit_learn() -> None:
    """3000 random cases; the Brier score of every tenth with scikit-learn, two classes and more."""
    for i, (p, targets) in enumerate(random_probabilities(3000, 10)):
        n_bins = (15, 10, 1, 100)[i % 4]
        assert ece(p, targets, n_bins) == pytest.approx(guo_ece(p, targets, n_bins), abs=1e-12)
        hot = np.eye(p.shape[1])[targets]
        assert brier(p, targets) == pytest.approx(((p - hot) ** 2).sum() / len(p))
        if i % 10 == 0:
            if p.shape[1] == 2:
                binary = brier_score_loss(targets, p[:, 1], pos_label=1, labels=[0, 1])
                assert brier(p, targets) == pytest.approx(2 * binary)
            else:
                labels = list(range(p.shape[1]))
                theirs = brier_score_loss(targets, p, labels=labels, scale_by_half=False)
                assert brier(p, targets) == pytest.approx(theirs)


def test_ece_equals_torchmetrics() -> None:
    """1000 random cases, and the two where torchmetrics bins otherwise."""
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    def theirs(p: npt.NDArray[np.float64], targets: npt.NDArray[np.int64], n_bins: int) -> float:
        score = multiclass_calibration_error(
            *(torch.tensor(p), torch.tensor(targets)),
            num_classes=p.shape[1],
            n_bins=n_bins,
            norm="l1",
        )
        return float(score)

    for i, (p, targets) in enumerate(random_probabilities(1000, 11)):
        n_bins = 15 if i % 2 else 10
        # in single precision, as torchmetrics has it, nothing may reach 1
        p = np.clip(p, 1e-4, None)
        p /= p.sum(axis=1, keepdims=True)
        assert ece(p, targets, n_bins) == pytest.approx(theirs(p, targets, n_bins), abs=1e-5)

    # an edge belongs to the bin below (ours, Guo et al.) or above (torchmetrics)
    p, targets = np.array([[0.5, 0.3, 0.2], [0.6, 0.2, 0.2]]), np.array([0, 1])
    assert ece(p, targets, 2) == pytest.approx((0.5 + 0.6) / 2)
    assert theirs(p, targets, 2) == pytest.approx(abs(0.5 - 0.6) / 2)
    # 1.0 has a bin of its own in torchmetrics
    p, targets = np.array([[1.0, 0.0], [0.99, 0.01]]), np.array([1, 0])
    assert ece(p, targets) == pytest.approx(0.99 / 2)
    assert theirs(p, targets, 15) == pytest.approx((1.0 + 0.01) / 2)

"""Scores of classes, labels and reals by hand and against scikit-learn and scipy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    root_mean_squared_error,
)

from bluestab.tasks.scoring import (
    accuracy,
    macro_f1,
    multilabel_f1,
    multilabel_macro_f1,
    pearson,
    positive_f1,
    rmse,
    spearman,
)
from tests.support.reference_scores import binary_f1

Score = Callable[[npt.ArrayLike, npt.ArrayLike], float | None]

# -------------------------------------------------------------------------------------- classes


def test_classes_by_hand() -> None:
    targets = [0, 0, 0, 1, 2]
    predictions = [1, 2, 0, 1, 2]
    assert accuracy(predictions, targets) == pytest.approx(3 / 5)
    # class 0: P 1, R 1/3, F1 1/2; class 1 and 2: P 1/2, R 1, F1 2/3; class 3: absent, F1 0
    assert macro_f1(predictions, targets, 3) == pytest.approx((1 / 2 + 2 / 3 + 2 / 3) / 3)
    assert macro_f1(predictions, targets, 4) == pytest.approx((1 / 2 + 2 / 3 + 2 / 3) / 4)
    # 2 right, 4 predicted positive, 2 truly positive
    assert positive_f1(predictions, targets, {1, 2}) == pytest.approx(2 * 2 / (4 + 2))


def test_classes_of_nothing_are_undefined() -> None:
    assert accuracy([], []) is None
    assert macro_f1([], [], 2) is None
    assert positive_f1([], [], {1}) is None


def test_all_negative_has_positive_f1_zero() -> None:
    assert positive_f1([0, 0], [0, 1], {1}) == 0.0
    assert positive_f1([0, 0], [0, 0], {1}) == 0.0


def test_positive_f1_pools_a_table_of_binary_decisions() -> None:
    predictions = np.array([[True, False], [True, True], [False, False]])
    targets = np.array([[1, 0], [0, 1], [0, 1]])
    assert positive_f1(predictions, targets, {1}) == pytest.approx(2 * 2 / (3 + 3))
    assert positive_f1(predictions, targets, {1}) == pytest.approx(
        f1_score(targets, predictions.astype(int), average="micro")
    )


def test_classes_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="shape"):
        accuracy([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="shape"):
        accuracy(np.zeros((3, 1), int), np.zeros(3, int))
    with pytest.raises(ValueError, match="one-dimensional"):
        accuracy(np.zeros((3, 2), int), np.zeros((3, 2), int))
    with pytest.raises(ValueError, match="integers"):
        accuracy([0.5, 1.0], [0, 1])
    with pytest.raises(ValueError, match="a target lies outside"):
        macro_f1([0, 1], [0, -100], 2)
    with pytest.raises(ValueError, match="a prediction lies outside"):
        macro_f1([0, 2], [0, 1], 2)
    with pytest.raises(ValueError, match="no class is positive"):
        positive_f1([0], [0], [])


Case = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def random_classes(n: int, seed: int, n_classes: int) -> list[Case]:
    """(predictions, targets), 1 to 40 items; classes that never occur, all wrong, all right."""
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(n):
        n_items = int(rng.integers(1, rng.choice([3, 12, 41])))
        targets = rng.integers(rng.integers(1, n_classes + 1), size=n_items)
        noise = rng.integers(rng.integers(1, n_classes + 1), size=n_items)
        right = rng.random(n_items) < rng.choice([0.0, 0.5, 0.9, 1.0])
        cases.append((np.where(right, targets, noise), targets))
    return cases


@pytest.mark.parametrize("n_classes", [2, 3, 6, 8])
def test_classes_equal_scikit_learn(n_classes: int) -> None:
    """1000 random cases each; the first 50 also with scikit-learn's own averages."""
    cases = random_classes(1000, n_classes, n_classes)
    positive = list(range(1, n_classes))

    def hot(x: npt.NDArray[np.int64], classes: Sequence[int]) -> npt.NDArray[np.int64]:
        return (x[:, None] == np.asarray(classes)).astype(np.int64)

    each = range(n_classes)
    per_class = binary_f1([(hot(p, [c])[:, 0], hot(t, [c])[:, 0]) for p, t in cases for c in each])
    macro = per_class.reshape(len(cases), n_classes).mean(axis=1)
    micro = binary_f1([(hot(p, positive).ravel(), hot(t, positive).ravel()) for p, t in cases])
    for i, (predictions, targets) in enumerate(cases):
        ours = (
            accuracy(predictions, targets),
            macro_f1(predictions.tolist(), targets.tolist(), n_classes),
            positive_f1(predictions, targets, positive),
        )
        assert ours == pytest.approx((np.mean(predictions == targets), macro[i], micro[i]))
        if i < 50:
            options = {"zero_division": 0}
            assert ours == pytest.approx(
                (
                    accuracy_score(targets, predictions),
                    f1_score(targets, predictions, average="macro", labels=each, **options),
                    f1_score(targets, predictions, average="micro", labels=positive, **options),
                )
            )


def test_positive_f1_is_not_ignore_index() -> None:
    """torchmetrics drops the items whose target is negative, and with them every false alarm."""
    import torch
    from torchmetrics.functional.classification import multiclass_f1_score

    def ignoring(predictions: list[int], targets: list[int], n_classes: int) -> float:
        score = multiclass_f1_score(
            torch.tensor(predictions),
            torch.tensor(targets),
            num_classes=n_classes,
            average="micro",
            ignore_index=0,
        )
        return float(score)

    # two false alarms on three negatives: perfect for the one, precision 1/2 for the other
    assert ignoring([1, 2, 0, 1, 2], [0, 0, 0, 1, 2], 3) == 1.0
    assert positive_f1([1, 2, 0, 1, 2], [0, 0, 0, 1, 2], {1, 2}) == pytest.approx(2 / 3)

    # six classes, most items negative, as in ChemProt: the order of magnitude of the difference
    rng = np.random.default_rng(4)
    targets = rng.choice(6, size=2000, p=[0.6, 0.08, 0.08, 0.08, 0.08, 0.08])
    predictions = np.where(rng.random(2000) < 0.8, targets, rng.integers(6, size=2000))
    ours = positive_f1(predictions, targets, range(1, 6))
    assert ours == pytest.approx(
        f1_score(targets, predictions, labels=range(1, 6), average="micro")
    )
    assert ours is not None
    assert ignoring(predictions.tolist(), targets.tolist(), 6) - ours > 0.05


# --------------------------------------------------------------------------------------- labels


def test_labels_by_hand() -> None:
    predictions = np.array([[True, False, False], [True, True, False], [False, False, False]])
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    # 2 right, 3 predicted, 3 true
    assert multilabel_f1(predictions, targets) == pytest.approx(2 / 3)
    # per label: 1 of 2 predicted, 1 true; 1 of 1 predicted, 2 true; never
    assert multilabel_macro_f1(predictions, targets) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert multilabel_f1([[0, 0]], [[0, 1]]) == multilabel_f1([[0, 0]], [[0, 0]]) == 0.0
    assert multilabel_f1([[0, 1]], [[0, 1]]) == 1.0


@pytest.mark.parametrize("score", [multilabel_f1, multilabel_macro_f1])
def test_labels_refuse_nonsense(score: Score) -> None:
    assert score([], []) is score(np.zeros((0, 3)), np.zeros((0, 3))) is None
    with pytest.raises(ValueError, match=r"shape \(2, 3\), targets \(3, 2\)"):
        score(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(ValueError, match="expected tables"):
        score([0, 1], [0, 1])
    for other in ([[0, 2]], [[0, -1]], [[0.5, 1.0]], [["a", "b"]]):
        with pytest.raises(ValueError, match="0 or 1"):
            score(other, [[0, 1]])
    with pytest.raises(ValueError, match="no labels"):
        multilabel_macro_f1(np.zeros((2, 0), int), np.zeros((2, 0), int))


def test_labels_equal_scikit_learn() -> None:
    """3000 random tables of up to 20 items and 10 labels, empty and full ones among them."""
    rng = np.random.default_rng(9)
    cases: list[Case] = []
    for _ in range(3000):
        shape = rng.integers(1, 21), rng.integers(1, 11)
        share = rng.choice([0.0, 0.1, 0.5, 1.0], p=[0.05, 0.45, 0.45, 0.05])
        targets = (rng.random(shape) < share).astype(np.int64)
        flip = rng.random(shape) < rng.choice([0.0, 0.1, 0.5])
        cases.append((np.where(flip, 1 - targets, targets), targets))
    micro = binary_f1([(p.ravel(), t.ravel()) for p, t in cases])
    columns = binary_f1([c for p, t in cases for c in zip(p.T, t.T, strict=True)])
    ends = np.cumsum([p.shape[1] for p, _ in cases])
    for i, (predictions, targets) in enumerate(cases):
        own = columns[ends[i] - predictions.shape[1] : ends[i]]
        assert multilabel_f1(predictions, targets) == pytest.approx(micro[i])
        assert multilabel_macro_f1(predictions.astype(bool), targets) == pytest.approx(own.mean())
        if i < 50 and predictions.shape[1] > 1:  # one column is a binary problem to scikit-learn
            for score, average in [(multilabel_f1, "micro"), (multilabel_macro_f1, "macro")]:
                assert score(predictions, targets) == pytest.approx(
                    f1_score(targets, predictions, average=average, zero_division=0)
                )


# ---------------------------------------------------------------------------------------- reals


def exact_pearson(x: list[float], y: list[float]) -> float:
    """Pearson correlation of the very numbers stored, in rational arithmetic."""
    dx = [Fraction(v) - sum(map(Fraction, x)) / len(x) for v in x]
    dy = [Fraction(v) - sum(map(Fraction, y)) / len(y) for v in y]
    covariance = sum(a * b for a, b in zip(dx, dy, strict=True))
    squared = covariance**2 / (sum(a * a for a in dx) * sum(b * b for b in dy))
    return math.copysign(math.sqrt(squared), covariance)


def test_reals_by_hand() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]
    # deviations -1.5 -0.5 0.5 1.5 and -1.5 0.5 -0.5 1.5: 4 / 5
    assert pearson(x, y) == pytest.approx(0.8)
    assert spearman([1, 10, 100, 1000], [1, 3, 2, 4]) == pytest.approx(0.8)
    # ranks 1.5 1.5 3 and 1 2 3: 1.5 / sqrt(1.5 * 2)
    assert spearman([5, 5, 9], [0, 1, 2]) == pytest.approx(math.sqrt(3) / 2)
    assert rmse([1, 2], [1, 4]) == pytest.approx(math.sqrt(2))
    assert rmse([3], [3]) == 0.0


@pytest.mark.parametrize("score", [pearson, spearman])
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []),
        ([1.0], [2.0]),
        ([0.1] * 7, [1, 2, 3, 4, 5, 6, 7]),
        ([1, 2, 3], [3.1, 3.1, 3.1]),
        ([1, 2, math.nan], [1, 2, 3]),
        ([1, 2, 3], [1, math.inf, 3]),
        ([0.0, -0.0, 0.0], [1, 2, 3]),
    ],
)
def test_correlation_undefined(score: Score, x: list[float], y: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(x, y) is None
        assert score(y, x) is None


def test_rmse_undefined() -> None:
    assert rmse([], []) is None
    assert rmse([math.nan], [1]) is None
    assert rmse([math.inf], [math.inf]) is None
    assert rmse([1e200], [0]) is None


@pytest.mark.parametrize("score", [pearson, spearman, rmse])
def test_reals_refuse_what_would_broadcast(score: Score) -> None:
    with pytest.raises(ValueError, match="shape"):
        score(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ValueError, match="one-dimensional"):
        score(np.zeros((3, 1)), np.zeros((3, 1)))


def test_reals_equal_scipy() -> None:
    """2000 random cases of 2 to 59 items: ties, constants, two items, reversed order."""
    rng = np.random.default_rng(5)
    n_undefined = 0
    for i in range(2000):
        n = int(rng.integers(2, rng.choice([3, 6, 60])))
        x = rng.normal(loc=rng.normal(scale=10), scale=10 ** rng.uniform(-3, 3), size=n)
        y = rng.normal(size=n) + rng.normal() * x
        if i % 2:  # many ties, as in similarity scores in steps of 0.2
            x, y = np.round(x, 1), np.round(y, 1)
        if i % 10 == 0:
            y = np.full(n, y[0])
        assert rmse(x, y) == pytest.approx(root_mean_squared_error(y, x))
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            n_undefined += 1
            assert pearson(x, y) is spearman(x, y) is None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert math.isnan(scipy_stats.pearsonr(x, y).statistic)
                assert math.isnan(scipy_stats.spearmanr(x, y).statistic)
            continue
        assert pearson(x, y) == pytest.approx(scipy_stats.pearsonr(x, y).statistic, abs=1e-11)
        assert spearman(x, y) == pytest.approx(scipy_stats.spearmanr(x, y).statistic, abs=1e-12)
    assert 200 <= n_undefined <= 800


@pytest.mark.parametrize("offset", [0.0, 3.1, -3.1, 1e6])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e-300, 1e300])
def test_pearson_is_exact_for_nearly_constant_and_extreme_values(
    offset: float, scale: float
) -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        y = rng.normal(size=20)
        x = offset + scale * (y + rng.normal(size=20))
        got = pearson(x, y)
        if np.ptp(x) == 0:
            assert got is None
        else:
            assert got == pytest.approx(exact_pearson(x.tolist(), y.tolist()), abs=1e-14)


def test_pearson_one_last_bit_apart() -> None:
    """The smallest difference there is: one value out of four is the next float."""
    x = [3.1, 3.1, math.nextafter(3.1, 4), 3.1]
    assert pearson(x, [0, 0, 1, 0]) == pytest.approx(1.0, abs=1e-15)
    assert pearson(np.array([3.1, 3.1], np.float32), [1.0, 2.0]) is None


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2), min_size=2, max_size=8
    )
)
def test_correlations_are_symmetric_and_bounded(pairs: list[tuple[float, float]]) -> None:
    x, y = [a for a, _ in pairs], [b for _, b in pairs]
    for score in (pearson, spearman):
        r = score(x, y)
        assert r == score(y, x)
        assert r is None or -1 <= r <= 1
        assert (r is None) == (len(set(x)) == 1 or len(set(y)) == 1)

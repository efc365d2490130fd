"""Scores against cases worked by hand and against seqeval, scikit-learn and scipy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import accuracy_score, f1_score, root_mean_squared_error

from bluestab.scoring import (
    accuracy,
    entity_prf,
    macro_f1,
    pearson,
    positive_f1,
    rmse,
    spans,
    spearman,
)

TYPED = ["O", "B-X", "I-X", "B-Y", "I-Y", "B-cell-line", "I-cell-line"]
BARE = ["O", "B", "I"]

Score = Callable[[npt.ArrayLike, npt.ArrayLike], float | None]


def random_sentences(n: int, seed: int, tags: list[str]) -> list[list[str]]:
    """Random tags of random length, 0 included: most `I` tags are out of place."""
    rng = np.random.default_rng(seed)
    return [[tags[k] for k in rng.integers(len(tags), size=rng.integers(9))] for _ in range(n)]


# ---------------------------------------------------------------------------------------- spans


@pytest.mark.parametrize(
    ("tags", "strict", "lenient"),
    [
        ("", set(), set()),
        ("O O", set(), set()),
        ("B-X", {("X", 0, 1)}, {("X", 0, 1)}),
        ("B-X I-X O B-Y", {("X", 0, 2), ("Y", 3, 4)}, {("X", 0, 2), ("Y", 3, 4)}),
        ("B-X B-X I-X", {("X", 0, 1), ("X", 1, 3)}, {("X", 0, 1), ("X", 1, 3)}),
        ("I-X I-X O", set(), {("X", 0, 2)}),
        ("B-X I-Y", {("X", 0, 1)}, {("X", 0, 1), ("Y", 1, 2)}),
        ("B-X I-Y I-X", {("X", 0, 1)}, {("X", 0, 1), ("Y", 1, 2), ("X", 2, 3)}),
        ("B-X O I-X", {("X", 0, 1)}, {("X", 0, 1), ("X", 2, 3)}),
        ("B I O I", {("", 0, 2)}, {("", 0, 2), ("", 3, 4)}),
        ("B-a-b I-a-b", {("a-b", 0, 2)}, {("a-b", 0, 2)}),
    ],
)
def test_spans_by_hand(
    tags: str, strict: set[tuple[str, int, int]], lenient: set[tuple[str, int, int]]
) -> None:
    assert spans(tags.split()) == strict
    assert spans(tags.split(), lenient=True) == lenient


@pytest.mark.parametrize("tag", ["", "X", "E-X", "B-", "I-", "O-X", "b-X", "BX", "B_X", "o"])
def test_spans_refuses_other_tags(tag: str) -> None:
    with pytest.raises(ValueError, match="token 1"):
        spans(["O", tag])


@pytest.mark.parametrize("tags", [TYPED, BARE])
def test_spans_equal_seqeval(tags: list[str]) -> None:
    pytest.importorskip("seqeval")
    from seqeval.metrics.sequence_labeling import get_entities
    from seqeval.scheme import IOB2, Tokens

    for sentence in random_sentences(3000, seed=1, tags=tags):
        # seqeval writes "_" where there is no type
        strict = {(e.tag.strip("_"), e.start, e.end) for e in Tokens(sentence, IOB2).entities}
        lenient = {(t.strip("_"), start, last + 1) for t, start, last in get_entities(sentence)}
        assert spans(sentence) == strict, sentence
        assert spans(sentence, lenient=True) == lenient, sentence


@given(st.lists(st.sampled_from(TYPED + BARE), max_size=12))
def test_spans_are_disjoint_and_lenient_finds_at_least_as_many(tags: list[str]) -> None:
    for lenient in (False, True):
        found = sorted(spans(tags, lenient=lenient), key=lambda span: span[1])
        assert all(start < end for _, start, end in found)
        assert all(a[2] <= b[1] for a, b in pairwise(found))
    assert spans(tags) <= spans(tags, lenient=True)


def test_entity_prf_by_hand() -> None:
    targets = [["B-X", "I-X", "O", "B-Y"], ["O", "B-X"]]  # 3 entities
    predictions = [["B-X", "I-X", "O", "I-Y"], ["B-X", "B-X"]]  # 3, of which 2 are right
    assert entity_prf(predictions, targets) == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}
    )
    assert entity_prf(predictions, targets, lenient=True) == pytest.approx(
        {"precision": 3 / 4, "recall": 1.0, "f1": 6 / 7}
    )


def test_entity_prf_needs_type_start_and_end() -> None:
    for wrong in (["B-Y", "I-Y", "O"], ["B-X", "O", "O"], ["O", "B-X", "O"], ["B-X"] + ["I-X"] * 2):
        assert entity_prf([wrong], [["B-X", "I-X", "O"]])["f1"] == 0.0


def test_entity_prf_of_nothing_is_zero() -> None:
    zero = {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert entity_prf([], []) == zero
    assert entity_prf([["O", "O"]], [["O", "O"]]) == zero
    assert entity_prf([["O", "O"]], [["B", "I"]]) == zero


def test_entity_prf_names_the_sentence() -> None:
    with pytest.raises(ValueError, match="sentence 1: 2 predicted tags, 1 targets"):
        entity_prf([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="sentence 1, token 0: 'Q'"):
        entity_prf([["O"], ["Q"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="1 predicted sentences, 2 targets"):
        entity_prf([["O"]], [["O"], ["O"]])


@pytest.mark.parametrize("tags", [TYPED, BARE])
def test_entity_prf_equals_seqeval(tags: list[str]) -> None:
    pytest.importorskip("seqeval")
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as lenient_prf
    from seqeval.metrics.v1 import precision_recall_fscore_support as strict_prf
    from seqeval.scheme import IOB2

    rng = np.random.default_rng(2)
    for seed in range(100):
        targets = random_sentences(6, seed, tags)
        predictions = [
            [tags[rng.integers(len(tags))] if rng.random() < 0.2 else tag for tag in sentence]
            for sentence in targets
        ]
        options = {"average": "micro", "zero_division": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            strict = strict_prf(targets, predictions, scheme=IOB2, **options)[:3]
            lenient = lenient_prf(targets, predictions, **options)[:3]
        assert tuple(entity_prf(predictions, targets).values()) == pytest.approx(strict)
        assert tuple(entity_prf(predictions, targets, lenient=True).values()) == pytest.approx(
            lenient
        )


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


def test_classes_equal_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        n_classes = int(rng.integers(2, 8))
        n = int(rng.integers(1, 40))
        targets = rng.integers(rng.integers(1, n_classes + 1), size=n)
        noise = rng.integers(n_classes, size=n)
        predictions = np.where(rng.random(n) < 0.5, targets, noise)
        positive = list(range(1, n_classes))
        assert accuracy(predictions, targets) == pytest.approx(accuracy_score(targets, predictions))
        assert macro_f1(predictions.tolist(), targets.tolist(), n_classes) == pytest.approx(
            f1_score(
                targets, predictions, average="macro", labels=range(n_classes), zero_division=0
            )
        )
        assert positive_f1(predictions, targets, positive) == pytest.approx(
            f1_score(targets, predictions, average="micro", labels=positive, zero_division=0)
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
    rng = np.random.default_rng(5)
    for _ in range(400):
        n = int(rng.integers(3, 60))
        x = rng.normal(loc=rng.normal(scale=10), scale=10 ** rng.uniform(-3, 3), size=n)
        y = rng.normal(size=n) + rng.normal() * x
        if rng.random() < 0.5:  # many ties, as in similarity scores in steps of 0.2
            x, y = np.round(x, 1), np.round(y, 1)
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        assert pearson(x, y) == pytest.approx(scipy_stats.pearsonr(x, y).statistic, abs=1e-12)
        assert spearman(x, y) == pytest.approx(scipy_stats.spearmanr(x, y).statistic, abs=1e-12)
        assert rmse(x, y) == pytest.approx(root_mean_squared_error(y, x))


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

"""Scores against cases worked by hand and against seqeval, scikit-learn and scipy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    root_mean_squared_error,
)

from bluestab.tasks.calibration import brier, ece
from bluestab.tasks.scoring import (
    accuracy,
    entity_prf,
    macro_f1,
    multilabel_f1,
    multilabel_macro_f1,
    pearson,
    positive_f1,
    rmse,
    spans,
    spearman,
    word_macro_f1,
    word_prf,
)

TYPED = ["O", "B-X", "I-X", "B-Y", "I-Y", "B-cell-line", "I-cell-line"]
BARE = ["O", "B", "I"]

PICO = ["O", "I-PAR", "I-INT", "I-OUT"]
ELEMENTS = ("PAR", "INT", "OUT")

Score = Callable[[npt.ArrayLike, npt.ArrayLike], float | None]
Sentences = list[list[str]]


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


def random_corpora(n: int, seed: int, tags: list[str]) -> Iterator[tuple[Sentences, Sentences]]:
    """(predictions, targets) of 0 to 5 sentences: much, little or nothing to find, few or many
    errors; entities next to each other and `I` tags out of place in all of them."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        few = tags if rng.random() < 0.5 else [*tags, *["O"] * len(tags)]
        few = few if rng.random() < 0.95 else ["O"]
        lengths = rng.integers(9, size=rng.integers(6))
        targets = [[few[k] for k in rng.integers(len(few), size=n)] for n in lengths]
        noise = rng.choice([0.0, 0.1, 0.5, 1.0])
        predictions = [
            [tags[rng.integers(len(tags))] if rng.random() < noise else tag for tag in sentence]
            for sentence in targets
        ]
        yield predictions, targets


def prf(n_right: float, n_predicted: float, n_true: float) -> tuple[float, float, float]:
    precision = n_right / n_predicted if n_predicted else 0.0
    recall = n_right / n_true if n_true else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def conlleval(predictions: Sentences, targets: Sentences) -> tuple[int, int, int]:
    """Right, predicted and true chunks, counted in one pass as the script of CoNLL-2000 does it.

    It knows no spans: it asks at each word whether a chunk ends or begins in either column.
    """

    def ends(last: tuple[str, str], now: tuple[str, str]) -> bool:
        if last[0] == "O":
            return False
        return now[0] in ("B", "O") or last[1] != now[1]

    def begins(last: tuple[str, str], now: tuple[str, str]) -> bool:
        if now[0] == "O":
            return False
        return now[0] == "B" or last[0] == "O" or last[1] != now[1]

    n_right = n_predicted = n_true = 0
    for predicted, true in zip(predictions, targets, strict=True):
        inside = False  # a chunk that began at the same word with the same type in both columns
        last_p = last_t = ("O", "")
        for a, b in zip([*predicted, "O"], [*true, "O"], strict=True):
            p, t = ((tag[:1], tag[2:]) for tag in (a, b))
            if inside:
                if ends(last_t, t) and ends(last_p, p) and last_t[1] == last_p[1]:
                    inside = False
                    n_right += 1
                elif ends(last_t, t) != ends(last_p, p) or p[1] != t[1]:
                    inside = False
            if begins(last_t, t) and begins(last_p, p) and p[1] == t[1]:
                inside = True
            n_true += begins(last_t, t)
            n_predicted += begins(last_p, p)
            last_p, last_t = p, t
    return n_right, n_predicted, n_true


@pytest.mark.parametrize("tags", [TYPED, BARE, ["O", "B-X", "I-X"]])
def test_entity_prf_equals_seqeval_and_conlleval(tags: list[str]) -> None:
    """2000 random corpora per set of tags; seqeval's strict mode refuses one of no sentence."""
    pytest.importorskip("seqeval")
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as lenient_prf
    from seqeval.metrics.v1 import precision_recall_fscore_support as strict_prf
    from seqeval.scheme import IOB2

    options = {"average": "micro", "zero_division": 0}
    for predictions, targets in random_corpora(2000, 2, tags):
        ours = tuple(entity_prf(predictions, targets, lenient=True).values())
        assert ours == pytest.approx(prf(*conlleval(predictions, targets))), (predictions, targets)
        if not targets:
            assert ours == tuple(entity_prf([], []).values()) == (0.0, 0.0, 0.0)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            strict = strict_prf(targets, predictions, scheme=IOB2, **options)[:3]
            lenient = lenient_prf(targets, predictions, **options)[:3]
        assert ours == pytest.approx(lenient)
        assert tuple(entity_prf(predictions, targets).values()) == pytest.approx(strict)


def test_the_random_corpora_hold_what_they_should() -> None:
    corpora = list(random_corpora(600, 2, TYPED))
    targets = [tags for _, sentences in corpora for tags in sentences]
    assert any(not sentences for _, sentences in corpora), "no sentence"
    assert [] in targets
    assert any(tags and set(tags) == {"O"} for tags in targets)
    pairs = {pair for tags in targets for pair in pairwise(tags)}
    assert len(pairs) == len(TYPED) ** 2, "any two tags side by side"
    scores = [entity_prf(*corpus)["f1"] for corpus in corpora]
    assert min(scores) == 0.0
    assert max(scores) == 1.0
    assert len(set(scores)) > 40


def test_seqeval_warns_where_there_is_nothing_to_find() -> None:
    """What `entity_prf` is silent about: seqeval's 0 comes with a warning, and only as a default.

    Its other two habits are in `test_spans_equal_seqeval`: it is lenient unless told otherwise.
    """
    pytest.importorskip("seqeval")
    from seqeval.metrics import f1_score as seqeval_f1
    from seqeval.scheme import IOB2

    nothing = [["O", "O"]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert seqeval_f1(nothing, nothing, mode="strict", scheme=IOB2) == 0.0
    assert any(w.category.__name__ == "UndefinedMetricWarning" for w in caught)
    assert entity_prf(nothing, nothing)["f1"] == 0.0
    stray, right = [["I-X", "I-X"]], [["B-X", "I-X"]]
    assert seqeval_f1(right, stray) == 1.0
    assert entity_prf(stray, right)["f1"] == 0.0


# ---------------------------------------------------------------------------------------- words


def test_words_by_hand() -> None:
    targets = [["I-PAR", "I-PAR", "O", "I-INT"], ["O", "I-OUT"]]
    predictions = [["B-PAR", "O", "I-PAR", "I-OUT"], ["O", "I-OUT"]]
    found = word_prf(predictions, targets, ELEMENTS)
    assert list(found) == list(ELEMENTS)
    # PAR: 1 right of 2 predicted and 2 true; INT: never predicted; OUT: 1 right of 2, 1 true
    assert found["PAR"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert found["INT"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert found["OUT"] == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3})
    assert word_macro_f1(predictions, targets, ELEMENTS) == pytest.approx((0.5 + 0 + 2 / 3) / 3)


def test_words_of_nothing_are_zero() -> None:
    assert word_macro_f1([], [], ELEMENTS) == 0.0
    assert word_macro_f1([["O"], []], [["O"], []], ELEMENTS) == 0.0
    assert word_macro_f1([["I-PAR"]], [["I-PAR"]], ELEMENTS) == pytest.approx(1 / 3)
    assert word_macro_f1([["I", "O"]], [["B", "I"]], [""]) == pytest.approx(2 / 3)


def test_words_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="sentence 1: 2 predicted tags, 1 targets"):
        word_macro_f1([["O"], ["O", "O"]], [["O"], ["O"]], ELEMENTS)
    with pytest.raises(ValueError, match="1 predicted sentences, 0 targets"):
        word_macro_f1([["O"]], [], ELEMENTS)
    with pytest.raises(ValueError, match="sentence 1, token 0: 'PAR' is no IOB2 tag"):
        word_macro_f1([["O"], ["PAR"]], [["O"], ["O"]], ELEMENTS)
    with pytest.raises(ValueError, match=r"sentence 0, token 1: 'I-POP' is of none of the types"):
        word_macro_f1([["O", "O"]], [["O", "I-POP"]], ELEMENTS)
    with pytest.raises(ValueError, match="sentence 0, token 0: 'I' is of none"):
        word_macro_f1([["I"]], [["O"]], ELEMENTS)
    with pytest.raises(ValueError, match="no type is named"):
        word_macro_f1([["O"]], [["O"]], [])


def flat(sentences: Sentences) -> list[str]:
    """Type of every word, `O` where there is none."""
    return [tag[2:] or "O" for sentence in sentences for tag in sentence]


def test_words_equal_scikit_learn() -> None:
    """3000 random corpora; the first 150 also by scikit-learn's own average over `labels`."""
    tags = [*PICO, "B-PAR", "B-INT", "B-OUT"]
    corpora = list(random_corpora(3000, 7, tags))
    words = [(np.array(flat(p), dtype=str), np.array(flat(t), dtype=str)) for p, t in corpora]
    columns = binary_f1([((p == k) * 1, (t == k) * 1) for p, t in words for k in ELEMENTS])
    macro = columns.reshape(len(corpora), len(ELEMENTS)).mean(axis=1)
    for i, (predictions, targets) in enumerate(corpora):
        ours = word_macro_f1(predictions, targets, ELEMENTS)
        assert ours == pytest.approx(macro[i])
        guess, truth = words[i]
        if i >= 150 or not len(truth):
            continue
        options = {"labels": ELEMENTS, "zero_division": 0}
        assert ours == pytest.approx(f1_score(truth, guess, average="macro", **options))
        found = word_prf(predictions, targets, ELEMENTS)
        for name, score in [("precision", precision_score), ("recall", recall_score)]:
            assert [found[kind][name] for kind in ELEMENTS] == pytest.approx(
                score(truth, guess, average=None, **options).tolist()
            )


def by_words(sentences: Sentences) -> Sentences:
    """Every word an entity of its own, as the published code for BLURB does it before scoring."""
    return [[tag.replace("I-", "B-", 1) for tag in sentence] for sentence in sentences]


def test_words_equal_seqeval_on_one_word_entities() -> None:
    """The published code's way: `I-` becomes `B-`, seqeval as it comes, mean over types.

    It averages over the types that occur in predictions or targets; ours over all three.
    """
    pytest.importorskip("seqeval")
    from seqeval.metrics import classification_report

    n_complete = 0
    for predictions, targets in random_corpora(1000, 8, PICO):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not {*flat(predictions), *flat(targets)} - {"O"}:
                continue
            report = classification_report(
                by_words(targets), by_words(predictions), output_dict=True, zero_division=0
            )
        theirs = {kind: report[kind]["f1-score"] for kind in ELEMENTS if kind in report}
        ours = word_prf(predictions, targets, ELEMENTS)
        assert {kind: ours[kind]["f1"] for kind in theirs} == pytest.approx(theirs)
        assert {ours[kind]["f1"] for kind in set(ELEMENTS) - set(theirs)} <= {0.0}
        macro = word_macro_f1(predictions, targets, ELEMENTS)
        assert macro == pytest.approx(sum(theirs.values()) / 3)
        if len(theirs) == 3:
            n_complete += 1
            assert macro == pytest.approx(report["macro avg"]["f1-score"])
    assert n_complete > 300


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


def binary_f1(cases: list[Case]) -> npt.NDArray[np.float64]:
    """scikit-learn's F1 of each pair of 0/1 vectors: all in one call, a column each.

    Rows of zeros fill up the shorter ones; they are true negatives, which F1 does not count.
    """
    height = max(len(a) for a, _ in cases)
    table = np.zeros((2, height, len(cases)), dtype=np.int64)
    for column, pair in enumerate(cases):
        for side, vector in enumerate(pair):
            table[side, : len(vector), column] = vector
    scores: npt.NDArray[np.float64] = f1_score(table[1], table[0], average=None, zero_division=0)
    return scores


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


# ---------------------------------------------------------------------------------- probabilities


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

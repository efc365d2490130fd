"""Scores of tags by hand and against seqeval, conlleval and scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    f1_score,
    precision_score,
    recall_score,
)

from bluestab.tasks.scoring_tags import entity_prf, spans, word_macro_f1, word_prf
from tests.support.reference_scores import binary_f1

TYPED = ["O", "B-X", "I-X", "B-Y", "I-Y", "B-cell-line", "I-cell-line"]
BARE = ["O", "B", "I"]
PICO = ["O", "I-PAR", "I-INT", "I-OUT"]
ELEMENTS = ("PAR", "INT", "OUT")
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

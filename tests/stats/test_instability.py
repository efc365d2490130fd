"""Measures of instability: worked out by hand, published examples, other people's code."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from bluestab.stats import instability as m
from bluestab.tasks.scoring_tags import entity_prf, spans

rng = np.random.default_rng


# --- scores ----------------------------------------------------------------------------------


def test_both_standard_deviations() -> None:
    assert m.sd_population([1.0, 2.0, 3.0, 4.0]) == pytest.approx(math.sqrt(1.25))
    assert m.sd_sample([1.0, 2.0, 3.0, 4.0]) == pytest.approx(math.sqrt(5 / 3))
    assert m.sd_population([0.1] * 7) == m.sd_sample([0.1] * 7) == 0.0
    assert m.sd_population([1.0]) is m.sd_sample([1.0]) is m.sd_sample([]) is None
    with pytest.raises(ValueError, match="failure_score"):
        m.sd_population([1.0, math.nan])


# --- classes ---------------------------------------------------------------------------------

FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip
"""The well-known worked example: 14 raters, 10 subjects, 5 categories, kappa 0.210."""


def votes_of(counts: list[list[int]]) -> np.ndarray:
    """Votes (n_seeds, n_items) that have these counts."""
    return np.array([np.repeat(range(len(row)), row) for row in counts]).T


def test_fleiss_kappa_of_the_worked_example() -> None:
    assert m.fleiss_kappa(FLEISS) == pytest.approx(0.210, abs=5e-4)
    votes = votes_of(FLEISS)
    assert votes.shape == (14, 10)
    assert m.vote_counts(votes).tolist() == FLEISS
    assert m.kappa_instability(votes) == pytest.approx(1 - 0.210, abs=5e-4)
    assert m.disagreement(votes) == pytest.approx(1 - 0.378, abs=5e-4)


def test_two_seeds_by_hand() -> None:
    """Items: same 0, same 1, 0 against 1, same 1. P_a = 3/4; shares 3/8 and 5/8: P_e = 34/64."""
    votes = [[0, 1, 0, 1], [0, 1, 1, 1]]
    assert m.disagreement(votes) == 0.25
    assert m.kappa_instability(votes) == pytest.approx(1 - (3 / 4 - 34 / 64) / (1 - 34 / 64))


def test_pairwise_disagreement_is_the_mean_over_pairs() -> None:
    votes = rng(0).integers(0, 4, (5, 30))
    pairs = [np.mean(a != b) for a, b in itertools.combinations(votes, 2)]
    assert m.disagreement(votes) == pytest.approx(np.mean(pairs))


def test_the_order_and_names_of_classes_do_not_matter() -> None:
    votes = rng(1).integers(0, 3, (4, 20))
    renamed = np.array([7, 2, 5])[votes]
    assert m.kappa_instability(renamed) == pytest.approx(m.kappa_instability(votes))
    assert m.kappa_instability(votes[::-1, ::-1]) == pytest.approx(m.kappa_instability(votes))


def test_chance_agreement_has_instability_1() -> None:
    votes = rng(2).integers(0, 3, (6, 20_000))
    assert m.kappa_instability(votes) == pytest.approx(1, abs=0.02)
    assert m.disagreement(votes) == pytest.approx(2 / 3, abs=0.02)
    assert m.kappa_instability([[0, 1, 2]] * 4) == 0


def test_kappa_is_undefined_for_one_class() -> None:
    assert m.kappa_instability([[3, 3], [3, 3]]) is None
    assert m.disagreement([[3, 3], [3, 3]]) == 0
    assert m.kappa_instability([[3, 3], [3, 2]]) is not None


@pytest.mark.parametrize("votes", [[[0, 1, 2]], np.zeros((3, 0), int), np.zeros((0, 3), int)])
def test_one_seed_or_no_items(votes: object) -> None:
    assert m.disagreement(votes) is None  # type: ignore[arg-type]
    assert m.kappa_instability(votes) is None  # type: ignore[arg-type]


def test_what_is_no_vote() -> None:
    with pytest.raises(ValueError, match=r"\(n_seeds, n_items\), not of shape \(3,\)"):
        m.disagreement([0, 1, 2])
    for bad in ([[0.0, 1.0]], [[0, -1]]):
        with pytest.raises(ValueError, match="integers >= 0"):
            m.disagreement(bad)
    with pytest.raises(ValueError, match="between 2 and 3 raters"):
        m.fleiss_kappa([[1, 1], [2, 1]])


def test_softmax_and_yes_or_no() -> None:
    assert m.softmax([[0.0, math.log(3)]]) == pytest.approx(np.array([[0.25, 0.75]]))
    assert m.softmax([[1000.0, 1000.0]]) == pytest.approx(np.array([[0.5, 0.5]]))
    assert m.yes_or_no([math.log(3), -800.0])[:, 1] == pytest.approx([0.75, 0.0])


def test_jensen_shannon_is_scipys() -> None:
    distance = pytest.importorskip("scipy.spatial.distance").jensenshannon
    p = m.softmax(3 * rng(3).normal(size=(4, 12, 5)))
    expected = [np.mean(distance(a, b, axis=1) ** 2) for a, b in itertools.combinations(p, 2)]
    assert m.jensen_shannon(p) == pytest.approx(np.mean(expected))


def test_jensen_shannon_by_hand() -> None:
    sure = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert m.jensen_shannon(sure) == pytest.approx(math.log(2)), "its largest value, in nats"
    # of three seeds two of which agree: 0, ln 2, ln 2
    assert m.jensen_shannon(sure[[0, 0, 1]]) == pytest.approx(2 / 3 * math.log(2))
    assert m.jensen_shannon(np.tile(m.softmax(rng(4).normal(size=(1, 9, 3))), (3, 1, 1))) == 0
    assert m.jensen_shannon(sure[:1]) is None
    assert m.jensen_shannon(np.full((2, 1, 2), np.nan)) is None
    with pytest.raises(ValueError, match="n_classes"):
        m.jensen_shannon([[0.5, 0.5]])


def test_labels_are_measured_one_by_one() -> None:
    """The second label is never given: in full agreement, and without a kappa."""
    decisions = np.zeros((2, 4, 2), dtype=int)
    decisions[0, :, 0], decisions[1, :, 0] = [0, 1, 0, 1], [0, 1, 1, 1]
    assert m.over_labels(m.disagreement, decisions) == pytest.approx(0.125)
    alone = m.kappa_instability(decisions[:, :, 0])
    assert m.over_labels(m.kappa_instability, decisions) == pytest.approx(alone)
    assert m.over_labels(m.kappa_instability, decisions[:, :, 1:]) is None
    with pytest.raises(ValueError, match="n_labels"):
        m.over_labels(m.disagreement, decisions[0])


# --- numbers ---------------------------------------------------------------------------------


def test_difference_by_hand() -> None:
    """Item 1: |1 - 2|, |1 - 5|, |2 - 5|, mean 8/3; item 2: 0. Targets 0 and 4: deviation 2."""
    values = [[2.0, 7.0], [5.0, 7.0], [1.0, 7.0]]
    assert m.difference(values, [0.0, 4.0]) == pytest.approx((8 / 3 + 0) / 2 / 2)


def test_difference_is_the_mean_over_pairs() -> None:
    values, targets = rng(5).normal(size=(6, 40)), rng(6).normal(size=40)
    pairs = [np.mean(np.abs(a - b)) for a, b in itertools.combinations(values, 2)]
    assert m.difference(values, targets) == pytest.approx(np.mean(pairs) / np.std(targets))
    assert m.difference(9 * values + 3, 9 * targets) == pytest.approx(m.difference(values, targets))


def test_unrelated_predictions() -> None:
    values, targets = rng(7).normal(3, 2, size=(5, 20_000)), rng(8).normal(3, 2, size=20_000)
    assert m.difference(values, targets) == pytest.approx(2 / math.sqrt(math.pi), abs=0.02)
    assert m.discordance(values) == pytest.approx(1, abs=0.02)


def lin(x: np.ndarray, y: np.ndarray) -> float:
    """Lin 1989, eq. 1 with sums over n."""
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return float(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def test_two_seeds_have_lins_concordance() -> None:
    x = rng(9).normal(size=30)
    y = 0.5 * x + 1 + rng(10).normal(size=30)
    assert m.discordance([x, y]) == pytest.approx(1 - lin(x, y))
    for other in (x + 1, 3 * x):  # a shift counts, and a scale
        assert m.discordance([x, other]) == pytest.approx(1 - lin(x, other))
        assert lin(x, other) < 0.9
    assert m.discordance([x, -x]) > 1  # type: ignore[operator]


def test_more_seeds_weigh_lins_coefficients_by_their_denominators() -> None:
    values = rng(11).normal(size=(4, 25)) + rng(12).normal(size=25) + [[0.0], [1.0], [0.2], [3.0]]
    weighted = weights = 0.0
    for x, y in itertools.combinations(values, 2):
        weight = x.var() + y.var() + (x.mean() - y.mean()) ** 2
        weighted, weights = weighted + weight * lin(x, y), weights + weight
    assert m.discordance(values) == pytest.approx(1 - weighted / weights)


def test_collapsed_regressions() -> None:
    """A constant agrees with nothing but the same constant, which is 0/0."""
    x = rng(13).normal(size=10)
    assert m.discordance([x, np.full(10, 0.1)]) == pytest.approx(1)
    assert m.discordance([np.full(10, 0.1), np.full(10, 0.7)]) == pytest.approx(1)
    assert m.discordance(np.full((3, 10), 0.1)) is None
    assert m.discordance([x, x]) == pytest.approx(0, abs=1e-12)
    assert m.difference(np.full((3, 10), 0.1), x) == 0
    for measure in (m.discordance, lambda v: m.difference(v, x)):
        assert measure([x]) is None
        assert measure([x, np.full(10, np.inf)]) is None
    assert m.difference([x, x], np.full(10, 2.0)) is None
    with pytest.raises(ValueError, match="n_seeds, n_items"):
        m.discordance(x)


# --- entities --------------------------------------------------------------------------------

NAMES = ("O", "B-X", "I-X", "B-Y", "I-Y", "B", "I")


def test_entities_are_those_of_the_score() -> None:
    random = rng(14)
    for _ in range(300):
        lengths = random.integers(0, 6, size=4)
        tags = random.integers(0, len(NAMES), size=lengths.sum())
        first = np.zeros(len(tags), dtype=bool)
        starts = np.cumsum(lengths) - lengths
        first[starts[lengths > 0]] = True
        expected = {
            (kind, start + a, start + b)
            for start, length in zip(starts, lengths, strict=True)
            for kind, a, b in spans([NAMES[t] for t in tags[start : start + length]])
        }
        types = ["", "X", "Y"]  # in the order of NAMES, `O` and the bare tags share the first
        n = len(tags)
        numbers = {(a * (n + 1) + b) * len(types) + types.index(k) for k, a, b in expected}
        found = m.entities(tags, NAMES, first).tolist()
        assert set(found) == numbers
        assert len(found) == len(numbers)


def test_entity_disagreement_is_1_less_the_f1_of_one_seed_against_another() -> None:
    random = rng(15)
    tags = random.integers(0, 3, size=(4, 60))
    first = np.arange(60) % 6 == 0
    sentences = [[[NAMES[t] for t in row[i : i + 6]] for i in range(0, 60, 6)] for row in tags]
    f1 = [entity_prf(a, b)["f1"] for a, b in itertools.combinations(sentences, 2)]
    assert len(set(f1)) > 3
    found = [m.entities(row, NAMES, first) for row in tags]
    assert m.entity_disagreement(found) == pytest.approx(1 - np.mean(f1))


def test_seeds_without_entities() -> None:
    none, some = np.array([], int), np.array([3, 8])
    assert m.entity_disagreement([none, none]) is None
    assert m.entity_disagreement([none, some]) == 1
    assert m.entity_disagreement([none, none, some]) == 1, "the pair that is 0/0 is left out"
    assert m.entity_disagreement([some, some]) == 0
    assert m.entity_disagreement([some]) is m.entity_disagreement([]) is None


# --- representations -------------------------------------------------------------------------


def song(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased HSIC as Song et al. 2012 write it, eq. 5, with whole kernel matrices."""
    n = len(x)
    k, h = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(h, 0)
    one = np.ones(n)
    middle = one @ k @ one * (one @ h @ one) / ((n - 1) * (n - 2))
    last = 2 / (n - 2) * (one @ k @ h @ one)
    return float((np.trace(k @ h) + middle - last) / (n * (n - 3)))


def procrustes(x: npt.ArrayLike, y: npt.ArrayLike) -> float | None:
    """I_OP of two seeds is the distance of their one pair."""
    return m.vector_instability([x, y])[1]


@pytest.mark.parametrize(("n", "width"), [(40, 6), (9, 25), (12, 12), (4, 3)])
def test_cka_of_whole_kernels(n: int, width: int) -> None:
    x = rng(16).normal(size=(n, width)) + 5
    y = 0.7 * x + rng(17).normal(size=(n, width)) - 3
    expected = song(x, y) / math.sqrt(song(x, x) * song(y, y))
    assert m.cka(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "width"), [(40, 6), (9, 25)])
def test_what_cka_and_procrustes_do_not_see(n: int, width: int) -> None:
    x = rng(18).normal(size=(n, width))
    turn = np.linalg.qr(rng(19).normal(size=(width, width)))[0]
    moved = 7.5 * x @ turn + rng(20).normal(size=width)
    assert m.cka(x, moved) == pytest.approx(1)
    assert procrustes(x, moved) == pytest.approx(0, abs=1e-12)
    assert m.vector_instability([x, moved, 2 * moved]) == pytest.approx((0, 0), abs=1e-9)
    other = rng(21).normal(size=(n, width))
    assert m.cka(x, other) == pytest.approx(m.cka(other, moved))
    assert procrustes(x, other) == pytest.approx(procrustes(other, moved))
    assert m.cka(x * np.arange(1, width + 1), x) < 0.99  # type: ignore[operator]


def test_unrelated_vectors_have_cka_0_in_expectation() -> None:
    """More columns than items: the biased estimate would be near 1."""
    random = rng(22)
    found = [m.cka(*random.normal(size=(2, 20, 50))) for _ in range(300)]
    assert np.mean(found) == pytest.approx(0, abs=0.02)  # type: ignore[arg-type]
    assert min(found) < 0 < max(found)  # type: ignore[type-var, operator]


@pytest.mark.parametrize(("n", "width"), [(40, 6), (9, 25)])
def test_procrustes_is_what_the_best_rotation_leaves(n: int, width: int) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    x, y = rng(23).normal(size=(2, n, width))
    a, b = ((v - v.mean(axis=0)) for v in (x, y))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    turn, scale = linalg.orthogonal_procrustes(a, b)
    assert procrustes(x, y) == pytest.approx(1 - scale)
    assert procrustes(x, y) == pytest.approx(np.linalg.norm(a @ turn - b) ** 2 / 2)
    assert procrustes(x, y) == pytest.approx(1 - np.linalg.svd(a.T @ b, compute_uv=False).sum())


def test_means_over_pairs() -> None:
    x, y, z = rng(24).normal(size=(3, 15, 4)) + rng(25).normal(size=(15, 4))
    pairs = list(itertools.combinations((x, y, z), 2))
    one_less_cka, distance = m.vector_instability([x, y, z])
    assert one_less_cka == pytest.approx(1 - np.mean([m.cka(*pair) for pair in pairs]))  # type: ignore[arg-type]
    assert distance == pytest.approx(np.mean([procrustes(*pair) for pair in pairs]))  # type: ignore[arg-type]


def test_vectors_that_cannot_be_compared() -> None:
    x = rng(26).normal(size=(10, 3))
    constant = np.tile(rng(27).normal(size=3).astype(np.float16), (10, 1))
    assert (m.cka(x, constant), procrustes(x, constant)) == (None, None)
    assert (m.cka(x[:3], x[:3]), procrustes(x[:3], x[:3])) == (None, pytest.approx(0, abs=1e-9))
    assert m.vector_instability([x, np.full((10, 3), np.nan)]) == (None, None)
    assert m.vector_instability([x]) == m.vector_instability([]) == (None, None)
    assert m.vector_instability([x, constant, x]) == pytest.approx((0, 0), abs=1e-9)
    with pytest.raises(ValueError, match=r"different numbers of items: \[9, 10\]"):
        m.vector_instability([x, x[:9]])
    with pytest.raises(ValueError, match="n_items, hidden"):
        m.cka(x[0], x[0])


def test_collapsed_vectors_are_compared_in_single_precision() -> None:
    """They share far more than what sets them apart; half precision would compare its rounding."""
    shared = 3 * rng(28).normal(size=64)
    base = rng(29).normal(size=(50, 64))
    seeds = [shared + 1e-3 * (base + 0.3 * rng(30 + i).normal(size=(50, 64))) for i in range(3)]
    exact, single, half = (
        m.vector_instability([seed.astype(kind) for seed in seeds])
        for kind in (np.float64, np.float32, np.float16)
    )
    assert single == pytest.approx(exact, abs=1e-5)
    assert half != pytest.approx(exact, abs=0.05)
    assert min(exact) > 0.01  # type: ignore[type-var, operator]

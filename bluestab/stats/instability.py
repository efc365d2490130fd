"""How far runs that differ in nothing but the seed come apart: in scores, predictions, vectors.

Du & Nguyen 2023 (ACL, arXiv 2302.07778) measure one cell at three levels, and find that the levels
disagree just where runs look stable: `sd_population` of the score; `disagreement` (I_pwd),
`kappa_instability` (I_kappa) and `jensen_shannon` (I_JSD) of the predictions; 1 - CKA (I_CKA) and
orthogonal Procrustes (I_OP) of the last layer. Definitions are those of their released code, but
kappa takes any number of classes, where theirs takes two. What they have no measure for is ours and
says so: numbers (`difference`, `discordance`), several labels (`over_labels`), entities.

Pure functions; the first axis is the seed. 0 is perfect agreement. None where a measure is
undefined: fewer than two seeds, no items, or nothing by which agreement could be told from chance.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


# --- scores ----------------------------------------------------------------------------------


def sd_population(scores: Sequence[float]) -> float | None:
    """Standard deviation of `(n_seeds,)`, n in the denominator: Du & Nguyen's SD; None if n < 2."""
    values = _finite(scores)
    return statistics.pstdev(values) if len(values) >= 2 else None


def sd_sample(scores: Sequence[float]) -> float | None:
    """The same with n - 1, which estimates the spread over all seeds, not over those run."""
    values = _finite(scores)
    return statistics.stdev(values) if len(values) >= 2 else None


def _finite(scores: Sequence[float]) -> list[float]:
    values = [float(score) for score in scores]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"scores are {values}: a run without one needs its failure_score")
    return values


# --- classes ---------------------------------------------------------------------------------


def vote_counts(votes: npt.ArrayLike) -> Ints:
    """Classes 0, 1, ... as `(n_seeds, n_items)` -> how many seeds chose each, (n_items, n_classes).

    Raises ValueError for another shape and for what is no class.
    """
    chosen = np.asarray(votes)
    if chosen.ndim != 2:
        raise ValueError(f"expected classes (n_seeds, n_items), not of shape {chosen.shape}")
    if chosen.size and (chosen.dtype.kind not in "biu" or chosen.min() < 0):
        raise ValueError(f"classes are integers >= 0, not {chosen.dtype}, from {chosen.min()}")
    n_items = chosen.shape[1]
    n_classes = int(chosen.max()) + 1 if chosen.size else 0
    slots = chosen.astype(np.int64) + n_classes * np.arange(n_items)
    counts = np.bincount(slots.ravel(), minlength=n_items * n_classes)
    return counts.reshape(n_items, n_classes)


def disagreement(votes: npt.ArrayLike) -> float | None:
    """I_pwd in [0, 1]: share of items with different classes, mean over pairs of seeds.

    votes  (n_seeds, n_items)
    """
    agreement = _agreement(vote_counts(votes))
    return None if agreement is None else 1 - agreement


def kappa_instability(votes: npt.ArrayLike) -> float | None:
    """I_kappa: 1 - Fleiss' kappa of the seeds, 1 where they agree as often as by chance.

    votes  (n_seeds, n_items)
    """
    kappa = fleiss_kappa(vote_counts(votes))
    return None if kappa is None else 1 - kappa


def fleiss_kappa(counts: npt.ArrayLike) -> float | None:
    """Agreement beyond chance, at most 1, of raters who each put every item into one class.

    Fleiss 1971 (Psychological Bulletin 76(5)). None, too, if all chose one class throughout:
    chance agreement is 1, and kappa 0/0.

    counts  (n_items, n_classes): raters that chose the class; as many for every item
    """
    table = np.asarray(counts)
    agreement = _agreement(table)
    by_class = table.sum(axis=0)
    if agreement is None or np.count_nonzero(by_class) < 2:
        return None
    chance = float(np.sum((by_class / by_class.sum()) ** 2))
    return (agreement - chance) / (1 - chance)


def _agreement(counts: npt.NDArray[np.integer]) -> float | None:
    """Share of the pairs of raters that agree, mean over items, in [0, 1]."""
    raters = counts.sum(axis=1)
    if not len(counts):
        return None
    n = int(raters[0])
    if (raters != n).any():
        raise ValueError(f"items have between {raters.min()} and {raters.max()} raters")
    if n < 2:
        return None
    agreeing = np.sum(counts.astype(np.float64) ** 2, axis=1) - n
    return float(np.mean(agreeing / (n * (n - 1))))


def softmax(logits: npt.ArrayLike) -> Floats:
    """Probabilities over the last axis, in float64."""
    values = np.asarray(logits, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # infinite ones have no probabilities, but NaN
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def yes_or_no(logits: npt.ArrayLike) -> Floats:
    """Logits of independent labels (...) -> probabilities of no and of yes, (..., 2)."""
    values = np.asarray(logits, dtype=np.float64)
    return softmax(np.stack([np.zeros_like(values), values], axis=-1))


def jensen_shannon(probabilities: npt.ArrayLike) -> float | None:
    """I_JSD in [0, ln 2]: Jensen-Shannon divergence, mean over items, then over pairs of seeds.

    (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2 and the natural logarithm, computed as the
    entropy of m less the mean entropy of p and q. None if a probability is not finite.

    probabilities  (n_seeds, n_items, n_classes), each row sums to 1
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 3:
        raise ValueError(
            f"expected probabilities (n_seeds, n_items, n_classes), not of shape {p.shape}"
        )
    if len(p) < 2 or not p.size or not np.isfinite(p).all():
        return None
    own = [_mean_entropy(one) for one in p]
    found = [
        _mean_entropy((p[a] + p[b]) / 2) - (own[a] + own[b]) / 2
        for a, b in itertools.combinations(range(len(p)), 2)
    ]
    return max(0.0, math.fsum(found) / len(found))


def _mean_entropy(p: Floats) -> float:
    """Of distributions `(n_items, n_classes)`, in nats; 0 log 0 is 0."""
    return -float(np.sum(p * np.log(np.maximum(p, np.finfo(np.float64).tiny)))) / len(p)


def over_labels(
    measure: Callable[[npt.ArrayLike], float | None], decisions: npt.ArrayLike
) -> float | None:
    """A measure of classes, mean over the labels for which it is defined (ours).

    decisions  yes or no as 1 and 0, (n_seeds, n_items, n_labels)
    """
    table = np.asarray(decisions)
    if table.ndim != 3:
        raise ValueError(f"expected (n_seeds, n_items, n_labels), not of shape {table.shape}")
    found = [measure(table[:, :, label]) for label in range(table.shape[2])]
    return _mean(found)


# --- numbers ---------------------------------------------------------------------------------


def difference(values: npt.ArrayLike, targets: npt.ArrayLike) -> float | None:
    """Mean absolute difference of two seeds' predictions, over items and pairs, in units of the
    standard deviation of the targets (ours).

    Stands where I_pwd stands for classes. Predictions that have the targets' normal distribution
    and nothing else in common give 2 / sqrt(pi) = 1.13. None, too, for targets that are all equal.

    values   (n_seeds, n_items); targets: (n_items,)
    """
    y, unit = _numbers(values), np.std(np.asarray(targets, dtype=np.float64))
    n = len(y)
    if n < 2 or not y.size or not np.isfinite(y).all() or not (np.isfinite(unit) and unit > 0):
        return None
    # of the sorted values of an item, number k (from 0) is the larger in k pairs and the smaller
    # in n - 1 - k
    weights = 2 * np.arange(n) - (n - 1)
    sums = np.sum(weights[:, None] * np.sort(y, axis=0), axis=0)
    return float(np.mean(sums) / (n * (n - 1) / 2) / unit)


def discordance(values: npt.ArrayLike) -> float | None:
    """1 - overall concordance of the seeds' predictions, at least 0; 1: no more than by chance.

    Barnhart, Haber & Song 2002 (Biometrics 58(4)); for two seeds 1 less Lin's concordance
    coefficient, for more the coefficients' mean, weighted by their denominators: a pair that is
    0/0 (the same constant twice) has weight 0. It is to numbers what kappa is to classes (ours, as
    a measure of instability), and unlike a correlation it sees shifts and scalings. None, too, if
    every prediction is the same number.

    values  (n_seeds, n_items)
    """
    y = _numbers(values)
    n = len(y)
    if n < 2 or not y.size or not np.isfinite(y).all():
        return None
    y = y - y[0, 0]  # exact for constants, and no large mean drowns small deviations
    means = y.mean(axis=1)
    own = float(np.sum(np.mean((y - means[:, None]) ** 2, axis=1)))
    together = y.sum(axis=0)
    covariances = float(np.mean((together - together.mean()) ** 2)) - own  # twice their sum
    apart = n * float(np.sum((means - means.mean()) ** 2))
    scale = (n - 1) * own + apart
    return max(0.0, 1 - covariances / scale) if scale > 0 else None


def _numbers(values: npt.ArrayLike) -> Floats:
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 2:
        raise ValueError(f"expected numbers (n_seeds, n_items), not of shape {y.shape}")
    return y


# --- entities --------------------------------------------------------------------------------


def entities(tags: npt.ArrayLike, names: Sequence[str], first: npt.ArrayLike) -> Ints:
    """The entities of a text as numbers that are equal if type, start and end are.

    The strict rule of `spans`, for all sentences at once: an `I` that continues nothing is
    no entity.

    tags   (n_words,) places in `names`; first: (n_words,) whether a sentence begins here
    names  IOB2 tags
    """
    codes, begins = np.asarray(tags, dtype=np.int64), np.asarray(first, dtype=np.bool_)
    n = len(codes)
    prefixes, kinds = zip(*(name.partition("-")[::2] for name in names), strict=True)
    types = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
    opens = np.array([prefix == "B" for prefix in prefixes])[codes]
    goes_on = np.array([prefix == "I" for prefix in prefixes])[codes]
    kind = np.array([types[k] if p != "O" else -1 for p, k in zip(prefixes, kinds, strict=True)])
    kind = kind[codes]
    linked = goes_on & ~begins
    linked[1:] &= kind[1:] == kind[:-1]
    linked[:1] = False
    heads = np.flatnonzero(~linked)  # an entity, or some stray `I`, or one word outside
    ends = np.append(heads[1:], n)
    real = opens[heads]
    found: Ints = (heads[real] * (n + 1) + ends[real]) * len(types) + kind[heads[real]]
    return found


def entity_disagreement(found: Sequence[npt.ArrayLike]) -> float | None:
    """1 - F1 of one seed's entities against another's, mean over pairs, in [0, 1].

    As agreement between annotators (Hripcsak & Rothschild 2005, JAMIA 12(3): F1 is what kappa
    tends to where the negatives cannot be counted). Pairs without any entity are 0/0 and left out.

    found  per seed, its entities as numbers, each once
    """
    if len(found) < 2:
        return None
    sets = [np.asarray(one, dtype=np.int64) for one in found]
    known, places = np.unique(np.concatenate(sets), return_inverse=True)
    there = np.zeros((len(sets), len(known)))
    there[np.repeat(np.arange(len(sets)), [len(one) for one in sets]), places] = 1
    shared = there @ there.T
    sizes = np.diag(shared)
    a, b = np.triu_indices(len(sets), k=1)
    total = sizes[a] + sizes[b]
    some = total > 0
    return float(np.mean(1 - 2 * shared[a, b][some] / total[some])) if some.any() else None


# --- representations -------------------------------------------------------------------------


def vector_instability(vectors: Sequence[npt.ArrayLike]) -> tuple[float | None, float | None]:
    """I_CKA and I_OP: means over pairs of seeds of `1 - cka` and of the Procrustes distance.

    The distance of x and y, both centred and of Frobenius norm 1, is 1 - nuclear norm of x'y, in
    [0, 1]: half the squared distance that is left after the best rotation of one onto the other
    (Ding et al. 2021, NeurIPS). It is None as `cka` is, but defined from one item up.

    Pairs for which a measure is undefined are left out of its mean. About n_seeds ** 2 / 2 products
    of (hidden, n_items) with (n_items, hidden), or of square matrices if there are fewer items.

    vectors  per seed (n_items, hidden), rows in the same order
    """
    _same_items(vectors)
    ready = [_Centred(one) for one in vectors]
    pairs = [_compared(a, b) for a, b in itertools.combinations(ready, 2)]
    likeness, distance = _mean([one for one, _ in pairs]), _mean([other for _, other in pairs])
    return None if likeness is None else 1 - likeness, distance


def cka(x: npt.ArrayLike, y: npt.ArrayLike) -> float | None:
    """Linear centred kernel alignment of two `(n_items, hidden)`, unbiased; about 0 if unrelated.

    Kornblith et al. 2019 (ICML) with the estimator of HSIC of Song et al. 2012 (JMLR 13, eq. 5),
    which may be below 0. Invariant to rotations, isotropic scaling and shifts. None for fewer than
    four items, for values that are not finite, and where one of the two does not vary.
    """
    _same_items((x, y))
    return _compared(_Centred(x), _Centred(y))[0]


class _Centred:
    """Vectors of one seed, less their mean, in as few columns as their products need."""

    def __init__(self, vectors: npt.ArrayLike) -> None:
        x = np.asarray(vectors, dtype=np.float64)
        if x.ndim != 2:
            raise ValueError(f"expected vectors (n_items, hidden), not of shape {x.shape}")
        self.n = len(x)
        self.usable = bool(x.size) and bool(np.isfinite(x).all())
        if not self.usable:
            return
        x = x - x[0]  # exact zeros where nothing varies
        x = x - x.mean(axis=0)
        if self.n < x.shape[1]:
            # x' = qr, so r' stands for x: inner products and singular values of x'y stay
            x = np.linalg.qr(x.T)[1].T
        self.x = x
        self.squares = np.sum(x * x, axis=1)
        self.norm = math.sqrt(float(self.squares.sum()))
        self.hsic = self.hsic_with(self, float(np.sum((x.T @ x) ** 2)))

    def hsic_with(self, other: _Centred, product: float) -> float:
        """Unbiased HSIC of linear kernels, times n (n - 3); `product`: squared norm of x'y.

        Song's sums over kernels without their diagonals, written out for centred x and y, where
        the rows of a whole kernel sum to 0: no n by n matrix is needed.
        """
        n = self.n
        if n < 4:
            return 0.0
        diagonals = float(np.sum(self.squares * other.squares))
        traces = float(self.squares.sum() * other.squares.sum())
        return product - n / (n - 2) * diagonals + traces / ((n - 1) * (n - 2))


def _compared(a: _Centred, b: _Centred) -> tuple[float | None, float | None]:
    """CKA and Procrustes distance: both need x'y."""
    if not (a.usable and b.usable and a.norm > 0 and b.norm > 0):
        return None, None
    singular = np.linalg.svd(a.x.T @ b.x, compute_uv=False)
    distance = 1 - float(singular.sum()) / (a.norm * b.norm)
    if a.hsic <= 0 or b.hsic <= 0:
        return None, max(0.0, distance)
    likeness = a.hsic_with(b, float(np.sum(singular**2))) / math.sqrt(a.hsic * b.hsic)
    return likeness, max(0.0, distance)


def _same_items(vectors: Sequence[npt.ArrayLike]) -> None:
    lengths = {len(np.asarray(one)) for one in vectors}
    if len(lengths) > 1:
        raise ValueError(f"vectors of different numbers of items: {sorted(lengths)}")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None

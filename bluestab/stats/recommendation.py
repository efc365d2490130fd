"""Which arm to use: chosen on validation scores, among arms whose spread is shown to be acceptable.

An arm is approved if the upper confidence bound of std(arm) / std(baseline), on shared seeds, is at
most `margin`: an equivalence bound in one direction (non-inferiority), so that few seeds approve
nothing. It is rejected if the lower bound is beyond the margin. Fewer seeds than an exact test
needs (six) decide neither. Among the approved arms and the baseline the one with the highest lower
confidence bound of its mean is recommended. The answer is that the seeds are too few while an
undecided arm has a higher lower bound (with how many more would approve it, if its ratio stayed
what it is), or the baseline the highest bound, but not the highest mean.

All of it is said of scores that grow with quality. Where lower scores are better, they are judged
with the sign turned, and every number is given back in its own: the bound that counts is then the
upper one.

Bounds are one-sided at `level`. Test scores play no part: they are for reporting what was chosen.
Of a cross-validation the mean is that of the folds, its bound corrected for the items that they
share (Nadeau & Bengio 2003), and the spread is that of seeds within folds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bluestab import stats

MARGIN = 1.25
"""Largest acceptable ratio of standard deviations (ours: a quarter more than the baseline's)."""

MOST_SEEDS = 200
"""More than these are not proposed to anybody."""


Scores = Mapping[Any, float]
"""Seed, or seed and fold -> validation score."""


@dataclass(frozen=True)
class Folds:
    """of: key of a score -> its fold; n_train, n_validation: items of one fold."""

    of: Callable[[Any], Hashable]
    n_train: int
    n_validation: int

    def group(self, scores: Scores) -> dict[Hashable, list[float]]:
        found = defaultdict(list)
        for key, score in scores.items():
            found[self.of(key)].append(score)
        return dict(found)


@dataclass(frozen=True)
class Candidate:
    """One arm as judged.

    n             runs shared with the baseline
    mean, low     of all its validation scores, and the bound of that mean on the worse side
    ratio, upper  of the standard deviations on the shared seeds, and its upper bound
    state         baseline | approved | undecided | rejected
    more_seeds    until it would be approved (in every fold), for an undecided one; None if none
                  would do
    too_few       there are not even those that an exact test needs
    """

    arm: str
    n: int
    mean: float | None
    low: float | None
    ratio: float | None
    upper: float | None
    state: str
    more_seeds: int | None = None
    too_few: bool = False


@dataclass(frozen=True)
class Recommendation:
    """arm: the one to use, None if too few seeds say nothing; why: a sentence with the figures."""

    arm: str | None
    why: str
    candidates: Sequence[Candidate]


def recommend(
    scores: Mapping[str, Scores],
    baseline: str,
    *,
    folds: Folds | None = None,
    margin: float = MARGIN,
    level: float = 0.95,
    higher_is_better: bool = True,
) -> Recommendation:
    """scores: arm -> seed -> validation score, failed runs with their failure score.

    folds  of a cross-validation, the same for every arm
    higher_is_better  of the scores

    Raises ValueError if the baseline is none of the arms.
    """
    if baseline not in scores:
        raise ValueError(f"the baseline {baseline!r} is none of the arms {', '.join(scores)}")
    sign = 1 if higher_is_better else -1
    candidates = [
        _judged(arm, own, scores[baseline], arm == baseline, folds, margin, level, sign)
        for arm, own in scores.items()
    ]
    ranked = sorted(
        (c for c in candidates if c.low is not None and c.state != "rejected"),
        key=lambda c: -sign * float(c.low or 0.0),
    )
    if not ranked or len(scores) < 2:
        return Recommendation(None, _nothing(candidates, baseline), candidates)
    first = ranked[0]
    if first.state == "undecided":
        return Recommendation(None, _not_enough(first, ranked, folds, margin), candidates)
    leader = max(ranked, key=lambda c: sign * float(c.mean or 0.0))
    if first.state == "baseline" and leader is not first:
        return Recommendation(None, _open(first, leader, sign), candidates)
    why = _because(first, candidates, baseline, margin, sign)
    return Recommendation(first.arm, why, candidates)


def _judged(
    arm: str,
    own: Scores,
    reference: Scores,
    is_baseline: bool,
    folds: Folds | None,
    margin: float,
    level: float,
    sign: int,
) -> Candidate:
    shared = [seed for seed in own if seed in reference]
    mean, low = _mean(own, folds, level, sign)
    if is_baseline:
        return Candidate(arm, len(own), mean, low, 1.0, 1.0, "baseline")
    a, b = (_over_seeds({s: of[s] for s in shared}, folds) for of in (own, reference))
    n_folds = 1 if folds is None else len(folds.group(own))
    ratio = stats.std_ratio(a, b)
    spread = stats.std_ratio_interval(a, b, level=2 * level - 1)
    lacking = stats.fewest_pairs(1 - level) - len(a)
    if ratio is None or spread is None or lacking > 0:
        upper = None if spread is None else spread.high
        few = lacking > 0
        more = math.ceil(lacking / n_folds) if few else None
        return Candidate(arm, len(shared), mean, low, ratio, upper, "undecided", more, few)
    if spread.high <= margin:
        state, more = "approved", None
    else:
        more = _more_seeds(len(a), ratio, spread.high, margin)
        more = None if more is None else math.ceil(more / n_folds)
        state = "rejected" if spread.low > margin else "undecided"
    return Candidate(arm, len(shared), mean, low, ratio, spread.high, state, more)


def _mean(
    scores: Scores, folds: Folds | None, level: float, sign: int
) -> tuple[float | None, float | None]:
    """Of the scores, and its bound on the worse side: the lower one, with sign -1 the upper one."""
    if folds is None:
        values = list(scores.values())
        mean, bound = stats.mean(values), stats.t_interval(values, 2 * level - 1)
    else:
        nested = stats.nested_mean(folds.group(scores))
        if nested is None:
            return None, None
        sizes, mean = (folds.n_train, folds.n_validation), nested.mean
        bound = stats.corrected_t_interval(nested.by_fold, *sizes, 2 * level - 1)
    if bound is None:
        return mean, None
    return mean, bound.low if sign > 0 else bound.high


def _over_seeds(scores: Scores, folds: Folds | None) -> Sequence[float]:
    """Values whose spread is that over seeds."""
    if folds is None:
        return list(scores.values())
    values: list[float] = stats.within_folds(folds.group(scores)).tolist()
    return values


def _more_seeds(n: int, ratio: float, upper: float, margin: float) -> int | None:
    """Seeds to add until the bound meets the margin: its distance shrinks as one over root n."""
    if not 0 < ratio < margin:
        return None
    needed = n * (math.log(upper / ratio) / math.log(margin / ratio)) ** 2
    return max(1, math.ceil(needed) - n) if needed <= MOST_SEEDS else None


def _nothing(candidates: Sequence[Candidate], baseline: str) -> str:
    if len(candidates) < 2:
        return f"there is nothing to compare {baseline} with"
    return "not enough seeds to say: every arm needs two or more"


def _not_enough(
    first: Candidate, ranked: Sequence[Candidate], folds: Folds | None, margin: float
) -> str:
    known = next((c for c in ranked if c.state in ("approved", "baseline")), None)
    if first.upper is None:
        spread = "its spread is not known"
    elif first.upper <= margin:
        spread = "so few seeds decide nothing"
    else:
        spread = (
            f"its spread may be up to {first.upper:.2f} times that of the baseline, and at most "
            f"{margin:g} times is accepted"
        )
    n, where = first.more_seeds, "" if folds is None else " in every fold"
    if n is None:
        more = f"more than {MOST_SEEDS} seeds would be needed"
    elif first.too_few:
        said = "1 more seed is" if n == 1 else f"{n} more seeds are"
        more = f"at least {said} needed{where}"
    else:
        seeds = f"{n} more seed{'s' * (n > 1)}{where}"
        more = f"{seeds} would do if it stays at {first.ratio:.2f} times"
    until = "" if known is None else f"; until then {known.arm}"
    return f"not enough seeds to say: {first.arm} looks best, but {spread}; {more}{until}"


def _open(baseline: Candidate, leader: Candidate, sign: int) -> str:
    better, bound = ("higher", "lower") if sign > 0 else ("lower", "upper")
    return (
        f"not enough seeds to say: {leader.arm} has the {better} validation mean "
        f"({leader.mean:.4f} against {baseline.mean:.4f}) and {baseline.arm} the better {bound} "
        f"bound ({baseline.low:.4f} against {leader.low:.4f}); until then {baseline.arm}"
    )


def _because(
    first: Candidate, candidates: Sequence[Candidate], baseline: str, margin: float, sign: int
) -> str:
    least = "at least" if sign > 0 else "at most"
    mean = f"validation mean {first.mean:.4f}, with 95 % confidence {least} {first.low:.4f}"
    if first.state == "baseline":
        others = [c.arm for c in candidates if c.state == "rejected"]
        but = f"; shown to vary more than {margin:g} times as much: {', '.join(others)}"
        better = "higher" if sign > 0 else "lower"
        return f"no other arm has a {better} mean: {mean}{but if others else ''}"
    return (
        f"{mean}; its spread is {first.ratio:.2f} times that of {baseline}, with 95 % confidence "
        f"at most {first.upper:.2f}"
    )

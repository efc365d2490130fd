"""Which arm to use: chosen on validation scores, among arms whose spread is shown to be acceptable.

An arm is approved if the upper confidence bound of std(arm) / std(baseline), on shared seeds, is at
most `margin`: an equivalence bound in one direction (non-inferiority), so that few seeds approve
nothing. It is rejected if the lower bound is beyond the margin. Fewer seeds than an exact test
needs (six) decide neither. Among the approved arms and the baseline the one with the highest lower
confidence bound of its mean is recommended. The answer is that the seeds are too few while an
undecided arm has a higher lower bound (with how many more would approve it, if its ratio stayed
what it is), or the baseline the highest bound, but not the highest mean.

Bounds are one-sided at `level`. Test scores play no part: they are for reporting what was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bluestab import stats

MARGIN = 1.25
"""Largest acceptable ratio of standard deviations (ours: a quarter more than the baseline's)."""

MOST_SEEDS = 200
"""More than these are not proposed to anybody."""


@dataclass(frozen=True)
class Candidate:
    """One arm as judged.

    n             seeds shared with the baseline
    mean, low     of all its validation scores, and the lower bound of that mean
    ratio, upper  of the standard deviations on the shared seeds, and its upper bound
    state         baseline | approved | undecided | rejected
    more_seeds    until it would be approved, for an undecided one; None if none would do
    """

    arm: str
    n: int
    mean: float | None
    low: float | None
    ratio: float | None
    upper: float | None
    state: str
    more_seeds: int | None = None


@dataclass(frozen=True)
class Recommendation:
    """arm: the one to use, None if too few seeds say nothing; why: a sentence with the figures."""

    arm: str | None
    why: str
    candidates: Sequence[Candidate]


def recommend(
    scores: Mapping[str, Mapping[int, float]],
    baseline: str,
    *,
    margin: float = MARGIN,
    level: float = 0.95,
) -> Recommendation:
    """scores: arm -> seed -> validation score, failed runs with their failure score.

    Raises ValueError if the baseline is none of the arms.
    """
    if baseline not in scores:
        raise ValueError(f"the baseline {baseline!r} is none of the arms {', '.join(scores)}")
    candidates = [
        _judged(arm, own, scores[baseline], arm == baseline, margin, level)
        for arm, own in scores.items()
    ]
    ranked = sorted(
        (c for c in candidates if c.low is not None and c.state != "rejected"),
        key=lambda c: -float(c.low or 0.0),
    )
    if not ranked or len(scores) < 2:
        return Recommendation(None, _nothing(candidates, baseline), candidates)
    first = ranked[0]
    if first.state == "undecided":
        return Recommendation(None, _not_enough(first, ranked, margin), candidates)
    higher = max(ranked, key=lambda c: float(c.mean or 0.0))
    if first.state == "baseline" and higher is not first:
        return Recommendation(None, _open(first, higher), candidates)
    return Recommendation(first.arm, _because(first, candidates, baseline, margin), candidates)


def _judged(
    arm: str,
    own: Mapping[int, float],
    reference: Mapping[int, float],
    is_baseline: bool,
    margin: float,
    level: float,
) -> Candidate:
    shared = [seed for seed in own if seed in reference]
    values = list(own.values())
    bound = stats.t_interval(values, 2 * level - 1)
    mean, low = stats.mean(values), None if bound is None else bound.low
    if is_baseline:
        return Candidate(arm, len(own), mean, low, 1.0, 1.0, "baseline")
    a, b = [own[s] for s in shared], [reference[s] for s in shared]
    ratio = stats.std_ratio(a, b)
    spread = stats.std_ratio_interval(a, b, level=2 * level - 1)
    lacking = stats.fewest_pairs(1 - level) - len(shared)
    if ratio is None or spread is None or lacking > 0:
        upper = None if spread is None else spread.high
        more = lacking if lacking > 0 else None
        return Candidate(arm, len(shared), mean, low, ratio, upper, "undecided", more)
    if spread.high <= margin:
        state, more = "approved", None
    else:
        more = _more_seeds(len(shared), ratio, spread.high, margin)
        state = "rejected" if spread.low > margin else "undecided"
    return Candidate(arm, len(shared), mean, low, ratio, spread.high, state, more)


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


def _not_enough(first: Candidate, ranked: Sequence[Candidate], margin: float) -> str:
    known = next((c for c in ranked if c.state in ("approved", "baseline")), None)
    spread = (
        "its spread is not known"
        if first.upper is None
        else f"its spread may be up to {first.upper:.2f} times that of the baseline, and at most "
        f"{margin:g} times is accepted"
    )
    if first.more_seeds is None:
        more = f"more than {MOST_SEEDS} seeds would be needed"
    elif first.n + first.more_seeds == stats.fewest_pairs():
        more = f"at least {first.more_seeds} more seeds are needed"
    else:
        more = f"{first.more_seeds} more seeds would do if it stays at {first.ratio:.2f} times"
    until = "" if known is None else f"; until then {known.arm}"
    return f"not enough seeds to say: {first.arm} looks best, but {spread}; {more}{until}"


def _open(baseline: Candidate, higher: Candidate) -> str:
    return (
        f"not enough seeds to say: {higher.arm} has the higher validation mean ({higher.mean:.4f} "
        f"against {baseline.mean:.4f}) and {baseline.arm} the better lower bound "
        f"({baseline.low:.4f} against {higher.low:.4f}); until then {baseline.arm}"
    )


def _because(
    first: Candidate, candidates: Sequence[Candidate], baseline: str, margin: float
) -> str:
    mean = f"validation mean {first.mean:.4f}, with 95 % confidence at least {first.low:.4f}"
    if first.state == "baseline":
        others = [c.arm for c in candidates if c.state == "rejected"]
        but = f"; shown to vary more than {margin:g} times as much: {', '.join(others)}"
        return f"no other arm has a higher mean: {mean}{but if others else ''}"
    return (
        f"{mean}; its spread is {first.ratio:.2f} times that of {baseline}, with 95 % confidence "
        f"at most {first.upper:.2f}"
    )

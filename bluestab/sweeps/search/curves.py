"""Stopping inside a run: is a validation curve hopeless beside those of other points?

A channel of its own: curves of one seed are compared with curves of the same seed at the same step,
and none of it enters the scores over seeds.

    median      worse than the median of the others at this step, from a third of the run on
    hyperband   at a quarter and at half of the run, not in the better half of the others there;
                every third point is spared the first look, every third both (brackets: a slow
                starter must get through somewhere; Li et al. 2018)

A run that is cut has no result: it depends on what else had run, and a run is a function of its
config alone. Its point is stopped.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

Rule = Literal["none", "median", "hyperband"]

Curve = Mapping[int, float]
"""Optimizer step -> validation score of the evaluation there."""

FEWEST = 3  # other curves that must have got as far: fewer are no yardstick
LOOKS = (0.25, 0.5)  # of hyperband, in shares of the run
PATIENCE = 1 / 3  # of median


def hopeless(
    own: Curve, others: Sequence[Curve], *, steps: int, rule: Rule, number: int, sign: int = 1
) -> str | None:
    """Why to cut the run at its latest evaluation; None to go on.

    steps   of the whole run; number: of the point, which decides its bracket
    sign    -1 where lower scores are better
    """
    if rule == "none" or not own:
        return None
    step = max(own)
    there = [best_until(curve, step, sign) for curve in others if max(curve, default=0) >= step]
    if len(there) < FEWEST or step >= steps:
        return None
    best = best_until(own, step, sign)
    if rule == "median":
        level = statistics.median(there)
        late = step >= PATIENCE * steps
        beyond = "below" if sign > 0 else "above"
        behind = late and sign * best < sign * level
        return f"{beyond} the median {level:.3g} at step {step}" if behind else None
    before = max((s for s in own if s < step), default=0)
    looks = [share * steps for share in LOOKS[number % (len(LOOKS) + 1) :]]
    if not any(before < look <= step for look in looks):
        return None
    rank = 1 + sum(sign * value > sign * best for value in there)
    n = len(there) + 1
    return f"{rank}. of {n} at step {step}" if rank > (n + 1) // 2 else None


def best_until(curve: Curve, step: int, sign: int = 1) -> float:
    """The best score up to a step: a curve may dip where it was looked at. sign: -1 where lower
    scores are better."""
    return sign * max(sign * score for at, score in curve.items() if at <= step)

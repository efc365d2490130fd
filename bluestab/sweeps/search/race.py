"""Racing over seeds: is the next seed of a point worth its run? Pure functions of scores.

All points share the seeds and go through them in one order, so that after k seeds two points are
compared on the same k: differences are paired. Two rules, either of which stops a point:

halving   After 1, eta, eta^2, ... seeds, a point goes on if it is in the better 1/eta of all points
          that got so far, stopped ones included (successive halving, Jamieson & Talwalkar 2016,
          with seeds as the resource; decided as points come, as in ASHA, Li et al. 2020). And after
          every seed it must not be shown to be worse than the leader: the upper bound of the paired
          difference, `margin` standard errors up, must reach zero. The error is that of what point
          and seed do not explain (`residual_std`), pooled over all points: one pair says nothing
          about it.
wilcoxon  Signed-rank test against the leader, one-sided, exact: p <= `p` stops. With n pairs p is
          at least 2^-n, so that it cannot act before seed `fewest_pairs(p)`.

A stopped point is censored: its later scores are not known, and it can win nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bluestab import stats
from bluestab.sweeps.search.objectives import Objective

Kind = Literal["halving", "wilcoxon", "none"]

Scores = Sequence[float]
"""Scores of a point at the first seeds, in their order."""


@dataclass(frozen=True)
class Race:
    """kind: the rule; eta, margin: of halving; p: of wilcoxon."""

    kind: Kind
    eta: int
    margin: float
    p: float


def verdict(
    own: Scores,
    others: Sequence[Scores],
    race: Race,
    objective: Objective,
    n_seeds: int,
    sign: int = 1,
) -> str | None:
    """Why to stop a point after these scores; None to give it its next seed, or if it has all.

    others   all other points of the search, stopped ones included
    n_seeds  seeds of a point that is never stopped
    sign     -1 where lower scores are better
    """
    k = len(own)
    own, others = _qualities(own, sign), [_qualities(scores, sign) for scores in others]
    if race.kind == "none" or not 0 < k < n_seeds:
        return None
    peers = [scores[:k] for scores in others if len(scores) >= k]
    if race.kind == "halving" and k in rungs(race.eta, n_seeds) and peers:
        rank = 1 + sum(objective.quality(scores) > objective.quality(own) for scores in peers)
        n = len(peers) + 1
        if rank > math.ceil(n / race.eta):
            return f"{rank}. of {n} points after {k} of {n_seeds} seeds"
    full = [scores for scores in others if len(scores) >= n_seeds]
    if not full:
        return None
    leader = max(full, key=objective.quality)[:k]
    if race.kind == "wilcoxon":
        return _by_wilcoxon(own, leader, race.p)
    error = residual_std([own, *others])
    if error is None:
        return None
    bound = objective.quality(own) - objective.quality(leader)
    bound += race.margin * objective.wider * error * math.sqrt(2 / k)
    if bound < 0:
        return f"worse than the leader by at least {-bound:.3g} on {k} shared seeds"
    return None


def _qualities(scores: Scores, sign: int) -> Scores:
    return [sign * score for score in scores]


def rungs(eta: int, n_seeds: int) -> list[int]:
    """Numbers of seeds after which points are ranked: 1, eta, eta^2, ... below n_seeds."""
    found = [1]
    while found[-1] * eta < n_seeds:
        found.append(found[-1] * eta)
    return [k for k in found if k < n_seeds]


def fewest_pairs(p: float) -> int:
    """Seeds before which a one-sided signed-rank test cannot reach `p`, in (0, 1)."""
    return math.ceil(-math.log2(p))


def _by_wilcoxon(own: Scores, leader: Scores, p: float) -> str | None:
    if sum(own) >= sum(leader):
        return None
    two_sided = stats.wilcoxon(own, leader, level=min(2 * p, 0.99)).p
    if two_sided is None or two_sided / 2 > p:
        return None
    return f"worse than the leader: signed-rank p = {two_sided / 2:.3g} on {len(own)} seeds"


def residual_std(rows: Sequence[Scores]) -> float | None:
    """Standard deviation of a score around its point's and its seed's effect; None if unknown.

    rows  scores of points at the first seeds, of any lengths

    Least squares of score = point + seed, n_scores - n_points - n_seeds + 1 degrees of freedom.
    Points with one score say nothing and are left out.
    """
    rows = [row for row in rows if len(row) >= 2]
    if len(rows) < 2:
        return None
    width = max(map(len, rows))
    table = np.full((len(rows), width), np.nan)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    known = ~np.isnan(table)
    freedom = int(known.sum()) - len(rows) - (width - 1)
    if freedom < 1:
        return None
    scores = np.where(known, table, 0.0)
    seeds = np.zeros(width)
    for _ in range(30):  # alternating least squares: each half step solves for one effect
        points = ((scores - seeds) * known).sum(axis=1) / known.sum(axis=1)
        seeds = ((scores - points[:, None]) * known).sum(axis=0) / known.sum(axis=0)
    left = (scores - points[:, None] - seeds) * known
    return math.sqrt(float((left**2).sum()) / freedom)


def as_if_complete(own: Scores, others: Sequence[Scores], n_seeds: int) -> float:
    """Mean over all seeds that a stopped point would have: its own, with the seeds put right.

    By as much as points with all seeds differ, on average, between their first len(own) seeds and
    all of them.
    """
    k, mean = len(own), math.fsum(own) / len(own)
    full = [scores for scores in others if len(scores) >= n_seeds]
    shifts = [math.fsum(s[:n_seeds]) / n_seeds - math.fsum(s[:k]) / k for s in full]
    return mean + (math.fsum(shifts) / len(shifts) if shifts else 0.0)

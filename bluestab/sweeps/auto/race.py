"""A race over arms and seeds together: pure functions of validation scores.

All arms go through the same seeds in one order, so that at every seed two arms are compared on the
same batches and the same head. Looked at after any seed, an arm is dropped if it is shown that
another beats it more often than not.

Hypothesis of arm a: at no seed, whatever came before, is any one arm b more likely to beat a than
to be beaten by it. Against each b a fortune is bet on a losing the next seed at which the two
differ (`stats.anytime.fortune_above`); under the hypothesis none of these grows on average, nor
does their mean over all b. By Ville's inequality (1939) the chance that the mean ever reaches
A / error, at any look, is at most error / A, so that of A arms one for which the hypothesis holds
is ever dropped with probability `error` at most (Boole's inequality). Sizes are not bet on: failed
runs and heavy tails make no difference to that. An arm whose mean is not below that of who beats it
most is kept, too: it wins seldom, and by much.

To drop an arm claims nothing: what is claimed is measured on fresh seeds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from bluestab.stats.anytime import fortune_above

ERROR = 0.1
"""That a race ever drops an arm which is beaten by none: what it costs is power, not a claim."""

Scores = Mapping[int, float]
"""Seed -> validation score, where more is better."""


def evidence(scores: Mapping[str, Scores]) -> dict[str, tuple[float, str | None]]:
    """Arm -> the fortune against it, see above, and the arm that brought most of it, if the mean of
    that one over the seeds they share is better."""
    names = list(scores)
    seeds = sorted({seed for own in scores.values() for seed in own})
    table = np.array([[own.get(s, math.nan) for s in seeds] for own in scores.values()])
    ahead = table[:, None, :] - table[None, :, :]  # (arm, other, seed); nan where one has no score
    lost, apart = (ahead < 0).sum(axis=2), (np.abs(ahead) > 0).sum(axis=2)
    fortune = fortune_above(lost, apart)
    np.fill_diagonal(fortune, 0.0)
    behind = np.nansum(ahead, axis=2) < 0
    found: dict[str, tuple[float, str | None]] = {}
    for i, name in enumerate(names):
        most = int(fortune[i].argmax())
        mean = float(fortune[i].sum()) / max(1, len(names) - 1)
        found[name] = (mean, names[most] if behind[i, most] else None)
    return found


def losers(
    scores: Mapping[str, Scores], alive: Collection[str], baseline: str, error: float = ERROR
) -> dict[str, str]:
    """Arms of `alive` to drop, and by whom they are beaten. The baseline stays: the claim needs it.

    scores  of all arms of the race, of dropped ones as far as they went
    """
    found = evidence(scores)
    return {
        arm: by
        for arm, (fortune, by) in found.items()
        if arm in alive and arm != baseline and by is not None and fortune >= len(scores) / error
    }


def shared_seeds(scores: Mapping[str, Scores], alive: Sequence[str]) -> list[int]:
    """Seeds at which all of these have a score."""
    sets = [set(scores[arm]) for arm in alive]
    return sorted(set.intersection(*sets)) if sets else []


def means(scores: Mapping[str, Scores], alive: Sequence[str]) -> dict[str, float]:
    """Of the arms that are left, over the seeds that all of them have; empty if there is none."""
    seeds = shared_seeds(scores, alive)
    return {a: math.fsum(scores[a][s] for s in seeds) / len(seeds) for a in alive if seeds}


def best_of(found: Mapping[str, float], baseline: str) -> str:
    """The arm with the highest mean; of equal ones the first, and the baseline before all."""
    order = [baseline, *(arm for arm in found if arm != baseline)]
    return max(order, key=lambda arm: found.get(arm, -math.inf))

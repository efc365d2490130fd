"""The race: what its bound promises, on simulated scores, and that it finds what is there.

`simulate` is a whole `auto` on scores: rounds of a seed, dropping, choosing, and the claim on fresh
seeds, by the functions that the command uses; only training is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from bluestab.stats.anytime import fortune_above
from bluestab.stats.failing import unseen
from bluestab.stats.verdict import effect_of
from bluestab.sweeps.auto.plan import FEWEST, LEVEL, MOST_FRESH, MOST_RACE_SEEDS, RACE_SEEDS
from bluestab.sweeps.auto.race import ERROR, best_of, evidence, losers, means

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""(generator, seeds) -> scores (arms, seeds), the baseline first; higher is better; 0: failed."""


def test_no_fortune_grows_on_average_where_nothing_is_behind_it() -> None:
    for n in (0, 1, 2, 7, 19):
        for k in range(n + 1):
            now = float(fortune_above(k, n))
            lost, won = (float(fortune_above(k + i, n + 1)) for i in (1, 0))
            assert (lost + won) / 2 <= now + 1e-9
            assert lost >= won
    assert float(fortune_above(0, 0)) == pytest.approx(1.0)
    assert float(fortune_above(8, 8)) == pytest.approx(2**9 / 9 * (1 - 2**-9))


def test_a_loser_leaves_and_a_rare_great_winner_stays() -> None:
    scores = {
        "none": dict.fromkeys(range(16), 0.5),
        "worse": dict.fromkeys(range(16), 0.4),
        "rare": {seed: 3.0 if seed == 5 else 0.45 for seed in range(16)},
    }
    assert losers(scores, [*scores], "none") == {"worse": "none"}
    fortune, by = evidence(scores)["rare"]
    assert by is None, "it is beaten more often than not, but its mean is better"
    assert fortune >= len(scores) / ERROR
    assert best_of(means(scores, ["none", "rare"]), "none") == "rare"
    few = {arm: {s: own[s] for s in range(4)} for arm, own in scores.items()}
    assert losers(few, [*few], "none") == {}
    tied = {"none": {0: 1.0}, "same": {0: 1.0}}
    assert best_of(means(tied, [*tied]), "none") == "none"
    assert means({"none": {0: 1.0}, "other": {1: 1.0}}, ["none", "other"]) == {}


# --- a whole auto, simulated


def equal_failing(share: float, arms: int, of: str = "all") -> Draw:
    """Arms of equal distribution or, with `of`, of equal means of which only remedies, or only the
    baseline, fail: heavy tails (Student's t with 3 degrees of freedom), seeds correlated by 0.5."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        noise = rng.standard_t(3, (1, n)) + rng.standard_t(3, (arms, n))
        scores = 0.7 + 0.02 * noise
        fails = np.zeros((arms, 1))
        fails[{"all": slice(None), "remedies": slice(1, None), "baseline": slice(1)}[of]] = share
        level = 0.7 - (0.7 - 0.1) * share  # the mean of those that fail
        scores = np.where(fails > 0, scores, scores - (0.7 - level) * (of != "all"))
        return np.where(rng.random((arms, n)) < fails, 0.1, scores)

    return draw


def one_better(by: float, arms: int) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        scores = 0.7 + 0.03 * (rng.standard_normal((1, n)) + rng.standard_normal((arms, n)))
        scores[1] += by
        return scores

    return draw


@cache
def signs(n: int) -> np.ndarray:
    return np.random.default_rng(n).choice([-1.0, 1.0], (999, n))


def flipped(delta: np.ndarray) -> float:
    """Two-sided p of the mean by sign flips, as `stats.changes` for one arm, but quick."""
    sums = np.abs(signs(len(delta)) @ delta)
    return float((1 + (sums >= abs(delta.sum()) - 1e-12).sum()) / (1 + len(sums)))


def simulate(draw: Draw, runs: int, rng: np.random.Generator) -> tuple[str, int, int, int]:
    """(what the fresh seeds say, winner, runs used by the race, arms dropped)."""
    table = draw(rng, MOST_RACE_SEEDS + MOST_FRESH)
    names = [str(i) for i in range(len(table))]
    scores: dict[str, dict[int, float]] = {name: {} for name in names}
    alive, used, gone = names, 0, 0
    for seed in range(MOST_RACE_SEEDS):
        if used + len(alive) > 0.6 * runs or (len(alive) == 2 and seed >= RACE_SEEDS):
            break
        for name in alive:
            scores[name][seed] = float(table[int(name), seed])
        used += len(alive)
        out = losers(scores, alive, "0")
        alive, gone = [name for name in alive if name not in out], gone + len(out)
    winner = int(best_of(means(scores, alive), "0"))
    n = min(MOST_FRESH, (runs - used) // 2)
    if winner == 0 or n < FEWEST:
        return "kept", winner, used, gone
    own, other = (table[i, MOST_RACE_SEEDS : MOST_RACE_SEEDS + n] for i in (winner, 0))
    delta = own - other
    hidden = unseen(own, other, own <= 0.1, other <= 0.1, 0.1, 1 - LEVEL)
    turns = hidden is not None and hidden.turns
    return str(effect_of(float(delta.mean()), flipped(delta), None, turns)), winner, used, gone


def shares(draw: Draw, runs: int, n: int, seed: int = 0) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    found = [simulate(draw, runs, rng) for _ in range(n)]
    said = [one[0] for one in found]
    return {
        "declared": said.count("better") / n,
        "delivered": (said.count("better") + said.count("ahead")) / n,
        "right": sum(one[1] == 1 for one in found) / n,
        "race": float(np.mean([one[2] for one in found])),
        "dropped": float(np.mean([one[3] > 0 for one in found])),
    }


NULLS = {
    "8 arms, heavy tails": (equal_failing(0.0, 8), 120),
    "8 arms, heavy tails, 20 % fail": (equal_failing(0.2, 8), 120),
    "equal means, remedies fail in 20 %": (equal_failing(0.2, 8, "remedies"), 120),
    "equal means, the baseline fails in 20 %": (equal_failing(0.2, 8, "baseline"), 120),
    "8 arms x 3 rates": (equal_failing(0.2, 24), 360),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NULLS)
def test_nothing_is_declared_where_nothing_is(name: str) -> None:
    draw, runs = NULLS[name]
    n = 2000
    found = shares(draw, runs, n)
    print(f"\n{name}: {found}")
    assert found["declared"] <= LEVEL + 2 * (LEVEL * (1 - LEVEL) / n) ** 0.5


@pytest.mark.slow
def test_the_race_drops_what_is_not_beaten_as_seldom_as_it_promises() -> None:
    found = shares(equal_failing(0.2, 8), 400, 1000)
    assert found["dropped"] <= ERROR + 2 * (ERROR * (1 - ERROR) / 1000) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("by", "right"), [(0.03, 0.5), (0.06, 0.9)])
def test_what_helps_is_found(by: float, right: float) -> None:
    found = shares(one_better(by, 8), 120, 500)
    print(f"\n+{by}: {found}")
    assert found["right"] >= right

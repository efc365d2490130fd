"""How often a verdict errs, on arms whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bluestab import stats
from bluestab.stats.layouts import Folds
from bluestab.stats.verdict import Evidence, judge

N, EXPERIMENTS = 10, 1000


def arms(
    rng: np.random.Generator, m: int, spread: float = 1.0, failing: float = 0.0
) -> tuple[dict[str, dict[int, float]], dict[str, Evidence]]:
    """A baseline of spread 1 and m - 1 arms of this spread, equal means, failing alike."""
    luck = rng.normal(size=N)
    scores, failed = {}, {}
    for k in range(m):
        noise = (0.5**0.5) * (luck + rng.normal(size=N)) * (spread if k else 1.0)
        fails = rng.random(N) < failing
        name = str(k) if k else "none"
        scores[name] = dict(enumerate((noise - 20 * fails).tolist()))
        failed[name] = frozenset(np.flatnonzero(fails).tolist())
    tested = {a: Evidence(None, failed[a], failed["none"]) for a in scores if a != "none"}
    return scores, tested


def steady(m: int, failing: float, experiments: int = EXPERIMENTS) -> float:
    """Share of experiments in which any arm of true spread ratio 1.5 is approved."""
    rng = np.random.default_rng([m, int(100 * failing)])
    wrong = 0
    for _ in range(experiments):
        found = judge(*(lambda made: (made[0], "none", made[1]))(arms(rng, m, 1.5, failing)))
        wrong += any(one.state == "approved" for one in found.standings)
    return wrong / experiments


def too_high(m: int, experiments: int = EXPERIMENTS) -> float:
    """Share of experiments in which the named arm's bound lies above its true mean, zero."""
    rng = np.random.default_rng(m)
    wrong = 0
    for _ in range(experiments):
        scores, _ = arms(rng, m)
        first = judge(scores, "none").first
        wrong += first is not None and first.low is not None and first.low > 0
    return wrong / experiments


def covered(m: int, experiments: int = EXPERIMENTS, r: float = 0.9) -> float:
    """Share in which the test interval of the arm with the best validation mean holds its mean,
    where validation and test share their luck."""
    rng = np.random.default_rng(m + 1000)
    held = 0
    for _ in range(experiments):
        validation = rng.normal(size=(m, N))
        test = r * validation + (1 - r * r) ** 0.5 * rng.normal(size=(m, N))
        best = int(validation.mean(axis=1).argmax())
        interval = stats.mean_interval(test[best], stats.design_of([]), 1 - 0.05 / m)
        held += interval is not None and interval.low <= 0 <= interval.high
    return held / experiments


@pytest.mark.slow
@pytest.mark.parametrize("m", [2, 4, 8, 20])
def test_a_verdict_errs_as_seldom_as_it_says(m: int) -> None:
    error = 3 * (0.05 * 0.95 / EXPERIMENTS) ** 0.5
    assert too_high(m) <= 0.05 + error
    assert covered(m) >= 0.95 - error
    for failing in (0.0, 0.2):
        assert steady(m, failing) <= 0.05 + error


GRID = [(("init", i), ("order", j)) for i in range(5) for j in range(5)]
FOLDED = [(seed, fold) for seed in range(5) for fold in range(5)]


def crossed(
    rng: np.random.Generator, keys: Sequence[Any], shares: tuple[float, float], spread: float
) -> dict[Any, float]:
    """5 x 5 scores, of whose variance rows and columns have these shares."""
    of_row, of_column = (s**0.5 for s in shares)
    made = (
        of_row * rng.normal(size=(5, 1))
        + of_column * rng.normal(size=(1, 5))
        + (1 - sum(shares)) ** 0.5 * rng.normal(size=(5, 5))
    )
    return dict(zip(keys, (spread * made).ravel().tolist(), strict=True))


def of_crossed(
    shares: tuple[float, float],
    experiments: int = EXPERIMENTS,
    n_arms: int = 3,
    folds: bool = False,
) -> dict[str, float]:
    """Rates in per cent, by what: arms of one mean that are shown to differ, bounds that hold, and
    arms of true spread ratio 1.25 that are approved for it, or ruled out."""
    rng = np.random.default_rng([5, int(100 * shares[0]), int(100 * shares[1]), folds])
    keys = FOLDED if folds else GRID
    told: dict[str, Any] = {"design": stats.design_of}
    if folds:
        told = {
            "design": lambda keys: stats.design_of([(("seed", key[0]),) for key in keys]),
            "folds": Folds(lambda key: key[1], 80, 20),
        }
    found = dict.fromkeys(("covered", "apart", "approved", "ruled out"), 0)
    for _ in range(experiments):
        alike = {str(k): crossed(rng, keys, shares, 1.0) for k in range(n_arms)}
        first, *others = judge(alike, "0", **told).standings
        found["covered"] += first.low is not None and first.low <= 0
        found["apart"] += any(one.better or "worse" in one.against for one in others)
        wider = {a: crossed(rng, keys, shares, 1.25 if a != "0" else 1.0) for a in alike}
        judged = judge(wider, "0", **told).standings[1:]
        found["approved"] += any(one.upper is not None and one.upper <= 1.25 for one in judged)
        found["ruled out"] += any("varies more" in one.against for one in judged)
    return {what: 100 * n / experiments for what, n in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shares", "folds", "before"),
    [
        ((0.2, 0.2), False, "92, 31.5, 4, 7.5"),
        ((0.4, 0.4), False, "83, 50, 13.5, 16.5"),
        ((0.2, 0.0), True, "not measured"),
        ((0.6, 0.0), True, "90.5, 24, 15, 18"),
    ],
)
def test_a_verdict_knows_which_runs_share_seeds(
    shares: tuple[float, float], folds: bool, before: str
) -> None:
    """Before: 25 runs taken for independent."""
    found = of_crossed(shares, folds=folds)
    print(f"5 {'seeds x 5 folds' if folds else 'x 5 seeds'}, {shares}: {found}; before: {before}")
    error = 300 * (0.05 * 0.95 / EXPERIMENTS) ** 0.5
    assert found["covered"] >= 95 - error
    for wrong in ("apart", "approved", "ruled out"):
        assert found[wrong] <= 5 + error, wrong


if __name__ == "__main__":
    print("arms   bound above the mean   coverage on test   ratio 1.5 approved, failing 20 %")
    for m in (2, 4, 8, 20):
        figures = (too_high(m), covered(m), steady(m, 0.0), steady(m, 0.2))
        print(f"{m:4d}" + "".join(f"{100 * x:18.1f} %" for x in figures))

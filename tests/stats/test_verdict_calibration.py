"""How often a verdict errs, on arms whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from bluestab import stats
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


if __name__ == "__main__":
    print("arms   bound above the mean   coverage on test   ratio 1.5 approved, failing 20 %")
    for m in (2, 4, 8, 20):
        figures = (too_high(m), covered(m), steady(m, 0.0), steady(m, 0.2))
        print(f"{m:4d}" + "".join(f"{100 * x:18.1f} %" for x in figures))

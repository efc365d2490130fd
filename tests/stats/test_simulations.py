"""What the report does with runs as people make them, by simulation: `make test-calibration`.

Every figure is printed beside the one before (`pytest -s`): what the report did when seeds counted
as independent whatever they shared, items were drawn with the seeds, looks were not counted and the
other side's error was none. Rates in per cent; each with its Monte-Carlo error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from bluestab import stats
from bluestab.report.frames.contrasts import ArmRuns, contrasts
from bluestab.report.frames.folds import with_fold
from bluestab.report.frames.published import Published, verdict
from bluestab.stats.arrays import FloatArray
from bluestab.tasks.score_sums import score as item_score

pytestmark = pytest.mark.slow

M = 1000


def error(rate: float, m: int) -> float:
    return 300 * math.sqrt(rate / 100 * (1 - rate / 100) / m)


def said(what: str, found: float, before: float | str, m: int = M) -> None:
    print(f"{what:<62}{found:6.1f} +- {error(found, m):.1f}   before: {before}")


def streams(init: int, order: int | None = None, fold: int | None = None) -> Any:
    return with_fold((("init", init), ("order", init if order is None else order)), fold)


def found_any(rows: Sequence[FloatArray], seeds: Sequence[Any], **told: Any) -> bool:
    """Whether any arm, the first row being the baseline, is shown to differ."""
    base, *arms = (
        ArmRuns(dict(zip(seeds, row.tolist(), strict=True)), sizes=told.get("sizes"))
        for row in rows
    )
    looked = [str(i) for i in range(len(arms))] if told.get("looked") else ()
    found = contrasts({str(i): (arm, base) for i, arm in enumerate(arms)}, looked=looked)
    return any(r["p_adjusted"] is not None and r["p_adjusted"] <= 0.05 for r in found.values())


def rate(m: int, experiment: Callable[[np.random.Generator], bool], stream: int) -> float:
    rng = np.random.default_rng(stream)
    return 100 * sum(experiment(rng) for _ in range(m)) / m


def crossed(rng: np.random.Generator, shares: tuple[float, float], arms: int = 2) -> FloatArray:
    """5 x 5 seeds: `(arms, 25)`, variance 1 of which head and order seeds have their shares."""
    a, b = (math.sqrt(s) for s in shares)
    rest = math.sqrt(1 - sum(shares))
    made = (
        a * rng.normal(size=(arms, 5, 1))
        + b * rng.normal(size=(arms, 1, 5))
        + rest * rng.normal(size=(arms, 5, 5))
    )
    return made.reshape(arms, 25)


GRID = [streams(i, j) for i in range(5) for j in range(5)]


@pytest.mark.parametrize(("shares", "before"), [((0.2, 0.2), (77, 25)), ((0.4, 0.4), (63, 36))])
def test_crossed_seeds(shares: tuple[float, float], before: tuple[int, int]) -> None:
    design = stats.design_of(GRID)

    def covers(rng: np.random.Generator) -> bool:
        interval = stats.mean_interval(crossed(rng, shares, 1)[0], design)
        return interval is not None and interval.low <= 0 <= interval.high

    covered = rate(M, covers, 1)
    said(f"5 x 5 seeds, {shares}: coverage of the mean", covered, before[0])
    assert covered >= 93 - error(covered, M)
    errs = rate(M, lambda rng: found_any(crossed(rng, shares), GRID), 2)
    said(f"5 x 5 seeds, {shares}: arms alike called apart", errs, before[1])
    assert errs <= 5 + error(5, M)


@pytest.mark.parametrize("seeds", [1, 3])
def test_folds(seeds: int) -> None:
    """Five folds, whose scores agree as Nadeau and Bengio's correction supposes (rho = 1/5)."""
    names = [streams(s, fold=f) for s in range(seeds) for f in range(5)]

    def one(rng: np.random.Generator) -> bool:
        shared, own = rng.normal(size=(2, 1, 1)), rng.normal(size=(2, 1, 5))
        noise = rng.normal(size=(2, seeds, 5))
        made = (math.sqrt(0.2) * shared + math.sqrt(0.8) * own + 0.5 * noise).reshape(2, -1)
        return found_any(made, names, sizes=(80, 20))

    found = rate(M, one, 3 + seeds)
    said(f"5 folds x {seeds} seeds: arms alike called apart", found, "not measured")
    assert found <= 5 + error(5, M)


@pytest.mark.parametrize("arms", [4, 8, 20])
@pytest.mark.parametrize("n", [8, 12])
def test_families(arms: int, n: int) -> None:
    m = 400

    def one(rng: np.random.Generator) -> bool:
        return found_any(rng.normal(size=(arms + 1, n)), [streams(i) for i in range(n)])

    found = rate(m, one, 100 + arms + n)
    said(f"{arms} arms alike, {n} seeds: any called apart", found, "0 to 6.4 (Holm)", m)
    assert found <= 5 + error(5, m)


@pytest.mark.parametrize(("most", "before"), [(10, 9.7), (20, 16.6)])
@pytest.mark.parametrize("arms", [1, 4])
def test_looks_after_every_seed(most: int, before: float, arms: int) -> None:
    """From 6 seeds on; the first launch declared them, every other one added a seed."""
    m = 400

    def one(rng: np.random.Generator) -> bool:
        rows = rng.normal(size=(arms + 1, most))
        return any(
            found_any(rows[:, :n], [streams(i) for i in range(n)], looked=n > 6)
            for n in range(6, most + 1)
        )

    found = rate(m, one, 200 + most + arms)
    said(f"{arms} arms alike, a look at 6 .. {most} seeds: ever called apart", found, before, m)
    # the first look, which was declared, has a level of its own: the two add up at most
    assert found <= 10 + error(10, m)
    added = rate(
        m,
        lambda rng: any(
            found_any(rows[:, :n], [streams(i) for i in range(n)], looked=True)
            for rows in [rng.normal(size=(arms + 1, most))]
            for n in range(6, most + 1)
        ),
        300 + most + arms,
    )
    said(f"{arms} arms alike, looks at added seeds alone", added, before, m)
    assert added <= 5 + error(5, m)


def additive(rng: np.random.Generator, n_seeds: int, n_items: int, sd: float) -> list[FloatArray]:
    """Scores of items: seed effect `sd`, item effect 1, their interaction 0.5."""
    made = (
        sd * rng.normal(size=(n_seeds, 1))
        + rng.normal(size=n_items)
        + 0.5 * rng.normal(size=(n_seeds, n_items))
    )
    return [np.stack([row, np.ones(n_items)], axis=1) for row in made]


@pytest.mark.parametrize(("n_items", "m"), [(20, 400), (100, 400), (500, 400), (2000, 200)])
@pytest.mark.parametrize(("sd", "before"), [(1.0, "82 to 89"), (0.1, "91 to 94")])
def test_items(n_items: int, m: int, sd: float, before: str) -> None:
    narrower, mean = [], item_score("accuracy")

    def one(rng: np.random.Generator) -> bool:
        seeds = additive(rng, 5, n_items, sd)
        found = stats.items_and_seeds_interval(mean, seeds, resamples=299)
        alone = stats.t_interval([float(s[:, 0].mean()) for s in seeds])
        assert found is not None
        assert alone is not None
        narrower.append(found.high - found.low < alone.high - alone.low)
        return found.low <= 0 <= found.high

    covered = rate(m, one, n_items)
    said(f"5 seeds (sd {sd}) x {n_items} items: coverage", covered, before, m)
    assert 93 - error(93, m) <= covered <= 98 + error(98, m)
    assert not any(narrower), "before: always, at 500 items and sd 1"


@pytest.mark.parametrize(
    ("their_n", "our_n", "known", "before"),
    [(5, 5, True, 12), (20, 5, True, 35), (20, 1, True, 67), (20, 5, False, 37)],
)
def test_replication(their_n: int, our_n: int, known: bool, before: int) -> None:
    m = 4000

    def apart(rng: np.random.Generator) -> bool:
        paper, ours = rng.normal(size=their_n), rng.normal(size=our_n)
        std = float(paper.std(ddof=1)) if known else None
        theirs = Published(
            "A", "1", "t", "m", "none", "pearson", "test", their_n, float(paper.mean()), std
        )
        found = verdict(ours.tolist(), theirs)
        return found is not None and found.word != "within"

    found = rate(m, apart, their_n + our_n)
    std = "" if known else ", their std unknown"
    said(f"replication, {their_n} seeds theirs and {our_n} ours{std}: apart", found, before, m)
    assert found <= 7


def test_planning() -> None:
    """Pilots of 5 seeds, one standard deviation to find among eight arms."""
    m, d, level = 1000, 1.0, 0.05 / 8
    rng = np.random.default_rng(9)
    pilots = rng.normal(size=(m, 5))
    planned = [stats.seeds_needed(p, d, level=level, assurance=0.8) for p in pilots]
    powers = [stats.power_of(n, d, level) for n in planned if n is not None]
    reached = 100 * float(np.mean([power >= 0.8 for power in powers]))
    said("more seeds: pilots of 5 that reach a power of 80 %", reached, 49, m)
    print(f"{'mean power over 8 arms':<62}{np.mean(powers):6.2f}          before: 0.43")
    assert reached >= 80 - error(80, m)

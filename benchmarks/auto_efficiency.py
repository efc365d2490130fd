"""What `bluestab auto` delivers for a budget, beside three other ways to spend it; simulated.

    python benchmarks/auto_efficiency.py [--repetitions 500] [--runs 40 60 120]

From stored sweeps of five arms at twenty seeds (tests/assets/stores): in every repetition seeds are
drawn anew with replacement, each with the scores that all arms had there, so that what is true of
an arm is its mean over the twenty. All ways get as many runs and read validation scores alone:

    auto    the race of `sweeps/auto`, the winner beside plain fine-tuning on fresh seeds, and what
            these show to be better, else plain fine-tuning
    grid    every arm on the same seeds, and the best mean
    racing  the same points and seeds, with the racing of `hydra/sweeper=optuna`
    seeds   plain fine-tuning alone

Of the arm that is delivered the run that is best on validation is delivered. Printed are how often
the arm with the best true test mean was delivered, how often plain fine-tuning was, the true mean
of the arm, the test score of the run, and its mean difference to `seeds` with an interval (95 %,
normal) over repetitions: it says how sure the simulation is, not how sure twenty seeds are. Where
validation is small, `bluestab auto` itself would take folds, which these sweeps do not have.
"""

from __future__ import annotations

import argparse
import math
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from bluestab.core.paths import conf_dir
from bluestab.stats import signflips
from bluestab.stats.arrays import FloatArray
from bluestab.store.store import Store
from bluestab.sweeps.auto.fresh import quality, row_of
from bluestab.sweeps.auto.plan import (
    FEWEST,
    LEVEL,
    LOOKS,
    MOST_FRESH,
    MOST_RACE_SEEDS,
    RACE_SEEDS,
    RACE_SHARE,
)
from bluestab.sweeps.auto.race import best_of, losers, means
from bluestab.sweeps.search.objectives import OBJECTIVES
from bluestab.sweeps.search.race import Race, verdict

STORES = Path(__file__).parents[1] / "tests/assets/stores"
MEAN = OBJECTIVES["mean"]


class World:
    """One repetition of a stored sweep: seeds drawn anew, each with what all arms scored there."""

    def __init__(self, sweep: Sweep, repetition: int) -> None:
        rng = np.random.default_rng(repetition)
        drawn = rng.integers(sweep.validation.shape[1], size=1000)
        self.validation, self.test = sweep.validation[:, drawn], sweep.test[:, drawn]
        self.arms = len(self.validation)

    def best_run(self, arm: int, columns: list[int]) -> float:
        """Test score of the run of this arm that is best on validation."""
        return float(self.test[arm, max(columns, key=lambda i: self.validation[arm, i])])


class Sweep:
    """arms: names, plain fine-tuning first; validation, test: (arms, seeds)."""

    def __init__(self, name: str) -> None:
        found: dict[str, dict[int, tuple[float, float]]] = {"none": {}}
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(STORES / f"{name}.tar.gz") as archive:
                archive.extractall(folder, filter="data")
            store = Store(Path(folder) / "runs")
            for record in map(store.read, sorted(store.keys())):
                arm = "+".join(name for name, _ in record.result["config"]["technique"]) or "none"
                scores = (quality(record), float(row_of(record)["score"]))
                found.setdefault(arm, {})[record.measured["names"]["seed"]] = scores
        seeds = sorted(found["none"])
        assert all(sorted(own) == seeds for own in found.values()), "arms share their seeds"
        self.arms = [*found]
        table = np.array([[found[arm][seed] for seed in seeds] for arm in self.arms])
        self.validation, self.test = table[..., 0], table[..., 1]


Way = Callable[[World, int], tuple[int, list[int], int]]
"""(world, runs) -> arm, columns in which it was trained, runs used."""


def auto(world: World, runs: int) -> tuple[int, list[int], int]:
    names = [str(arm) for arm in range(world.arms)]
    scores: dict[str, dict[int, float]] = {name: {} for name in names}
    alive, seed, used = names, 0, 0
    most = min(int(RACE_SHARE * runs), runs - 2 * FEWEST)
    while seed < MOST_RACE_SEEDS and not (len(alive) == 2 and seed >= RACE_SEEDS):
        rounds = max(1, round(runs / LOOKS / len(alive)))
        ahead = best_of(means(scores, alive), "0") if seed else None
        left = (runs - 2 * FEWEST if ahead == "0" else most) - used
        rounds = min(rounds, MOST_RACE_SEEDS - seed, left // len(alive))
        if rounds < 1 or len(alive) < 2:
            break
        for name in alive:
            own = world.validation[int(name), seed : seed + rounds]
            scores[name] |= dict(zip(range(seed, seed + rounds), own.tolist(), strict=True))
        seed, used = seed + rounds, used + rounds * len(alive)
        alive = [name for name in alive if name not in losers(scores, alive, "0")]
    winner = int(best_of(means(scores, alive), "0"))
    raced = {int(name): [*own] for name, own in scores.items()}
    n = min(MOST_FRESH, (runs - used) // 2)
    if winner == 0 or n < FEWEST:
        return 0, raced[0], used
    fresh = list(range(MOST_RACE_SEEDS, MOST_RACE_SEEDS + n))
    change = world.validation[winner, fresh] - world.validation[0, fresh]
    p, _, _ = signflips.p_value(change, tie=1e-12)
    arm = winner if change.mean() > 0 and p < LEVEL else 0
    return arm, [*raced[arm], *fresh], used + 2 * n


def grid(world: World, runs: int) -> tuple[int, list[int], int]:
    n = runs // world.arms
    return int(world.validation[:, :n].mean(axis=1).argmax()), list(range(n)), n * world.arms


def racing(world: World, runs: int) -> tuple[int, list[int], int]:
    n = runs // world.arms
    rule = OmegaConf.to_container(OmegaConf.load(conf_dir() / "search" / "default.yaml"))
    race = Race(**rule["race"])  # type: ignore[call-overload, index]
    rows: list[list[float]] = []
    for arm in range(world.arms):
        own: list[float] = []
        for k in range(n):
            own.append(float(world.validation[arm, k]))
            if verdict(own, rows, race, MEAN, n):
                break
        rows.append(own)
    whole = [arm for arm, row in enumerate(rows) if len(row) == n]
    best = max(whole, key=lambda arm: MEAN.of(rows[arm]))
    return best, list(range(n)), sum(map(len, rows))


def seeds(world: World, runs: int) -> tuple[int, list[int], int]:
    return 0, list(range(runs)), runs


WAYS: dict[str, Way] = {"seeds": seeds, "auto": auto, "grid": grid, "racing": racing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--runs", type=int, nargs="*", default=[40, 60, 120])
    asked = parser.parse_args()
    for name in ("biosses_remedies", "ncbi64_remedies"):
        sweep = Sweep(name)
        truth = sweep.test.mean(axis=1)
        said = ", ".join(f"{arm} {mean:.3f}" for arm, mean in zip(sweep.arms, truth, strict=True))
        print(f"{name}: true test means {said}")
        for runs in asked.runs:
            print(
                f"  {runs} runs   best  plain  arm's mean  run's test  against seeds         used"
            )
            reference: FloatArray = np.empty(0)
            for way, spend in WAYS.items():
                worlds = [World(sweep, i) for i in range(asked.repetitions)]
                found = [spend(world, runs) for world in worlds]
                arms = np.array([arm for arm, _, _ in found])
                score = np.array(
                    [
                        w.best_run(arm, columns)
                        for w, (arm, columns, _) in zip(worlds, found, strict=True)
                    ]
                )
                reference = score if way == "seeds" else reference
                change = score - reference
                half = 1.96 * change.std(ddof=1) / math.sqrt(len(change))
                print(
                    f"    {way:7} {np.mean(arms == truth.argmax()):6.0%} {np.mean(arms == 0):6.0%}"
                    f" {truth[arms].mean():11.3f} {score.mean():11.3f}  {change.mean():+.3f} "
                    f"[{change.mean() - half:+.3f}, {change.mean() + half:+.3f}]"
                    f" {np.mean([used for *_, used in found]):6.1f}"
                )


if __name__ == "__main__":
    main()

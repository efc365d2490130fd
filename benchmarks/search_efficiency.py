"""How many runs does racing over seeds save, and what does it cost? Against three plain ways.

    python benchmarks/search_efficiency.py [--repetitions 200] [--points 30] [--seeds 5]

A synthetic objective with a known optimum: two numbers and a depth, a smooth hill. The score of a
run is hill(point) + effect of the seed + noise, with the spread that real runs have on validation:

              points    seeds    noise    measured on (MiniLM, validation at the last step)
    biosses    0.026    0.048    0.065    sweep biosses_remedies: 5 arms x 8 seeds
    ncbi64     0.030    0.011    0.036    sweep techniques_ncbi64: 18 arms x 2 seeds

(two-way variance components, `residual_std` of `sweeps/search/race.py` for the noise). `points` is
the spread of the hill over random points; noise grows by up to 60 % away from the top, as failing
points scatter. Regret is hill(optimum) - hill(point chosen).

    all     TPE as the search sets it, all seeds for every point
    race    the same, with the racing that is the default of the search
    one     one seed for every point
    plain   Optuna's default sampler, mean over all seeds
    reruns  one seed for every point, as many points as `all` has runs
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optuna
from omegaconf import OmegaConf

from bluestab.core.paths import conf_dir
from bluestab.sweeps.search import samplers
from bluestab.sweeps.search.objectives import OBJECTIVES
from bluestab.sweeps.search.race import Race, verdict

SPREADS = {"biosses": (0.026, 0.048, 0.065), "ncbi64": (0.030, 0.011, 0.036)}
MEAN = OBJECTIVES["mean"]
Point = tuple[float, float, int]
OPTIMUM: Point = (0.6, 0.35, 2)


def shape(point: Point) -> float:
    """A hill in [0, 1] x [0, 1] x {1, 2, 3}, 0 at its top."""
    x, y, depth = point[0] - OPTIMUM[0], point[1] - OPTIMUM[1], point[2] - OPTIMUM[2]
    return -(4 * x**2 + 2 * y**2 + 0.5 * x * y + 0.15 * depth**2)


_draws = np.random.default_rng(0)
UNIT = float(
    np.std([shape((*_draws.random(2), int(_draws.integers(1, 4)))) for _ in range(20_000)])
)
"""Spread of the shape over random points."""


class World:
    """One repetition: its own seeds and noise, the same for every method."""

    def __init__(self, spreads: tuple[float, float, float], repetition: int) -> None:
        self.points, seeds, self.noise = spreads
        self.repetition = repetition
        self.seeds = np.random.default_rng([repetition, 1]).normal(0, seeds, 1000)

    def hill(self, point: Point) -> float:
        return shape(point) / UNIT * self.points

    def score(self, point: Point, seed: int) -> float:
        wider = 0.85 + 0.5 * min(-shape(point), 1.0)
        key = [self.repetition, seed, *np.array(point).view(np.uint32).tolist()]
        noise = np.random.default_rng(key).normal(0, self.noise * wider)
        return self.hill(point) + float(self.seeds[seed]) + noise


@dataclass(frozen=True)
class Result:
    regret: float
    runs: int


def search(
    world: World, n_points: int, n_seeds: int, race: Race | None, flags: dict[str, object] | None
) -> Result:
    """One search. flags: of the sampler, made anew for every point; None: Optuna's default."""
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=world.repetition)
    )
    rows: list[list[float]] = []
    chosen: list[Point] = []
    for index in range(n_points):
        if flags is not None:
            study.sampler = samplers.make(flags, world.repetition, index, False)
        trial = study.ask()
        point = (
            trial.suggest_float("x", 0, 1),
            trial.suggest_float("y", 0, 1),
            trial.suggest_int("depth", 1, 3),
        )
        own: list[float] = []
        why = None
        for k in range(n_seeds):
            own.append(world.score(point, k))
            trial.report(own[-1], k)
            why = race and verdict(own, rows, race, MEAN, n_seeds)
            if why:
                break
        if why:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, MEAN.of(own))
        rows.append(own)
        chosen.append(point)
    full = [i for i, row in enumerate(rows) if len(row) == n_seeds]
    best = chosen[max(full, key=lambda i: MEAN.of(rows[i]))]
    return Result(-world.hill(best), sum(map(len, rows)))


def methods(n_points: int, n_seeds: int) -> dict[str, Callable[[World], Result]]:
    def flags(file: str) -> dict[str, object]:
        found = OmegaConf.to_container(OmegaConf.load(conf_dir() / "search" / file))
        assert isinstance(found, dict)
        return found  # type: ignore[return-value]

    tpe = flags("sampler/tpe.yaml")
    race = Race(**flags("default.yaml")["race"])  # type: ignore[arg-type]
    return {
        "all": lambda world: search(world, n_points, n_seeds, None, tpe),
        "race": lambda world: search(world, n_points, n_seeds, race, tpe),
        "one": lambda world: search(world, n_points, 1, None, tpe),
        "plain": lambda world: search(world, n_points, n_seeds, None, None),
        "reruns": lambda world: search(world, n_points * n_seeds, 1, None, tpe),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--points", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], help="methods to leave out")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    for name, spreads in SPREADS.items():
        print(f"{name}: {asked.points} points x {asked.seeds} seeds, {asked.repetitions} times")
        reference: list[float] = []
        for method, run in methods(asked.points, asked.seeds).items():
            if method in asked.without:
                continue
            started = time.perf_counter()
            found = [run(World(spreads, i)) for i in range(asked.repetitions)]
            regrets = [one.regret for one in found]
            reference = reference or regrets
            error = statistics.stdev(regrets) / math.sqrt(len(regrets))
            paired = [a - b for a, b in zip(regrets, reference, strict=True)]
            paired_error = statistics.stdev(paired) / math.sqrt(len(paired))
            runs = statistics.mean(one.runs for one in found)
            print(
                f"  {method:7} regret {statistics.mean(regrets):.4f} +- {error:.4f}, against all "
                f"{statistics.mean(paired):+.4f} +- {paired_error:.4f}; runs {runs:.1f} "
                f"({runs / (asked.points * asked.seeds):.0%} of all); "
                f"{time.perf_counter() - started:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()

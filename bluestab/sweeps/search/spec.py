"""A search as it was asked for: read from the node `search` of the config, checked, and compared
with what an earlier command asked of the same study.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluestab.core import rules
from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.rules import Rule, at_least, one_of, whole, within
from bluestab.core.secrets import cleaned_value
from bluestab.core.types import At
from bluestab.sweeps.search.objectives import names as objective_names
from bluestab.sweeps.search.points import Point, SearchSpace, overrides, owner
from bluestab.sweeps.search.race import Race

FLAG = rules.FLAG
SAMPLERS: Mapping[str, Mapping[str, Rule]] = {
    "tpe": {
        "n_startup_trials": whole(0),
        "n_ei_candidates": whole(1),
        "multivariate": FLAG,
        "group": FLAG,
        "constant_liar": FLAG,
    },
    "gp": {"n_startup_trials": whole(1), "deterministic_objective": FLAG},
    "random": {},
    "grid": {},
    "cmaes": {
        "n_startup_trials": whole(0),
        "sigma0": rules.above(0, null=True),
        "popsize": whole(2, null=True),
        "with_margin": FLAG,
        "use_separable_cma": FLAG,
        "consider_pruned_trials": FLAG,
    },
    "nsga2": {
        "population_size": whole(2),
        "mutation_prob": within("[0, 1]", null=True),
        "crossover_prob": within("[0, 1]"),
        "swapping_prob": within("[0, 1]"),
    },
}
"""Sampler -> its flags and what they may hold; `conf/search/sampler/NAME.yaml` names them all."""

SINGLE_OBJECTIVE = ("gp", "cmaes")


@dataclass(frozen=True)
class Search:
    """Everything that a worker needs to know.

    name        of the study, and of its folder below `searches/` in the store
    space       what points are drawn from; fixed: overrides of all its runs
    seeds       in the order in which a point goes through them
    n_trials    points in total, stopped ones included
    objective   names, see `objectives`; more than one: there is no best point but a Pareto front
    failed_share  highest share of failed runs of a point that may win; None: any
    start       points that come first
    baseline    overrides of the arm that the winner is compared with
    confirm     fresh seeds of that comparison; none: it is left out
    storage     where the study is: a URL, or the path of a journal file
    root        folder of the store
    asked       what all this was made of: `node`, `fixed`, `choices` of `plan_search`
    storage_reference  how the storage was written, if it came from the environment
    group       seeds of a point that train as one at most; None: what memory is expected to hold
    sign        of the task's metric: -1 where lower scores are better
    range       of the task's metric: no score lies beyond it
    """

    name: str
    space: SearchSpace
    fixed: tuple[str, ...]
    seeds: tuple[int, ...]
    n_trials: int
    objective: tuple[str, ...]
    at: At
    failed_share: float | None
    race: Race
    prune: str
    sampler: Mapping[str, Any]
    sampler_seed: int
    start: tuple[Point, ...]
    baseline: tuple[str, ...]
    confirm: tuple[int, ...]
    workers: int | None
    storage: str
    root: str
    asked: Mapping[str, Any]
    storage_reference: str | None = None
    group: int | None = 1
    sign: int = 1
    range: tuple[float, float] = (-math.inf, math.inf)

    @property
    def folder(self) -> Path:
        return Path(self.root) / "searches" / self.name

    @property
    def several(self) -> bool:
        """Are there several objectives?"""
        return len(self.objective) > 1

    def job(self, point: Point, seed: int) -> list[str]:
        """The overrides of one run; fixed knobs apply where their technique is, as in a grid."""
        present = self.space.present(point)
        fixed = [o for o in self.fixed if (t := owner(o.partition("=")[0])) is None or t in present]
        return [*fixed, *overrides(point), f"seed={seed}"]


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_seeds(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_seed, value)) and len(set(value)) == len(value)
    return _is_seed(value) and 1 <= value <= 10_000


def _is_objective(value: Any) -> bool:
    several = value if isinstance(value, list) else [value]
    known = all(one in objective_names() for one in several)
    return known and bool(several) and len(set(several)) == len(several)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


SEEDS: Rule = (_is_seeds, "a number of seeds from 1 to 10000, or a list such as [3,5,7], each once")
RULES: Mapping[str, Rule] = {
    "space": rules.list_of(_is_text, "techniques, such as [llrd,freeze]"),
    "params": (
        lambda v: isinstance(v, dict) and all(map(_is_text, v.values())),
        "a map from knob to space, such as {optim.lr: 'tag(log, interval(1e-5, 1e-4))'}",
    ),
    "n_trials": whole(1, high=10**6),
    "seeds": SEEDS,
    "objective": (
        _is_objective,
        f"one of {', '.join(objective_names())}, or a list of some of them",
    ),
    "at": one_of("last", "best"),
    "failed_share": within("[0, 1]", null=True),
    "race.kind": one_of("halving", "wilcoxon", "none"),
    "race.eta": whole(2),
    "race.margin": at_least(0),
    "race.p": within("(0, 0.5)"),
    "prune": one_of("none", "median", "hyperband"),
    "sampler_seed": whole(0, high=2**32 - 1),
    "start": rules.list_of(lambda v: isinstance(v, dict) and bool(v), "points, knob: value each"),
    "baseline": rules.list_of(
        lambda v: isinstance(v, str) and "=" in v, "overrides, such as [technique=none]"
    ),
    "confirm": (lambda v: v == 0 or _is_seeds(v), f"0, {SEEDS[1]}"),
    "workers": whole(1, null=True),
    "storage": (
        lambda v: v is None or _is_text(v),
        "null, a file, sqlite:///FILE or postgresql://...",
    ),
}
"""What each knob below `search.` may hold, the sampler's aside."""


def check_node(node: Mapping[str, Any]) -> None:
    """Raises ConfigError with everything that is wrong with `search` by itself."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if key == "race" and isinstance(value, dict):
            flat |= {f"race.{k}": v for k, v in value.items()}
        elif key != "sampler":
            flat[key] = value
    problems = [
        f"unknown key search.{key}" + did_you_mean(key, RULES) for key in flat if key not in RULES
    ]
    problems += [f"missing key search.{key}" for key in RULES if key not in flat]
    known = {f"search.{key}": (flat[key], RULES[key]) for key in flat if key in RULES}
    problems += rules.problems(known) or _together(node)
    problems += _sampler_problems(node.get("sampler"))
    if problems:
        raise ConfigError(*problems)


def _sampler_problems(sampler: Any) -> list[str]:
    name = str(sampler.get("name") if isinstance(sampler, dict) else sampler)
    if not isinstance(sampler, dict):
        return [f"search.sampler is {name}: its flags come with it; say search/sampler={name}"]
    if name not in SAMPLERS:
        return [f"search.sampler.name is {name!r}" + did_you_mean(name, SAMPLERS)]
    flags = SAMPLERS[name]
    problems = [
        f"search.sampler.{key}: sampler {name} has no such flag" + did_you_mean(key, flags)
        for key in sampler
        if key not in flags and key != "name"
    ]
    missing = [key for key in flags if key not in sampler]
    if missing:
        problems.append(f"missing key search.sampler.{missing[0]}; say search/sampler={name}")
    present = {f"search.sampler.{k}": (sampler[k], flags[k]) for k in flags if k in sampler}
    return problems + rules.problems(present)


def _together(node: Mapping[str, Any]) -> list[str]:
    """What fits by itself, but not together."""
    from bluestab.sweeps.search.race import fewest_pairs

    problems = []
    objective, race = node["objective"], node["race"]
    several = isinstance(objective, list) and len(objective) > 1
    sampler = node["sampler"].get("name") if isinstance(node["sampler"], dict) else None
    n_seeds = node["seeds"] if isinstance(node["seeds"], int) else len(node["seeds"])
    if several and race["kind"] != "none":
        problems.append(
            f"search.race.kind is {race['kind']}, but search.objective names several: which of two "
            "points leads is not defined then; say search.race.kind=none"
        )
    if several and node["prune"] != "none":
        problems.append(
            f"search.prune is {node['prune']}, but search.objective names several; say "
            "search.prune=none"
        )
    if several and sampler in SINGLE_OBJECTIVE:
        problems.append(
            f"search.sampler is {sampler}, which knows one objective; for several: "
            "search/sampler=nsga2, tpe, random or grid"
        )
    if objective in ("seconds", ["seconds"]):
        problems.append("search.objective is seconds alone: the shortest training would win")
    if race["kind"] == "wilcoxon" and fewest_pairs(race["p"]) >= n_seeds:
        problems.append(
            f"search.race.p is {race['p']}: a signed-rank test of so small a p cannot act before "
            f"seed {fewest_pairs(race['p'])}, and a point has {n_seeds}; take more seeds, a larger "
            "p, or search.race.kind=halving"
        )
    return problems


def seeds_of(value: int | Sequence[int]) -> tuple[int, ...]:
    """`search.seeds`: n for seeds 0..n-1, or the list."""
    return tuple(range(value)) if isinstance(value, int) else tuple(value)


def fresh_seeds(
    confirm: int | Sequence[int], used: Collection[int], of: str = "search"
) -> tuple[int, ...]:
    """Seeds of the confirmation: none of those that the search, or sweep, has seen.

    confirm  how many, after the highest that was used; or a list. Raises ConfigError.
    """
    if isinstance(confirm, int):
        first = max(used) + 1
        return tuple(range(first, first + confirm))
    if again := sorted(set(confirm) & set(used)):
        raise ConfigError(
            f"{of}.confirm names seed {again[0]}, which the {of} itself uses: a winner is "
            "confirmed on seeds that did not choose it"
        )
    return tuple(confirm)


def identity(search: Search, hashed: Mapping[str, Any]) -> dict[str, Any]:
    """What all trials of a study have in common: changed, they could not be compared.

    hashed  hashed config of one of its runs: what points differ in is left out
    """
    drawn = {knob.name.removeprefix("model.") for knob in search.space.knobs}
    run = {
        path: value
        for path, value in leaves({**hashed, "technique": []})
        if not path.startswith("seeds.") and path not in drawn
    }
    return {
        "space": {knob.name: knob.text for knob in search.space.knobs},
        "objective": list(search.objective),
        "seeds": list(search.seeds),
        "at": search.at,
        "failed_share": search.failed_share,
        "knobs": sorted(o for o in search.fixed if owner(o.partition("=")[0]) is not None),
        "run": run,
    }


def leaves(node: Any, path: str = "") -> list[tuple[str, Any]]:
    """Dotted paths and values; the [name, knobs] pairs of techniques are walked by name."""
    if isinstance(node, list) and all(isinstance(p, list) and len(p) == 2 for p in node):
        node = dict(node)
    if not isinstance(node, dict) or not node:
        return [(path.removesuffix("."), node)]
    return [leaf for key, value in node.items() for leaf in leaves(value, f"{path}{key}.")]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a study was begun with and what is asked of it now, a line for each difference."""
    one = {**dict(leaves({k: v for k, v in before.items() if k != "run"})), **before["run"]}
    other = {**dict(leaves({k: v for k, v in now.items() if k != "run"})), **now["run"]}
    nothing = "(nothing)"
    return [
        f"{path}: {one.get(path, nothing)} before, {other.get(path, nothing)} now"
        for path in sorted({*one, *other})
        if one.get(path, nothing) != other.get(path, nothing)
    ]


def check_same(
    search: Search, before: Mapping[str, Any] | None, now: Mapping[str, Any], n_trials: int
) -> None:
    """Raises ConfigError if a study was begun with something else than is asked for now.

    before    `identity` that the study holds; None: it holds none
    n_trials  of the study
    """
    if before is None:
        if n_trials:
            raise ConfigError(
                f"search.storage {cleaned_value(search.storage)} holds a study {search.name} of "
                "another program; say sweep.name=OTHER"
            )
        return
    if found := differences(before, now):
        raise ConfigError(
            f"the study {search.name} was begun with something else, and its trials could not be "
            "compared with new ones; sweep.name=OTHER begins another study (finished runs are used "
            "again):\n  " + "\n  ".join(found)
        )

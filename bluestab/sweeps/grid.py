"""The grid: every combination of choices, times the arms of a sweep file, times the seeds.

Two things a plain product gets wrong are put right here. A knob of a technique applies only to the
arms that contain the technique (`technique=none,llrd technique.llrd.decay=0.8,0.9` are three arms,
not four and not an error). And combinations that become equal are run once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from bluestab.core.errors import ConfigError

Choices = Sequence[tuple[str, Sequence[str]]]
"""(key, alternatives written as `key=value`), in the order of the command line."""


MOST_RUNS = 100_000
"""Runs that one sweep may hold: years of work, and as much as one command can plan."""


def technique_names(value: str) -> list[str]:
    """`llrd`, `[freeze,llrd]` -> names, in order; `none` names nothing."""
    names = (name.strip(" '\"") for name in value.strip("[] ").split(","))
    return [name for name in names if name and name != "none"]


def check_names(value: str) -> None:
    """Raises ConfigError if a technique is listed twice: it would be applied once."""
    names = technique_names(value)
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"technique={value} lists {name} twice; a run applies it once")


def expand(
    choices: Choices,
    *,
    arms: Mapping[str, Sequence[str]] | None,
    seeds: int | Sequence[int],
    default_technique: Sequence[str],
) -> list[list[str]]:
    """All runs of a grid, duplicates removed, in order: arms, then choices, then seeds.

    arms               arm name -> overrides; the command line wins over them
    seeds              n for seeds 0..n-1, or a list; not used where `seed` itself is chosen
    default_technique  techniques of combinations that choose none

    Raises ConfigError if a knob belongs to a technique that no arm contains, or that its own arm
    lacks, and if an arm lists a technique twice.
    """
    n_arms, n_seeds = len(arms or [0]), seeds if isinstance(seeds, int) else len(seeds)
    n_seeds = 1 if any(key == "seed" for key, _ in choices) else n_seeds
    n_runs = n_arms * n_seeds * math.prod(len(values) for _, values in choices)
    if n_runs > MOST_RUNS:
        raise ConfigError(
            f"this sweep has {n_runs:,} combinations ({n_arms:,} arms, {n_seeds:,} seeds, "
            + "".join(f"{len(v):,} of {key}, " for key, v in choices if len(v) > 1)
            + f"all with all); at most {MOST_RUNS:,} can be asked for at once: take fewer values, "
            "or search among them (hydra/sweeper=optuna)"
        )
    seed_list = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    keys = [key for key, _ in choices]
    if "seed" not in keys:
        choices = [*choices, ("seed", [f"seed={seed}" for seed in seed_list])]
    used: set[str] = set()
    jobs: dict[tuple[str, ...], None] = {}
    for name, arm in (arms or {"": []}).items():
        if "technique" not in keys:
            _check_arm(name, arm, default_technique)
        kept = [override for override in arm if override.split("=", 1)[0] not in keys]
        for combination in itertools.product(*(values for _, values in choices)):
            job = [*kept, *combination]
            present = _techniques(job, default_technique)
            used.update(present)
            jobs.setdefault(tuple(o for o in job if _applies(o, present)))
    for key in keys:
        technique = _owner(key)
        if technique is not None and technique not in used:
            raise ConfigError(
                f"{key} is set, but no arm of the sweep contains technique {technique} "
                f"(there are: {', '.join(sorted(used)) or 'none'}); add it to technique="
            )
    return [list(job) for job in jobs]


def _check_arm(name: str, arm: Sequence[str], default: Sequence[str]) -> None:
    present = _techniques(arm, default)
    for override in arm:
        key, _, value = override.partition("=")
        if key == "technique":
            check_names(value)
        if not _applies(override, present):
            raise ConfigError(
                f"sweep.arms.{name} sets {key}, but its techniques are "
                f"{', '.join(present) or 'none'}; add {_owner(key)} to technique="
            )


def _techniques(job: Sequence[str], default: Sequence[str]) -> list[str]:
    values = [o.split("=", 1)[1] for o in job if o.split("=", 1)[0] == "technique"]
    return technique_names(values[-1]) if values else list(default)


def _owner(key: str) -> str | None:
    """Technique a knob belongs to: `technique.llrd.decay` -> llrd."""
    parts = key.split(".")
    return parts[1] if parts[0] == "technique" and len(parts) > 2 else None


def _applies(override: str, present: Sequence[str]) -> bool:
    owner = _owner(override.split("=", 1)[0])
    return owner is None or owner in present

"""Optuna's samplers, all flags named: defaults differ between Optuna 4.9 and 5.0.

A sampler is made anew for every point, seeded by the number of points drawn before. So a search
that was interrupted draws the same points as one that was not, in whichever process.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluestab.sweeps.search.storage import need

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

CONSTRAINT = "constraint"
"""User attribute of a trial: failed share less the limit; above zero the point may not win."""

BLIND_TO_STOPPED = ("gp",)
"""Samplers that look at complete trials alone: to them a stopped point is told as complete, with
the value it would have if its later seeds were like those of the others."""


def make(flags: Mapping[str, Any], seed: int, index: int, constrained: bool) -> BaseSampler:
    """The sampler for point `index` of a search with sampler seed `seed`."""
    import optuna
    from optuna import samplers

    name = flags["name"]
    rest = {k: v for k, v in flags.items() if k != "name"}
    number = int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:4], "big")
    bound: dict[str, Any] = {}
    if constrained and not hasattr(optuna.trial.Trial, "set_constraint"):
        bound = {"constraints_func": _constraint}  # before Optuna 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # flags that Optuna calls experimental
        if name == "tpe":
            return samplers.TPESampler(seed=number, **rest, **bound)
        if name == "gp":
            return samplers.GPSampler(seed=number, **rest, **bound)
        if name == "cmaes":
            need("cmaes", "cmaes", "search.sampler=cmaes")
            return samplers.CmaEsSampler(seed=number, warn_independent_sampling=False, **rest)
        if name == "nsga2":
            return samplers.NSGAIISampler(seed=number, **rest, **bound)
        return samplers.RandomSampler(seed=number)  # and `grid`, whose points are given


def _constraint(trial: FrozenTrial) -> Sequence[float]:
    return (trial.user_attrs.get(CONSTRAINT, 0.0),)

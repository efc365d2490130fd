"""What a report is made of: the tables of runs and arms, and all that is told from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bluestab.errors import ConfigError, did_you_mean
from bluestab.report.advice import Advice, advice
from bluestab.report.blurb_frame import blurb_frame
from bluestab.report.instability_frame import Instability, instability_frame
from bluestab.report.items_frame import Items
from bluestab.report.published_frame import published_frame
from bluestab.report.runs_frame import gather, named
from bluestab.report.summary_frame import DIFFERENCE, summary_frame
from bluestab.store import Store
from bluestab.types import At


@dataclass(frozen=True)
class Results:
    """What tables, files and pages are made of: read once per command, then passed on.

    name      the sweep, or `all`
    runs      one row per run and `at`, see `rows_of`
    summary   one row per cell and `at`, see `summary_frame`
    blurb     one row per arm and `at`, see `blurb_frame`; empty if there are few of its tasks
    baseline  the arm that the others are compared with
    damaged   key -> a sentence, for runs whose record cannot be read: they are in no number
    difference  of the mean that is worth finding
    at        which scores are the headline: those of the last step, or of the best
    advice    which arm to use, per task and model
    published  one row per arm and published number of its task and model, see `published_frame`
    instability  one row per cell and `at`, see `instability_frame`
    configs   cell -> hashed config
    """

    name: str
    runs: pd.DataFrame
    summary: pd.DataFrame
    blurb: pd.DataFrame
    baseline: str
    damaged: Mapping[str, str]
    difference: float = DIFFERENCE
    at: At = "last"
    advice: Sequence[Advice] = ()
    published: pd.DataFrame = field(default_factory=pd.DataFrame)
    instability: Instability = field(default_factory=Instability)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_results(
    store: Store,
    manifest: Mapping[str, Any] | None,
    baseline: str = "none",
    *,
    at: At = "last",
    difference: float = DIFFERENCE,
    vectors: bool = False,
) -> Results:
    """Finished and crashed runs of a sweep, or all finished ones if there is no manifest.

    difference  of the mean that is worth finding, for `more_seeds`
    vectors  measure representations, too, which takes long

    Raises ConfigError if the baseline is no arm: its comparisons would silently be left out.
    """
    rows, configs, found_damaged = gather(store, manifest)
    runs = named(rows, configs.named())
    arms = set() if runs.empty else {*runs["arm"], *runs["technique"]}
    if baseline != "none" and arms and baseline not in arms:
        raise ConfigError(
            f"--baseline is {baseline!r}, which is no arm of these runs"
            + did_you_mean(baseline, arms)
        )
    items = Items(configs.hashed)
    instability = instability_frame(store, runs, vectors=vectors, visit=items.see)
    summary = items.beside(summary_frame(runs, baseline, difference), runs)
    return Results(
        name="all" if manifest is None else manifest["name"],
        runs=runs,
        summary=summary,
        blurb=blurb_frame(runs, configs.named()),
        baseline=baseline,
        damaged=found_damaged,
        difference=difference,
        at=at,
        advice=advice(runs, summary, at),
        published=published_frame(runs, configs.hashed, at),
        instability=instability,
        configs=configs.named(),
    )


def quick_results(
    store: Store, manifest: Mapping[str, Any] | None, baseline: str = "none", at: At = "last"
) -> Results:
    """Runs, summary and configs alone: no prediction is read, so this takes a moment."""
    rows, configs, found_damaged = gather(store, manifest)
    runs = named(rows, configs.named())
    return Results(
        name="all" if manifest is None else manifest["name"],
        runs=runs,
        summary=summary_frame(runs, baseline),
        blurb=pd.DataFrame(),
        baseline=baseline,
        damaged=found_damaged,
        at=at,
        configs=configs.named(),
    )

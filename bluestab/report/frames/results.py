"""What a report is made of, read from a store: tables of runs and arms, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.types import At
from bluestab.report.frames.confirmed import confirmed_cells
from bluestab.report.frames.instability import INSTABILITY, instability_frame
from bluestab.report.frames.items import Items
from bluestab.report.frames.looks import looked_cells
from bluestab.report.frames.runs import gather, named
from bluestab.report.frames.summary import DIFFERENCE, summary_frame
from bluestab.report.searches import read_entries
from bluestab.report.section import Results
from bluestab.report.sections import SECTIONS
from bluestab.report.words.advice import advice, with_standings
from bluestab.store.store import Store


def read_results(
    store: Store,
    manifest: Mapping[str, Any] | None,
    baseline: str | None = None,
    *,
    at: At = "last",
    difference: float | None = None,
    vectors: bool = False,
) -> Results:
    """Finished and crashed runs of a sweep, or all finished ones if there is no manifest.

    baseline    None: what the sweep declared, else plain fine-tuning
    difference  of the mean that is worth finding, for `more_seeds`; None: what the sweep declared
    vectors  measure representations, too, which takes long

    Raises ConfigError if the baseline is no arm: its comparisons would silently be left out.
    """
    baseline, difference = _declared(manifest, baseline, difference)
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
    looked = looked_cells(store, manifest, runs)
    summary = items.beside(summary_frame(runs, baseline, difference, items.digests, looked), runs)
    name = "all" if manifest is None else manifest["name"]
    advised = advice(runs, summary, at, confirmed_cells(name, store))
    with_standings(summary, advised, at)
    results = Results(
        name=name,
        runs=runs,
        summary=summary,
        baseline=baseline,
        damaged=found_damaged,
        difference=difference,
        planned=() if manifest is None else tuple(run["key"] for run in manifest["runs"]),
        at=at,
        advice=advised,
        configs=configs.named(),
        hashed=configs.hashed,
        frames={INSTABILITY.name: instability.frame},
        left_out=instability.left_out,
        searches=read_entries(store, None if manifest is None else manifest["name"]),
    )
    frames = {one.name: one.frame(results, store) for one in SECTIONS if one.frame is not None}
    return replace(results, frames={**results.frames, **frames})


def _declared(
    manifest: Mapping[str, Any] | None, baseline: str | None, difference: float | None = None
) -> tuple[str, float]:
    """What to compare with, and what is worth finding: as given, else as the sweep declared it."""
    declared = (manifest or {}).get("declared", {})
    return (
        baseline or str(declared.get("baseline", "none")),
        difference or float(declared.get("difference", DIFFERENCE)),
    )


def quick_results(
    store: Store,
    manifest: Mapping[str, Any] | None,
    baseline: str | None = None,
    at: At = "last",
) -> Results:
    """Runs, summary and configs alone: no prediction is read, so this takes a moment."""
    baseline, difference = _declared(manifest, baseline)
    rows, configs, found_damaged = gather(store, manifest)
    runs = named(rows, configs.named())
    looked = looked_cells(store, manifest, runs)
    summary = summary_frame(runs, baseline, difference, looked=looked)
    with_standings(summary, advice(runs, summary, at), at)
    return Results(
        name="all" if manifest is None else manifest["name"],
        runs=runs,
        summary=summary,
        baseline=baseline,
        damaged=found_damaged,
        difference=difference,
        at=at,
        configs=configs.named(),
    )

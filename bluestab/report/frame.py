"""Records -> one table of runs and one of arms. Only runs of one cell are ever averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.errors import ConfigError, did_you_mean
from bluestab.index import contents
from bluestab.records import DamagedRecord, damaged
from bluestab.report.advice import Advice, advice
from bluestab.report.arms import arm_names, with_sources
from bluestab.report.blurb_frame import blurb_frame
from bluestab.report.folds import FOLD, by_fold, fold_comparison, nested_columns, with_fold
from bluestab.report.instability_frame import Instability, instability_frame
from bluestab.report.items_frame import Items
from bluestab.report.published_frame import published_frame
from bluestab.report.tables import there
from bluestab.report.terminal import reason
from bluestab.store import Store
from bluestab.types import At, RunRecord

SUMMARY_COLUMNS = (
    "cell", "task", "model", "technique", "arm", "config_diff", "metric", "at",
    "n", "n_degenerate", "n_diverged", "n_crashed", "n_censored",
    "failed_share", "failed_low", "failed_high",
    "mean", "mean_without_failed", "std", "median", "iqm", "min", "max",
    "ci_low", "ci_high", "ci_method", "items_low", "items_high",
    "validation_mean", "baseline", "n_paired",
    "delta", "delta_low", "delta_high", "test_name", "p", "p_adjusted", "improvement",
    "delta_items_low", "delta_items_high", "difference", "more_seeds",
    "std_ratio", "std_ratio_low", "std_ratio_high",
    "p_std_name", "p_std", "p_std_adjusted",
    "seconds_mean", "n_folds", "std_folds",
)  # fmt: skip

Row = dict[str, Any]

DIFFERENCE = 0.01
"""Difference of two means that is worth finding, unless somebody says otherwise: one point."""


@dataclass(frozen=True)
class Results:
    """What tables, files and pages are made of: read once per command, then passed on.

    name      the sweep, or `all`
    runs      one row per run and `at`, see `runs_frame`
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


def gather(
    store: Store, manifest: Mapping[str, Any] | None
) -> tuple[list[Row], Configs, dict[str, str]]:
    """Rows of runs without the names of their arms, the configs of their cells, damaged records."""
    found = contents(store, None if manifest is None else [run["key"] for run in manifest["runs"]])
    rows: list[Row] = []
    configs = Configs()
    for key in list(found.statuses):
        try:
            record = found.record(key)
            rows += list(_rows(record))
            configs.add(record)
        except DamagedRecord as error:
            found.damaged[key] = str(error)
        except (KeyError, TypeError, AttributeError) as error:
            # only records of schema 1 can get here: they have no checksum
            file = store.folder(key) / "record.json"
            found.damaged[key] = str(damaged(file, f"it lacks {error}"))
    return rows, configs, dict(found.damaged)


def runs_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per run and `at` (last, best); crashed runs have one row without scores."""
    rows: list[Row] = []
    configs = Configs()
    for record in records:
        rows += list(_rows(record))
        configs.add(record)
    return named(rows, configs.named())


class Configs:
    """The hashed config of every cell, and the runs whose weights they started from."""

    def __init__(self) -> None:
        self.hashed: dict[str, Mapping[str, Any]] = {}
        self.sources: dict[str, Mapping[str, str]] = {}

    def add(self, record: RunRecord) -> None:
        cell = record.result["cell"]
        self.hashed.setdefault(cell, _without_fold(record.result["config"]))
        if source := record.measured["names"].get("init_from"):
            self.sources.setdefault(cell, source)

    def named(self) -> dict[str, Mapping[str, Any]]:
        return with_sources(self.hashed, self.sources)


def named(rows: list[Row], configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """A table of the rows, each with the name of its arm."""
    if not rows:
        return pd.DataFrame()
    names = arm_names(configs, {row["cell"]: (row["task"], row["model"]) for row in rows})
    for row in rows:
        row["arm"], row["config_diff"] = names[row["cell"]]
    return pd.DataFrame(rows)


def _rows(record: RunRecord) -> Iterator[Row]:
    result, measured = record.result, record.measured
    names, seeds = measured["names"], result["config"]["seeds"]
    fold = result["config"]["task"].get("fold")
    versions = measured.get("versions", {})
    common = {
        "key": result["key"],
        "cell": result["cell"],
        "task": names["task"],
        "model": names["model"],
        "technique": "+".join(names["technique"]) or "none",
        "seed": names["seed"],
        "init_from": _said(names.get("init_from")),
        "streams": with_fold(tuple(sorted(seeds.items())), fold),
        "fold": fold,
        "folds": result["config"]["task"].get("folds"),
        "n_train": (result.get("items") or {}).get("train"),
        "n_test": (result.get("items") or {}).get("test"),
        "status": result["status"],
        "metric": result["metric"],
        "steps": result["steps"],
        "censored": result.get("censored") is not None,
        "micro_batch": result.get("micro_batch"),
        "idle": tuple(t for t, did in (result.get("effects") or {}).items() if not did),
        **_lost(result.get("lost")),
        "recipe_version": result["config"]["recipe_version"],
        "seconds": measured["seconds"]["total"],
        "commit": measured["commit"],
        "dirty": measured["dirty"],
        "bluestab": versions.get("bluestab"),
        "torch": versions.get("torch"),
        "files": measured.get("files"),
        # where and how it ran, and what stopped it: for the page alone
        **{name: measured.get(name) for name in ("device", "precision", "host", "finished")},
        "command": measured.get("command"),
        "versions": tuple(sorted(versions.items())),
        "error": None if result["error"] is None else reason(record),
    }
    if result["status"] == "crashed":
        yield {**common, "at": "last", "score": None, "validation": None, "failed": None}
        return
    for at in ("last", "best"):
        scores = (result["metrics"] or {}).get(at)
        validation = scores["validation"][result["metric"]] if scores else None
        degenerate = bool((result["degenerate"] or {}).get(at))
        yield {
            **common,
            "at": at,
            "score": result["score"][at],
            "validation": validation,
            # what choosing an arm goes by: no run is left out of it
            "judged": record.result["config"]["task"].get("failure_score", result["score"][at])
            if validation is None
            else validation,
            "degenerate": degenerate,
            "failed": degenerate or result["status"] == "diverged",
        }


def _said(source: Mapping[str, str] | None) -> str | None:
    return None if source is None else f"{source['run']}:{source['at']}"


def _lost(lost: Mapping[str, Any] | None) -> Row:
    """Share of train and test beyond `max_length`, and of what; unknown in records before 0.2."""
    known = lost or {}
    return {
        "lost_train": known.get("train"),
        "lost_test": known.get("test"),
        "lost_unit": known.get("unit"),
    }


def summary_frame(
    runs: pd.DataFrame, baseline: str = "none", difference: float = DIFFERENCE
) -> pd.DataFrame:
    """One row per cell and `at`; `delta` and `std_ratio` against the baseline arm on shared seeds.

    baseline    arm or technique name; cells of the same task and model are compared with it
    difference  of the mean that is worth finding: `more_seeds` are those still lacking to find it
                with a power of 80 % at 5 %, before any correction
    """
    if runs.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    crashed: dict[str, int] = defaultdict(int)
    for run in runs.to_dict("records"):
        group = groups[run["cell"], run["at"]]
        group.append(run)
        crashed[run["cell"]] += run["status"] == "crashed"
    table, scores, sizes = [], {}, {}
    for place, group in groups.items():
        part = [run for run in group if run["status"] != "crashed"]
        table.append(_summary_row(part, group[0], crashed[place[0]]))
        scores[place] = {run["streams"]: run["score"] for run in part}
        sizes[place] = _sizes(part)
    rivals = _Rivals(table, baseline)
    for row in table:
        rival = rivals.of(row)
        if rival is None:
            continue
        row["baseline"] = rival["arm"]
        own, reference = scores[row["cell"], row["at"]], scores[rival["cell"], row["at"]]
        row |= comparison(own, reference, sizes[row["cell"], row["at"]])
        row["difference"] = difference
        if not row["n_folds"]:  # folds cannot be added like seeds
            row["more_seeds"] = stats.more_seeds_needed(
                [own[seed] - reference[seed] for seed in own if seed in reference], difference
            )
    for family in _families(table):
        adjust(family)
    frame = pd.DataFrame(table, columns=list(SUMMARY_COLUMNS))
    # as objects: whole numbers stay whole beside what is missing
    for column in ("n_paired", "more_seeds", "n_folds"):
        frame[column] = pd.Series([row[column] for row in table], dtype=object)
    return frame


def comparison(
    own: Mapping[Any, float],
    reference: Mapping[Any, float],
    sizes: tuple[int, int] | None = None,
) -> Row:
    """An arm beside its baseline, on the seeds they share.

    sizes  items that train and test in a fold, for arms that were cross-validated
    """
    if by_fold(own) and by_fold(reference):
        return fold_comparison(own, reference, sizes)
    shared = [seed for seed in own if seed in reference]
    a, b = [own[seed] for seed in shared], [reference[seed] for seed in shared]
    change = stats.default_interval([x - y for x, y in zip(a, b, strict=True)])
    ratio = stats.std_ratio_interval(a, b)
    test, spread = stats.default_test(a, b), stats.paired_variance(a, b)
    n, delta = stats.paired_delta(own, reference)
    return {
        "n_paired": n,
        "delta": delta,
        **_ends("delta", change),
        "test_name": test.name,
        "p": test.p,
        "improvement": stats.probability_of_improvement(a, b),
        "std_ratio": stats.std_ratio(a, b),
        **_ends("std_ratio", ratio),
        "p_std_name": spread.name,
        "p_std": spread.p,
    }


def adjust(family: Sequence[Row]) -> None:
    """Give comparisons that are made together their p-values corrected by Holm, in place."""
    for p in ("p", "p_std"):
        for row, adjusted in zip(family, stats.holm([r[p] for r in family]), strict=True):
            row[f"{p}_adjusted"] = adjusted


def _ends(name: str, interval: stats.Interval | None) -> Row:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}


def _families(table: Iterable[Row]) -> Iterable[list[Row]]:
    """Comparisons that are corrected together: those of one task and model, at one step."""
    families: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in table:
        if row["baseline"] is not None:
            families[_subject(row)].append(row)
    return families.values()


def _summary_row(part: list[Row], first: Row, n_crashed: int) -> Row:
    n = len(part)
    n_diverged = sum(run["status"] == "diverged" for run in part)
    n_degenerate = sum(bool(run["degenerate"]) for run in part)
    failed = [bool(run["failed"]) for run in part]
    values = stats.summary([run["score"] for run in part], failed) if n else {}
    validation = [run["validation"] for run in part if not pd.isna(run["validation"])]
    interval = stats.default_interval([run["score"] for run in part])
    return {
        **dict.fromkeys(SUMMARY_COLUMNS),
        **{k: first[k] for k in ("cell", "task", "model", "technique", "arm", "config_diff")},
        "metric": first["metric"],
        "at": first["at"],
        "n": n,
        "n_degenerate": n_degenerate,
        "n_diverged": n_diverged,
        "n_crashed": n_crashed,
        "n_censored": sum(bool(run["censored"]) for run in part),
        "failed_share": stats.failed_share(n_degenerate, n_diverged, n),
        **_ends("failed", stats.wilson(n_degenerate + n_diverged, n)),
        **{k: values.get(k) for k in ("mean", "mean_without_failed", "std", "median", "iqm")},
        **{k: values.get(k) for k in ("min", "max")},
        **_ends("ci", interval),
        "ci_method": None if interval is None else interval.method,
        "validation_mean": stats.mean(validation) if validation else None,
        "seconds_mean": stats.mean([run["seconds"] for run in part]) if n else None,
        **nested_columns({run["streams"]: run["score"] for run in part}, _sizes(part)),
    }


def _sizes(part: Sequence[Row]) -> tuple[int, int] | None:
    """Items that train and test, of a cross-validation the largest fold's test: the careful way."""
    train, test = ([run[k] for run in part if there(run[k])] for k in ("n_train", "n_test"))
    return (int(min(train)), int(max(test))) if train and test else None


def _without_fold(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A cell has no fold: arms must not be named by that of their first run."""
    task = {name: value for name, value in config["task"].items() if name != FOLD}
    return {**config, "task": task}


class _Rivals:
    """The cell a row is compared with: same task, model and other settings, baseline technique."""

    def __init__(self, table: Iterable[Row], baseline: str) -> None:
        self.named: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        self.alike: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for row in table:
            if row["n"] and row["arm"] == baseline:
                self.named[_subject(row)].append(row)
            if row["n"] and row["technique"] == baseline:
                self.alike[*_subject(row), row["config_diff"]].append(row)

    def of(self, row: Row) -> Row | None:
        found = self.named.get(_subject(row)) or self.alike.get(
            (*_subject(row), row["config_diff"]), []
        )
        return found[0] if len(found) == 1 and found[0]["cell"] != row["cell"] else None


def _subject(row: Row) -> tuple[str, str, str]:
    return row["task"], row["model"], row["at"]

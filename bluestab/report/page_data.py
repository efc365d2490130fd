"""What the page shows, as one JSON value: every number comes from the frames that make the tables.

Tables travel as `{columns, rows}`, so that a name is said once. What the page computes itself is
only where a point goes.
"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluestab.report.frames.curves import drawn, read_curves
from bluestab.report.frames.folds import FOLD
from bluestab.report.frames.runs import ATS, Row
from bluestab.report.section import Json, Results, plain, table
from bluestab.report.sections import SECTIONS
from bluestab.report.words.glossary import HEADINGS
from bluestab.report.words.headline import headlines
from bluestab.store.store import Store
from bluestab.tasks.metric import metric_of_row

if TYPE_CHECKING:
    import pandas as pd


def page_data(results: Results, store: Store, manifest: Mapping[str, Any] | None) -> Json:
    """Everything the page needs; runs, arms and tasks are those of `results`.

    What more than one section draws comes first, then what is a section's own.
    """
    runs = _by_key(results.runs)
    commands = _commands(store, manifest, runs)
    shared = {
        "name": results.name,
        "command": None if manifest is None else manifest["command"],
        "at": results.at,
        "baseline": results.baseline,
        "difference": results.difference,
        "metrics": {run["metric"]: metric_of_row(run).words for run in runs.values()},
        "ranges": {
            run["metric"]: [
                plain(end) for end in (metric_of_row(run).least, metric_of_row(run).most)
            ]
            for run in runs.values()
        },
        "lower_is_better": sorted(
            {r["metric"] for r in runs.values() if not metric_of_row(r).higher_is_better}
        ),
        "test_items": _test_items(runs.values()),
        "glossary": dict(HEADINGS),
        "headlines": _headlines(results),
        "advice": [
            {"task": one.task, "model": one.model, "at": results.at, "text": one.recommendation()}
            for one in results.advice
            if results.answer is None
        ],
        "summary": table(results.summary),
        "runs": _runs(runs, commands),
        "left": _left(manifest, runs, results.damaged),
        "curves": drawn(read_curves(store, runs.values())),
        "provenance": _provenance(runs),
        "sections": [
            {"name": one.name, "title": one.title, "about": one.about} for one in SECTIONS
        ],
    }
    for section in SECTIONS:
        shared |= section.page(results)
    return shared


def _test_items(runs: Iterable[Row]) -> dict[str, list[int]]:
    """task -> how many test items its runs were scored on: one number, unless they differ."""
    found: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        if plain(run["n_test"]) is not None:
            found[run["task"]].add(int(run["n_test"]))
    return {task: sorted(sizes) for task, sizes in found.items()}


def _by_key(runs: pd.DataFrame) -> dict[str, Row]:
    """key -> the run, with its two rows under `last` and `best`."""
    found: dict[str, Row] = {}
    for row in runs.to_dict("records") if len(runs) else []:
        found.setdefault(row["key"], {**row})[row["at"]] = row
    return found


def _commands(
    store: Store, manifest: Mapping[str, Any] | None, runs: Iterable[str]
) -> dict[str, list[str]]:
    """key -> overrides, from this sweep or, for a whole store, from all of its sweeps."""
    wanted = set(runs)
    found: dict[str, list[str]] = {}
    for one in [manifest] if manifest is not None else map(store.manifest, store.manifests()):
        for run in (one or {"runs": ()})["runs"]:
            if run["key"] in wanted:
                found.setdefault(run["key"], [str(o) for o in run["overrides"]])
    return found


def command_of(overrides: Sequence[str]) -> str:
    """The line that makes exactly this run."""
    return "bluestab run " + shlex.join(overrides)


def _seed(run: Row) -> str:
    """`3`, or what drove each stream where one of them went its own way."""
    streams = dict(run["streams"])
    split, fold = streams.pop("split", 0), streams.pop(FOLD, None)
    said = str(run["seed"])
    if set(streams.values()) - {run["seed"]}:
        said = ", ".join(f"{name} {seed}" for name, seed in streams.items())
    said += "" if fold is None else f", fold {fold}"
    return said + (f", split {split}" if split else "")


RUN_COLUMNS = (
    "key", "cell", "seed", "status", "last", "best", "validation_last", "validation_best",
    "failed_last", "failed_best", "censored", "steps", "seconds", "memory", "command", "error",
)  # fmt: skip


def _runs(runs: Mapping[str, Row], commands: Mapping[str, Sequence[str]]) -> Json:
    rows = []
    for key, run in runs.items():
        said = command_of(commands[key]) if key in commands else run["command"]
        at: dict[str, Row] = {name: run.get(name, {}) for name in ATS}
        if run["status"] == "crashed":
            at = {"last": {}, "best": {}}
        row: Row = {
            **{k: run[k] for k in ("key", "cell", "status", "censored", "steps")},
            **{k: run[k] for k in ("seconds", "memory")},
            "seed": _seed(run),
            "command": said,
            "error": run["error"],
        }
        for name in ATS:
            row[name] = at[name].get("score")
            row[f"validation_{name}"] = at[name].get("validation")
            row[f"failed_{name}"] = at[name].get("failed")
        rows.append(row)
    return {
        "columns": list(RUN_COLUMNS),
        "rows": [[plain(row[column]) for column in RUN_COLUMNS] for row in rows],
    }


def _left(
    manifest: Mapping[str, Any] | None, runs: Mapping[str, Row], damaged: Mapping[str, str]
) -> int:
    """Runs of the sweep that have neither finished nor crashed yet."""
    if manifest is None:
        return 0
    return len({run["key"] for run in manifest["runs"]} - runs.keys() - damaged.keys())


def _headlines(results: Results) -> Json:
    if results.answer is not None and not results.runs.empty:
        subject = {name: str(results.runs.iloc[0][name]) for name in ("task", "model")}
        said = {"verdict": "open", "arm": None, "text": results.answer}
        return [{**subject, **said, "at": at, "parts": [["text", results.answer]]} for at in ATS]
    verdicts = {(one.task, one.model): one.found for one in results.advice}
    return [
        {
            **{k: getattr(one, k) for k in ("task", "model", "at", "verdict", "arm", "text")},
            "parts": [list(part) for part in one.parts],
        }
        for at in ATS
        for one in headlines(results.summary, verdicts if at == results.at else {}, at)
    ]


def _provenance(runs: Mapping[str, Row]) -> Json:
    """Versions, commits, machines and hours of the runs with a result, each with its count."""
    scored = [run for run in runs.values() if run["status"] != "crashed"]
    versions: dict[str, Counter[str]] = defaultdict(Counter)
    for run in scored:
        for name, value in run["versions"]:
            versions[str(name)][str(value)] += 1
    commits = Counter(
        f"{str(run['commit'])[:12]}{' with uncommitted changes' if run['dirty'] is True else ''}"
        for run in scored
        if run["commit"] == run["commit"] and run["commit"] is not None
    )
    machines = Counter(
        ", ".join(str(run[k]) for k in ("host", "device", "precision") if plain(run[k]) is not None)
        for run in scored
    )
    finished = sorted(str(run["finished"]) for run in scored if plain(run["finished"]) is not None)
    return {
        "versions": {name: dict(found.most_common()) for name, found in versions.items()},
        "commits": dict(commits.most_common()),
        "machines": {name: n for name, n in machines.most_common() if name},
        "recipes": dict(Counter(str(run["recipe_version"]) for run in scored)),
        "seconds": sum(float(run["seconds"]) for run in runs.values()),
        "first": finished[0] if finished else None,
        "last": finished[-1] if finished else None,
    }

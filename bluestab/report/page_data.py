"""What the page shows, as one JSON value: every number comes from the frames that make the tables.

Tables travel as `{columns, rows}`, so that a name is said once. What the page computes itself is
only where a point goes.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluestab import stats
from bluestab.report.arms import difference
from bluestab.report.curves import Curve, read_curves
from bluestab.report.flags import flags
from bluestab.report.folds import FOLD, fold_of
from bluestab.report.headline import headlines
from bluestab.report.instability_frame import MEASURES
from bluestab.report.published_frame import published_sentences
from bluestab.store import Store
from bluestab.tasks.metric import metric_of_row
from bluestab.types import At

if TYPE_CHECKING:
    import pandas as pd

    from bluestab.report.results import Results

Json = Any
Row = dict[str, Any]

ATS: tuple[At, ...] = ("last", "best")
POINTS = 300_000
"""Numbers of learning curves on one page, about 2 MB; many long runs are shown at fewer steps."""
MOST, FEWEST = 60, 6  # evaluations of one run that are drawn
DIGITS = 4  # of what is only drawn: losses, norms, curves


def page_data(
    results: Results,
    store: Store,
    manifest: Mapping[str, Any] | None,
    searches: Sequence[Json] = (),
) -> Json:
    """Everything the page needs; runs, arms and tasks are those of `results`.

    searches  entries of `bluestab.search.entry`
    """
    runs = _by_key(results.runs)
    commands = _commands(store, manifest, runs)
    return {
        "name": results.name,
        "command": None if manifest is None else manifest["command"],
        "at": results.at,
        "baseline": results.baseline,
        "difference": results.difference,
        "metrics": {run["metric"]: metric_of_row(run).words for run in runs.values()},
        "lower_is_better": sorted(
            {r["metric"] for r in runs.values() if not metric_of_row(r).higher_is_better}
        ),
        "headlines": _headlines(results),
        "advice": [one.sentence() for one in results.advice],
        "summary": table(results.summary),
        "runs": _runs(runs, commands),
        "left": _left(manifest, runs, results.damaged),
        "curves": _curves(read_curves(store, runs.values())),
        "instability": _instability(results),
        "published": table(results.published),
        "published_sentences": published_sentences(results.published),
        "blurb": table(results.blurb),
        "budget": _budget(results.runs),
        "variance": _variance(results.runs),
        "arms": _arms(results),
        "provenance": _provenance(runs),
        "mind": flags(results.runs),
        "damaged": list(results.damaged.values()),
        "searches": list(searches),
    }


def table(frame: pd.DataFrame, columns: Sequence[str] | None = None) -> Json:
    """`{columns, rows}`; what is missing is null, numbers are as in the CSV files."""
    chosen = list(frame.columns if columns is None else columns)
    rows = frame[chosen].to_dict("records") if len(frame) else []
    return {"columns": chosen, "rows": [[plain(row[c]) for c in chosen] for row in rows]}


def plain(value: Any) -> Json:
    """A cell of a table as JSON knows it."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return None if value != value else str(value)


def _by_key(runs: pd.DataFrame) -> dict[str, Row]:
    """key -> the run, with the rows of its two moments under `last` and `best`."""
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
    "failed_last", "failed_best", "censored", "steps", "seconds", "command", "error",
)  # fmt: skip


def _runs(runs: Mapping[str, Row], commands: Mapping[str, Sequence[str]]) -> Json:
    rows = []
    for key, run in runs.items():
        said = command_of(commands[key]) if key in commands else run["command"]
        at: dict[str, Row] = {name: run.get(name, {}) for name in ATS}
        if run["status"] == "crashed":
            at = {"last": {}, "best": {}}
        row: Row = {
            **{k: run[k] for k in ("key", "cell", "status", "censored", "steps", "seconds")},
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
    chosen = {
        (one.task, one.model): one.found.arm for one in results.advice if one.found.arm is not None
    }
    return [
        {
            **{k: getattr(one, k) for k in ("task", "model", "at", "verdict", "arm", "text")},
            "parts": [list(part) for part in one.parts],
        }
        for at in ATS
        for one in headlines(results.summary, chosen if at == results.at else {}, at)
    ]


# --- curves ----------------------------------------------------------------------------------


def _curves(curves: Mapping[str, Curve]) -> Json:
    """key -> steps, loss, score and norms in the order of the groups; thinned to fit the page."""
    if not curves:
        return {"groups": [], "runs": {}, "most": 0}
    columns = sum(2 + len(curve.norms) for curve in curves.values())
    most = min(MOST, max(FEWEST, POINTS // columns))
    groups = list(dict.fromkeys(group for curve in curves.values() for group in curve.norms))
    return {
        "groups": sorted(groups, key=_depth),
        "most": most,
        "runs": {
            key: {
                "steps": list(one.steps),
                "loss": _rounded(one.loss),
                "score": _rounded(one.score),
                "norms": {group: _rounded(values) for group, values in one.norms.items()},
            }
            for key, one in ((key, curve.thinned(most)) for key, curve in curves.items())
        },
    }


def _depth(group: str) -> tuple[int, int]:
    kind, _, number = group.rpartition("_")
    return {"embeddings": (0, 0), "top": (2, 0)}.get(group, (1, int(number) if kind else 0))


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    return [None if v is None else float(f"{v:.{DIGITS}g}") for v in values]


# --- budget, variance, instability -----------------------------------------------------------


def _scored(runs: pd.DataFrame, at: At) -> list[Row]:
    if runs.empty:
        return []
    part = runs[(runs["at"] == at) & (runs["status"] != "crashed")]
    found: list[Row] = part.to_dict("records")
    return found


def _budget(runs: pd.DataFrame) -> Json:
    """at -> cell -> expected test score of the best of 1, 2, .. seeds by validation; not of folds,
    whose runs are scored on different items."""
    found: Json = {}
    for at in ATS:
        cells: dict[str, list[Row]] = defaultdict(list)
        for run in _scored(runs, at):
            if fold_of(run["streams"]) is None:
                cells[run["cell"]].append(run)
        found[at] = {
            cell: [
                float(v)
                for v in stats.expected_chosen(
                    [metric_of_row(run).sign * run["judged"] for run in group],
                    [run["score"] for run in group],
                    len(group),
                )
            ]
            for cell, group in cells.items()
        }
    return found


def _variance(runs: pd.DataFrame) -> Json:
    """Where the spread of scores comes from, per task and model, and per crossed cell.

    arm and seed   all arms on the seeds they share, one run per combination
    init and order   one cell whose head seeds were crossed with its order seeds
    """
    found = []
    for at in ATS:
        subjects: dict[tuple[str, str], dict[str, dict[Any, float]]] = defaultdict(dict)
        crossed: dict[str, list[Row]] = defaultdict(list)
        for run in _scored(runs, at):
            cells = subjects[run["task"], run["model"]]
            cells.setdefault(run["cell"], {})[run["streams"]] = run["score"]
            crossed[run["cell"]].append(run)
        for (task, model), cells in subjects.items():
            said = {"at": at, "task": task, "model": model, "cell": None}
            folded = any(fold_of(streams) is not None for own in cells.values() for streams in own)
            found += _split(
                said, "fold and seed" if folded else "seed", "arm", _arms_by_seed(cells)
            )
        for cell, group in crossed.items():
            said = {"at": at, "task": group[0]["task"], "model": group[0]["model"], "cell": cell}
            found += _split(said, "head init", "data order", _init_by_order(group))
    return found


def _split(said: Row, rows: str, columns: str, scores: Sequence[Sequence[float]]) -> list[Row]:
    parts = stats.two_way(scores) if scores else None
    if parts is None or parts.share_init is None:
        return []
    return [
        {
            **said,
            "n_rows": len(scores),
            "n_columns": len(scores[0]),
            "shares": [
                [columns, parts.share_order],
                [rows, parts.share_init],
                ["rest", parts.share_residual],
            ],
        }
    ]


def _arms_by_seed(cells: Mapping[str, Mapping[Any, float]]) -> list[list[float]]:
    """(shared seeds, arms); empty if fewer than two of either."""
    shared = [s for s in next(iter(cells.values())) if all(s in own for own in cells.values())]
    if len(cells) < 2 or len(shared) < 2:
        return []
    return [[own[seed] for own in cells.values()] for seed in shared]


def _init_by_order(group: Sequence[Row]) -> list[list[float]]:
    """(init seeds, order seeds); empty unless every combination was run exactly once."""
    scores: dict[tuple[Any, Any], float] = {}
    for run in group:
        streams = dict(run["streams"])
        if FOLD in streams:
            return []
        scores[streams["init"], streams["order"]] = run["score"]
    inits, orders = ({place[i] for place in scores} for i in (0, 1))
    if (
        not len(group) == len(scores) == len(inits) * len(orders)
        or min(len(inits), len(orders)) < 2
    ):
        return []
    return [[scores[i, o] for o in sorted(orders)] for i in sorted(inits)]


def _instability(results: Results) -> Json:
    """The measures that some cell has, and how the standard deviations compare."""
    frame = results.instability.frame
    shown = [m for m in MEASURES if len(frame) and frame[m].notna().any()]
    columns = ["cell", "at", "n", "n_items", "sd_sample", *shown]
    return {**table(frame, columns), "left_out": list(results.instability.left_out)}


# --- what was run ----------------------------------------------------------------------------


def _arms(results: Results) -> Json:
    """cell -> what sets it apart: its techniques with all their knobs, its config against the
    baseline's, and the config that all cells of its task and model share."""
    cells = {
        row["cell"]: row
        for row in results.summary.to_dict("records")
        if row["cell"] in results.configs
    }
    baselines = {(row["task"], row["model"], row["arm"]): cell for cell, row in cells.items()}
    found = {}
    for cell, row in cells.items():
        config = results.configs[cell]
        said = [
            f"{name}({', '.join(f'{k}={v}' for k, v in knobs.items() if k != 'kind')})"
            for name, knobs in config["technique"]
        ]
        rival = baselines.get((row["task"], row["model"], row["baseline"]))
        other = {**config, "technique": []}
        against = difference({**results.configs[rival], "technique": []}, other) if rival else ""
        found[cell] = {"technique": " + ".join(said) or "none", "differs": against}
    return found


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

"""Records -> one table of runs and one of arms. Only runs of one cell are ever averaged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.store import Store
from bluestab.types import RunRecord

SUMMARY_COLUMNS = (
    "cell", "task", "model", "technique", "arm", "config_diff", "metric", "at",
    "n", "n_degenerate", "n_diverged", "n_crashed", "failed_share",
    "mean", "mean_without_failed", "std", "median", "iqm", "min", "max",
    "validation_mean", "baseline", "n_paired", "delta", "std_ratio", "seconds_mean",
)  # fmt: skip


def select(store: Store, manifest: Mapping[str, Any] | None) -> list[RunRecord]:
    """Finished and crashed runs of a sweep, or of the whole store if there is no manifest."""
    keys = store.keys() if manifest is None else [run["key"] for run in manifest["runs"]]
    records = (store.read(k) if store.has(k) else store.crash(k) for k in dict.fromkeys(keys))
    return [record for record in records if record is not None]


def runs_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per run and `at` (last, best); crashed runs have one row without scores."""
    rows = [row for record in records for row in _rows(record)]
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    subjects = zip(frame["task"], frame["model"], strict=True)
    names = arm_names(
        dict(zip(frame["cell"], frame["config"], strict=True)),
        dict(zip(frame["cell"], subjects, strict=True)),
    )
    frame["arm"] = [names[cell][0] for cell in frame["cell"]]
    frame["config_diff"] = [names[cell][1] for cell in frame["cell"]]
    return frame


def _rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    result, measured = record.result, record.measured
    names, seeds = measured["names"], result["config"]["seeds"]
    common = {
        "key": result["key"],
        "cell": result["cell"],
        "task": names["task"],
        "model": names["model"],
        "technique": "+".join(names["technique"]) or "none",
        "seed": names["seed"],
        "streams": tuple(sorted(seeds.items())),
        "status": result["status"],
        "metric": result["metric"],
        "config": result["config"],
        "steps": result["steps"],
        "seconds": measured["seconds"]["total"],
        "commit": measured["commit"],
        "dirty": measured["dirty"],
    }
    if result["status"] == "crashed":
        yield {**common, "at": "last", "score": None, "validation": None, "failed": None}
        return
    for at in ("last", "best"):
        scores = (result["metrics"] or {}).get(at)
        degenerate = bool((result["degenerate"] or {}).get(at))
        yield {
            **common,
            "at": at,
            "score": result["score"][at],
            "validation": scores["validation"][result["metric"]] if scores else None,
            "degenerate": degenerate,
            "failed": degenerate or result["status"] == "diverged",
        }


def arm_names(
    configs: Mapping[str, Mapping[str, Any]], subjects: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Cell -> (arm, config_diff), from what differs between the cells of one task and model.

    subjects  cell -> task and model by the names a person gave them; two weights of one name differ

    The arm lists the techniques in order, each with the knobs that differ among the cells that
    contain it: `llrd(decay=0.8)`. Differences outside the techniques follow: `none, lr=1e-05`.
    """
    names = {}
    for cell, config in configs.items():
        peers = [c for other, c in configs.items() if subjects[other] == subjects[cell]]
        parts = []
        for technique, knobs in config["technique"]:
            others = [k for c in peers for name, k in c["technique"] if name == technique]
            varied = [
                f"{k}={_short(v)}" for k, v in knobs.items() if any(o.get(k) != v for o in others)
            ]
            parts.append(technique + (f"({', '.join(varied)})" if varied else ""))
        flat = _flat(config)
        flats = [_flat(c) for c in peers]
        diff = [f"{k}={_short(v)}" for k, v in flat.items() if any(f.get(k) != v for f in flats)]
        arm = "+".join(parts) or "none"
        names[cell] = (", ".join([arm, *(_last_part(d) for d in diff)]), ", ".join(diff))
    return names


def _flat(node: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Dotted path -> value, without techniques and seeds."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if not path and key in ("technique", "seeds"):
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = value
    return flat


def _last_part(text: str) -> str:
    path, _, value = text.partition("=")
    return f"{path.rpartition('.')[2]}={value}"


def _short(value: Any) -> str:
    """A value as it stands in a name; of a file's hash the first 8 digits."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value).removeprefix("sha256:")
    return text[:8] if re.fullmatch("[0-9a-f]{64}", text) else str(value)


def summary_frame(runs: pd.DataFrame, baseline: str = "none") -> pd.DataFrame:
    """One row per cell and `at`; `delta` and `std_ratio` against the baseline arm on shared seeds.

    baseline  arm or technique name; cells of the same task and model are compared with it
    """
    if runs.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    crashed = runs[runs["status"] == "crashed"].groupby("cell")["key"].nunique()
    scored = runs[runs["status"] != "crashed"]
    rows = []
    for _, group in runs.groupby(["cell", "at"], sort=False):
        first = group.iloc[0]
        part = group[group["status"] != "crashed"]
        if part.empty and first["at"] == "last" and (scored["cell"] == first["cell"]).any():
            continue
        rows.append(_summary_row(part, first, int(crashed.get(first["cell"], 0))))
    table = pd.DataFrame(rows)
    for index, row in table.iterrows():
        rival = _baseline_of(table, row, baseline)
        if rival is None:
            continue
        scores = _scores(scored, row["cell"], row["at"])
        reference = _scores(scored, rival["cell"], row["at"])
        n_paired, delta = stats.paired_delta(scores, reference)
        table.loc[index, ["baseline", "n_paired", "delta"]] = [rival["arm"], n_paired, delta]
        shared = [seed for seed in scores if seed in reference]
        table.loc[index, "std_ratio"] = stats.std_ratio(
            [scores[s] for s in shared], [reference[s] for s in shared]
        )
    return table[list(SUMMARY_COLUMNS)]


def _summary_row(part: pd.DataFrame, first: pd.Series, n_crashed: int) -> dict[str, Any]:
    n = len(part)
    n_diverged = int((part["status"] == "diverged").sum())
    n_degenerate = int(part["degenerate"].sum()) if n else 0
    values = stats.summary(part["score"].tolist(), part["failed"].tolist()) if n else {}
    validation = part["validation"].dropna().tolist() if n else []
    return {
        **{k: first[k] for k in ("cell", "task", "model", "technique", "arm", "config_diff")},
        "metric": first["metric"],
        "at": first["at"],
        "n": n,
        "n_degenerate": n_degenerate,
        "n_diverged": n_diverged,
        "n_crashed": n_crashed,
        "failed_share": stats.failed_share(n_degenerate, n_diverged, n),
        **{k: values.get(k) for k in ("mean", "mean_without_failed", "std", "median", "iqm")},
        **{k: values.get(k) for k in ("min", "max")},
        "validation_mean": stats.mean(validation) if validation else None,
        "baseline": None,
        "n_paired": None,
        "delta": None,
        "std_ratio": None,
        "seconds_mean": stats.mean(part["seconds"].tolist()) if n else None,
    }


def _baseline_of(table: pd.DataFrame, row: pd.Series, baseline: str) -> pd.Series | None:
    """The cell a row is compared with: same task, model and other settings, baseline technique."""
    peers = table[(table["task"] == row["task"]) & (table["model"] == row["model"])]
    peers = peers[(peers["at"] == row["at"]) & (peers["n"] > 0)]
    named = peers[peers["arm"] == baseline]
    if named.empty:
        named = peers[
            (peers["technique"] == baseline) & (peers["config_diff"] == row["config_diff"])
        ]
    if len(named) != 1 or named.iloc[0]["cell"] == row["cell"]:
        return None
    return named.iloc[0]


def _scores(scored: pd.DataFrame, cell: str, at: str) -> dict[Any, float]:
    part = scored[(scored["cell"] == cell) & (scored["at"] == at)]
    return dict(zip(part["streams"], part["score"], strict=True))

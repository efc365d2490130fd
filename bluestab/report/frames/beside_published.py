"""Our arms beside published numbers of the same task, model, metric and technique."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.report.frames.published import read_published, verdict
from bluestab.report.section import Section

SIZES = ("train_size", "validation_size", "test_size", "folds")

COLUMNS = (
    "task", "model", "arm", "at", "metric", "n", "mean",
    "source", "table", "published_arm", "published_n", "published_mean", "published_std",
    "verdict", "interval_of", "interval_low", "interval_high",
)  # fmt: skip


def published_frame(
    runs: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]], at: str
) -> pd.DataFrame:
    """One row per arm and published test score; arms on a part of the data have none.

    configs  cell -> hashed config
    verdict  `within`, `above` or `below`: our mean in relation to theirs, see `published.verdict`;
             None where neither side gives an interval
    """
    if runs.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    found = []
    theirs = [row for row in read_published() if row.split == "test"]
    part = runs[(runs["at"] == at) & (runs["status"] != "crashed")]
    for cell, group in part.groupby("cell", sort=False):
        first = group.iloc[0]
        if any(configs[str(cell)]["task"].get(size) is not None for size in SIZES):
            continue
        subject = (first["task"], first["model"], first["metric"], first["technique"])
        scores = [float(score) for score in group["score"]]
        for row in theirs:
            if (row.task, row.model, row.metric, row.technique) != subject:
                continue
            said = verdict(scores, row)
            found.append(
                {
                    **{k: first[k] for k in ("task", "model", "arm", "at", "metric")},
                    "n": len(scores),
                    "mean": stats.mean(scores),
                    "source": row.source,
                    "table": row.table,
                    "published_arm": row.arm,
                    "published_n": row.n,
                    "published_mean": row.mean,
                    "published_std": row.std,
                    "verdict": None if said is None else said.word,
                    "interval_of": None if said is None else said.of,
                    "interval_low": None if said is None else said.interval.low,
                    "interval_high": None if said is None else said.interval.high,
                }
            )
    return pd.DataFrame(found, columns=list(COLUMNS))


def published_sentences(frame: pd.DataFrame) -> list[str]:
    """What the verdicts say, for people."""
    said = []
    for row in frame.to_dict("records"):
        ours = (
            f"{row['task']} with {row['model']}, {row['arm']}: {row['mean']:.4f} (n = {row['n']})"
        )
        paper = f"published {row['published_mean']:.4f} ({row['source']}, {row['table']})"
        if not isinstance(row["verdict"], str):
            said.append(f"{ours}; {paper}; two seeds or more would tell whether they agree")
            continue
        whose = "their interval" if row["interval_of"] == "theirs" else "our interval"
        span = f"{row['interval_low']:.4f} to {row['interval_high']:.4f}"
        if row["verdict"] == "within":
            said.append(f"{ours}; {paper}; they agree ({whose} {span} holds both)")
        else:
            said.append(f"{ours}; {paper}; ours is {row['verdict']} it ({whose} {span})")
    return said


PUBLISHED = Section(
    "published",
    "Beside published numbers",
    "The same task, model, metric and technique in the literature.",
    frame=lambda results, _: published_frame(results.runs, results.hashed, results.at),
    sentences=lambda results: published_sentences(results.frame("published")),
)

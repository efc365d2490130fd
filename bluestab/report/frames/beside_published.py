"""Our arms beside published numbers of the same task, model, metric and technique."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.report.frames.published import read_published, verdict
from bluestab.report.section import Section
from bluestab.report.tables import there

SIZES = ("train_size", "shots", "validation_size", "test_size", "folds")

COLUMNS = (
    "task", "model", "arm", "at", "metric", "n", "mean",
    "source", "table", "published_arm", "published_n", "published_mean", "published_std",
    "verdict", "difference", "difference_low", "difference_high", "spread_of", "assumed_n",
)  # fmt: skip


def published_frame(
    runs: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]], at: str
) -> pd.DataFrame:
    """One row per arm and published test score; arms on a part of the data have none.

    configs  cell -> hashed config
    source, table  file of conf/published, and the place in the paper; published_arm,
             published_n, published_mean, published_std: what stands there
    verdict  `within`, `above` or `below`: our mean in relation to theirs, see `published.verdict`;
             None where neither side has a spread
    difference  our mean minus theirs, with the interval that the verdict is about
    spread_of   whose std it is made of: `both`, `ours` or `theirs`
    assumed_n   their number of runs where it is not published: the fewest that there can be
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
        mean = math.fsum(scores) / len(scores)
        for row in theirs:
            if (row.task, row.model, row.metric, row.technique) != subject:
                continue
            said = verdict(scores, row, stats.design_of(list(group["streams"])))
            found.append(
                {
                    **{k: first[k] for k in ("task", "model", "arm", "at", "metric")},
                    "n": len(scores),
                    "mean": mean,
                    "source": row.source,
                    "table": row.table,
                    "published_arm": row.arm,
                    "published_n": row.n,
                    "published_mean": row.mean,
                    "published_std": row.std,
                    "verdict": None if said is None else said.word,
                    "difference": mean - row.mean,
                    "difference_low": None if said is None else said.interval.low,
                    "difference_high": None if said is None else said.interval.high,
                    "spread_of": None if said is None else said.spread,
                    "assumed_n": None if said is None or row.n is not None else said.n,
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
        word = "they are not shown to differ"
        if row["verdict"] != "within":
            word = f"ours is {row['verdict']} it"
        change = f"difference {row['difference']:+.4f}"
        span = f"{row['difference_low']:+.4f} to {row['difference_high']:+.4f}"
        said.append(f"{ours}; {paper}; {word} ({change}, {span}{_taken(row)})")
    return said


def _taken(row: Mapping[str, Any]) -> str:
    """What had to be taken for what is not known."""
    whose = {
        "ours": "; their spread is not published with its runs: ours is taken for it",
        "theirs": "; ours have no spread of their own: theirs is taken for it",
    }.get(row["spread_of"], "")
    if there(row["assumed_n"]):
        whose += f"; their number of runs is not published: {row['assumed_n']:.0f} is assumed"
    return whose


PUBLISHED = Section(
    "published",
    "Beside published numbers",
    "The same task, model, metric and technique in the literature.",
    frame=lambda results, _: published_frame(results.runs, results.hashed, results.at),
    sentences=lambda results: published_sentences(results.frame("published")),
)

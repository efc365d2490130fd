"""What the tasks of a sequence score outside it: each alone, and all of them trained at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.report.frames.runs import Row, scored
from bluestab.report.frames.sequences import (
    ONE_HEAD,
    Chain,
    chains_of,
    joint_scores,
    kind_of_all_else,
    trained_jointly,
)
from bluestab.report.section import Block, Grid, Results, Section
from bluestab.report.words.phrases import number

COLUMNS = ("tasks", "model", "at", "techniques", "reference", "task", "n", "score", "std")

DEFINITIONS = (
    "Alone: a run on the task alone, from the model's own weights, without what holds on to "
    "earlier tasks.",
    "Joint: the last task of the listed order trained from the model's own weights, with as many "
    "items of each other task in every step, drawn from all of its training items (er). The heads "
    "of the others are those that the sequence left, and only the encoder learns from their items: "
    "joint training with every head free may reach more. With one head for all tasks, which joint "
    "training then says, it learns from the items of all.",
)
"""What the references are, in words."""


def references_frame(results: Results) -> pd.DataFrame:
    """One row per set of tasks, model, techniques of the first stages, reference (alone, joint) and
    task. score, std: mean and standard deviation over n seeds. Empty without sequences."""
    chains, _ = chains_of(results)
    table: list[Row] = []
    for subject in dict.fromkeys((*chain.subject, chain.plain) for chain in chains):
        own = [chain for chain in chains if (*chain.subject, chain.plain) == subject]
        end = ONE_HEAD if own[0].one_head else ""
        table += [row for row in _rows(own[0], "alone", _alone(own)) if row not in table]
        table += _rows(own[0], f"joint{end}", _joint(results, own[0]))
    return pd.DataFrame(table, columns=list(COLUMNS), dtype=object)


Scores = Mapping[str, Mapping[Any, float]]
"""Task -> seed -> score."""


def _alone(chains: Sequence[Chain]) -> Scores:
    found: dict[str, dict[Any, float]] = defaultdict(dict)
    for chain in chains:
        for task, score in zip(chain.tasks, chain.alone.tolist(), strict=True):
            if score == score:  # a number
                found[task][chain.seed] = score
    return found


def _joint(results: Results, chain: Chain) -> Scores:
    """Of runs that know all tasks of the chain and start where its first stage does."""
    rows = {row["key"]: row for row in scored(results.runs, chain.at)}
    found: dict[str, dict[Any, float]] = defaultdict(dict)
    for row, stages in trained_jointly(rows):
        plain = kind_of_all_else(results.hashed[stages[0]["cell"]])
        scores = joint_scores(row, stages)
        alike = row["model"] == chain.model and row["shared_head"] == chain.one_head
        if alike and plain == chain.plain and scores.keys() == {*chain.tasks}:
            for task, score in scores.items():
                found[task][row["streams"]] = score
    return found


def _rows(chain: Chain, reference: str, scores: Scores) -> Iterator[Row]:
    for task in chain.tasks:
        if values := list(scores.get(task, {}).values()):
            yield {
                "tasks": " ".join(sorted(chain.tasks)),
                "model": chain.model,
                "at": chain.at,
                "techniques": chain.techniques,
                "reference": reference,
                "task": task,
                "n": len(values),
                "score": stats.mean(values),
                "std": stats.std(values),
            }


def _printed(results: Results) -> list[Block]:
    frame = results.frame("references")
    if frame.empty:
        return []
    blocks: list[Block] = []
    for tasks, part in frame.groupby("tasks", sort=False):
        names = list(dict.fromkeys(part["task"]))
        kinds = part.groupby(["model", "techniques", "at", "reference"], sort=False)
        rows = [
            [model, reference, techniques, str(max(of_it["n"])), *_cells(of_it, names)]
            for (model, techniques, _, reference), of_it in kinds
        ]
        blocks.append(f"\n{str(tasks).replace(' ', ', ')}: what these score outside a sequence")
        blocks.append(Grid(("model", "reference", "technique", "seeds", *names), rows, n_words=3))
    return [*blocks, *DEFINITIONS]


def _cells(part: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    scores = dict(zip(part["task"], part["score"], strict=True))
    return [number(scores[task]) if task in scores else "" for task in tasks]


REFERENCES = Section(
    "references",
    "What the tasks score outside a sequence",
    "Mean over seeds. " + " ".join(DEFINITIONS),
    frame=lambda results, _: references_frame(results),
    printed=_printed,
)

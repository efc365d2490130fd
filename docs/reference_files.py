"""Pages of the reference about files: of a run, and of a report column by column."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from markup import code, grid, literal, page, prose


def files() -> str:
    from bluestab.core.types import RunRecord
    from bluestab.store import store
    from bluestab.store.artefacts import PREDICTION_COLUMNS

    return page(
        "Files of a run",
        "## The folder of results",
        literal(inspect.getdoc(store) or ""),
        "## record.json",
        literal(inspect.getdoc(RunRecord) or ""),
        "## curve.csv",
        "A line per evaluation: `step`, optimizer steps; `train_loss`, mean since the line before; "
        "under the name of each metric of the task its value on the validation items; and mean "
        "gradient norms since the line before: `grad_norm_embeddings`, `grad_norm_block_1` and so "
        "on, `grad_norm_top`.",
        "## predictions.parquet",
        f"A row per test item and `at` (last, best): {', '.join(map(code, PREDICTION_COLUMNS))}. "
        "Ids, labels and scores; never the text of an item.",
        "## split.csv",
        "Where parts were drawn: `id`, `split` of every item that the run used.",
    )


FRAMES: Mapping[str, tuple[str, str, str]] = {
    "confirmed": ("confirmed", "confirmed_frame", "COLUMNS"),
    "forgetting": ("sequences", "forgetting_frame", "COLUMNS"),
    "stages": ("sequences", "stages_frame", "STAGE_COLUMNS"),
    "references": ("references", "references_frame", "COLUMNS"),
    "pretraining": ("pretraining", "pretraining_frame", "COLUMNS"),
    "instability": ("instability", "instability_frame", "COLUMNS"),
    "published": ("beside_published", "published_frame", "COLUMNS"),
    "over_tasks": ("over_tasks", "over_tasks_frame", "COLUMNS"),
    "merges": ("merges", "merges_frame", "COLUMNS"),
    "blurb": ("blurb_scores", "blurb_frame", "COLUMNS"),
}
"""Section with a CSV file of its own -> module of report.frames, function there, columns there."""


def report() -> str:
    from importlib import import_module

    from bluestab.report.frames.summary import SUMMARY_COLUMNS
    from bluestab.report.sections import SECTIONS
    from bluestab.report.words.glossary import column
    from bluestab.report.write import RUN_COLUMNS

    rows = [(code(name), prose(column(name) or "")) for name in SUMMARY_COLUMNS]
    parts = [
        "`bluestab report` writes a folder `report/NAME`: `report.html`, the page; `summary.csv`, "
        "`runs.csv`, a CSV file for each section below that has one; `summary.md` and "
        "`tables/*.tex`; `seeds.png`, with `--figures` all figures.",
        "A column `NAME_low` or `NAME_high` is an end of the interval of NAME: 95 %, unless said "
        "otherwise.",
        "## Sections of the page",
    ]
    for section in SECTIONS:
        if section.about:
            parts.append(f"**{prose(section.title)}**\n: {prose(section.about)}")
    parts += [
        "## summary.csv",
        "One row per arm and `at`.",
        grid(("column", "what it holds"), rows),
        "## runs.csv",
        "One row per run and `at`.",
        grid(("column", "what it holds"), [(code(c), prose(run_column(c))) for c in RUN_COLUMNS]),
    ]
    for name, (module, function, columns) in FRAMES.items():
        found = import_module(f"bluestab.report.frames.{module}")
        doc = inspect.getdoc(getattr(found, function)) or ""
        known = [(c, column(c)) for c in getattr(found, columns) if not is_in(doc, c)]
        parts += [
            f"## {name}.csv",
            literal(doc),
            "Columns: " + ", ".join(map(code, getattr(found, columns))) + ".",
            grid(("column", "as elsewhere"), [(code(c), prose(said)) for c, said in known if said]),
        ]
    return page("Files of a report", *parts)


def is_in(doc: str, name: str) -> bool:
    """Whether a docstring tells of a column, or of the number that it is an end of."""
    stem = re.sub("_(low|high)$", "", name)
    return any(re.search(rf"\b{re.escape(word)}\b", doc) for word in (name, stem))


def run_column(name: str) -> str:
    """What a column of runs.csv holds: as in summary.csv, or of one run."""
    from bluestab.report.words.glossary import COLUMNS

    return OF_A_RUN.get(name) or COLUMNS.get(name, "")


OF_A_RUN = {
    "key": "the name of the run in the store: a hash of what decides its result.",
    "seed": "the number that draws head, order of items and dropout.",
    "status": "done: trained and scored; diverged: its loss was not finite; crashed: no result.",
    "score": "test score of the run, in the unit of the metric; empty where it crashed.",
    "validation": "validation score at the same weights.",
    "degenerate": "whether the test score is at or below failed_below, or undefined.",
    "failed": "degenerate or diverged.",
    "censored": "whether stop_degenerate ended the run early.",
    "steps": "optimizer steps that were taken.",
    "micro_batch": "items per forward and backward pass; empty: the whole batch.",
    "fold": "the fold that tested, of a cross-validation.",
    "lost_train": "share of the training items that lies beyond task.max_length.",
    "lost_test": "share of the test items that lies beyond task.max_length.",
    "lost_unit": "what these shares count: characters, entities.",
    "seconds": "seconds of the run, all together.",
    "memory": "bytes of weights, gradients, moments and activations where a step needed most.",
    "recipe_version": "of the training itself: runs of two versions are pointed out.",
    "commit": "commit of bluestab, where it ran from a checkout.",
    "dirty": "whether that checkout held changes that were not committed.",
    "bluestab": "version of bluestab.",
    "torch": "version of torch.",
}

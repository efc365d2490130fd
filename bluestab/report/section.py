"""A section of the report, given once: its frame, its words, and what the page draws of it.

The terminal (`terminal/closing_table.py`), the files (`write.py`) and the page (`page_data.py`,
`page.py`) go through the list in `sections.py` and know none of them by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from bluestab.core.types import At

if TYPE_CHECKING:
    from bluestab.report.words.advice import Advice
    from bluestab.store.store import Store

Json = Any


@dataclass(frozen=True)
class Results:
    """What tables, files and pages are made of: read once per command, then passed on.

    name      the sweep, or `all`
    runs      one row per run and `at`, see `rows_of`
    summary   one row per cell and `at`, see `summary_frame`
    baseline  the arm that the others are compared with
    damaged   key -> a sentence, for runs whose record cannot be read: they are in no number
    difference  of the mean that is worth finding
    at        which scores are the headline: those of the last step, or of the best
    advice    which arm to use, per task and model
    configs   cell -> hashed config, in which weights of an earlier run are called by that run
    hashed    cell -> hashed config as it is
    frames    name of a section -> its frame
    left_out  sentences about files of predictions that cannot be used
    searches  what the searches of the store have left, see `read_entries`
    planned   keys of the runs of the sweep, whether or not they have a result
    answer    a sentence that stands in the place of headline and advice: what was decided elsewhere
    """

    name: str
    runs: pd.DataFrame
    summary: pd.DataFrame
    baseline: str
    damaged: Mapping[str, str]
    difference: float
    at: At = "last"
    advice: Sequence[Advice] = ()
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hashed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    searches: Sequence[Json] = ()
    planned: Sequence[str] = ()
    answer: str | None = None

    @property
    def missing(self) -> int:
        """Runs of the sweep without a result."""
        known = set() if self.runs.empty else set(self.runs["key"])
        return len({*self.planned} - known)

    def frame(self, section: str) -> pd.DataFrame:
        """The frame of a section; empty where it has none."""
        return self.frames.get(section, pd.DataFrame())


@dataclass(frozen=True)
class Grid:
    """A table for people; the first `n_words` cells of a row are words, the others numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_words: int = 1


Block = str | Grid
"""A line of text, or a table below it."""


def _nothing(_: Results) -> Sequence[Any]:
    return ()


@dataclass(frozen=True)
class Section:
    """One subject of a report. Whatever is left out, it does not have.

    name       identifies it: on the page, as NAME.csv, and as assets/sections/NAME.js, the script
               that draws it (`DRAW.NAME`); without a script the page shows the frame as a table
    title      heading on the page; about: what a reader must know of it
    frame      results and store -> its table. NAME.csv, unless it is empty
    sentences  results -> what the frame says: in the terminal, and below the tables of summary.md
    printed    results -> lines and tables in the terminal
    latex      results -> tables for papers, tables/NAME.tex; None: there is none now
    data       results -> entries of the page's data, for the script; else the frame under its name

    A section without anything drawn is not shown.
    """

    name: str
    title: str
    about: str | None = None
    frame: Callable[[Results, Store], pd.DataFrame] | None = None
    sentences: Callable[[Results], Sequence[str]] = _nothing
    printed: Callable[[Results], Sequence[Block]] = _nothing
    data: Callable[[Results], Mapping[str, Json]] | None = None
    latex: Callable[[Results], str | None] = lambda _: None

    def page(self, results: Results) -> Mapping[str, Json]:
        """Its entries of the page's data; none if all that it draws is there for every section."""
        if self.data is not None:
            return self.data(results)
        return {self.name: table(results.frames[self.name])} if self.name in results.frames else {}


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

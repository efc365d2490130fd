"""The files of a report, written aside and renamed: the page, csv, Markdown and LaTeX tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import StoreError
from bluestab.core.printable import printable_lines
from bluestab.report.frames.looks import looking_of
from bluestab.report.frames.pairing import pairing_sentences
from bluestab.report.section import Results
from bluestab.report.sections import UPWARDS
from bluestab.report.tables import latex, markdown, tables
from bluestab.store.files import write_text
from bluestab.store.schema import segment
from bluestab.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

RUN_COLUMNS = (
    "key", "cell", "task", "model", "technique", "arm", "config_diff", "seed", "at", "status",
    "metric", "higher_is_better", "score", "validation", "degenerate", "failed", "censored",
    "steps", "micro_batch", "fold", "lost_train", "lost_test", "lost_unit",
    "seconds", "memory", "recipe_version", "commit", "dirty", "bluestab", "torch",
)  # fmt: skip


def write_report(
    results: Results,
    out: Path | None = None,
    *,
    store: Store | None = None,
    manifest: Mapping[str, Any] | None = None,
    figures: bool = False,
) -> list[Path]:
    """Write the report of a sweep (or of a whole store) and return the files.

    store, manifest  as `read_results` had them: what report.html needs beside the results; without
                     a store there is no page
    figures  write all of `bluestab.figures`, too, into figures/ (needs the store)

    A section's NAME.csv is there only if its frame has a row: blurb.csv with runs in two task types
    of BLURB or more, instability.csv if a run has left its predictions.
    """
    from bluestab.report.figures import save_seeds

    folder = out or Path("report") / results.name
    runs, summary = results.runs, results.summary
    if runs.empty and manifest is None:
        return []
    columns = runs.reindex(columns=list(RUN_COLUMNS))
    try:
        page = [] if store is None else [_write_page(results, store, manifest, folder)]
        if runs.empty:  # nothing has finished yet: the page says so, tables would be empty
            return page
        _write(folder / "runs.csv", columns.to_csv(index=False))
        _write(folder / "summary.csv", summary.to_csv(index=False))
        written = _write_tables(results, folder)
        for name in (one.name for one in UPWARDS if one.name in results.frames):
            written += _write_or_remove(results.frames[name], folder / f"{name}.csv")
        figure = save_seeds(runs, folder / "seeds.png")
        if figures and store is not None:
            figure += _write_figures(results, store, folder / "figures")
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror or error}); give another folder: "
            "bluestab report --out FOLDER"
        ) from error
    return [*page, folder / "runs.csv", folder / "summary.csv", *written, *figure]


def _write_figures(results: Results, store: Store, folder: Path) -> list[Path]:
    from bluestab.report.figures import MOST_ARMS, save_all
    from bluestab.report.frames.curves import evaluations_frame

    if results.runs["cell"].nunique() > MOST_ARMS:
        return []
    evaluations = evaluations_frame(store, results.runs)
    save_all(results.runs, results.summary, evaluations, folder, results.at)
    return [folder]


def _write_page(
    results: Results, store: Store, manifest: Mapping[str, Any] | None, folder: Path
) -> Path:
    from bluestab.report.page import page_html
    from bluestab.report.page_data import page_data

    path = folder / "report.html"
    write_text(path, page_html(page_data(results, store, manifest)))
    return path


def _write_tables(results: Results, folder: Path) -> list[Path]:
    """summary.md, one tables/TASK_MODEL.tex per task and model, and those of sections; older ones
    go."""
    notes = [one.sentence() for one in results.advice]
    notes = notes if results.answer is None else [results.answer]
    notes += [sentence for section in UPWARDS for sentence in section.sentences(results)]
    notes += pairing_sentences(results.summary, results.runs, results.at)
    first = looking_of(results)
    _write(folder / "summary.md", markdown(results.summary, results.at, notes, first))
    for older in (folder / "tables").glob("*.tex"):
        older.unlink()
    taken: set[str] = set()
    for task, model, rows in tables(results.summary, results.at):
        text = latex(task, model, rows, results.at)
        _write(folder / "tables" / f"{_unused(segment(f'{task}_{model}'), taken)}.tex", text)
    for section in UPWARDS:
        if (found := section.latex(results)) is not None:
            _write(folder / "tables" / f"{_unused(section.name, taken)}.tex", found)
    return [folder / "summary.md", folder / "tables"]


def _unused(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it: two names may give one file name (`a/b`, `a_b`)."""
    numbered = (name, *(f"{name}-{n}" for n in range(2, len(taken) + 2)))
    found = next(one for one in numbered if one.lower() not in taken)
    taken.add(found.lower())
    return found


def _write_or_remove(table: pd.DataFrame, path: Path) -> list[Path]:
    if table.empty:
        path.unlink(missing_ok=True)  # of an earlier report: its numbers would not be these runs'
        return []
    _write(path, table.to_csv(index=False))
    return [path]


def _write(path: Path, text: str) -> None:
    """A table, without what a terminal would obey when somebody looks at it."""
    write_text(path, printable_lines(text))

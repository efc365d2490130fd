"""The files of a report, written aside and renamed: csv, Markdown and LaTeX tables, a figure."""

from __future__ import annotations

from pathlib import Path

from bluestab.errors import StoreError
from bluestab.report.advice import advice, sentences
from bluestab.report.frame import Results
from bluestab.report.tables import latex, markdown, tables
from bluestab.store import write_text
from bluestab.types import At

RUN_COLUMNS = (
    "key", "cell", "task", "model", "technique", "arm", "config_diff", "seed", "at", "status",
    "metric", "score", "validation", "degenerate", "failed", "censored", "steps", "micro_batch",
    "lost_train", "lost_test", "lost_unit",
    "seconds", "recipe_version", "commit", "dirty", "bluestab", "torch",
)  # fmt: skip


def write_report(results: Results, out: Path | None = None, at: At = "last") -> list[Path]:
    """Write the report of a sweep (or of a whole store) and return the files.

    blurb.csv is there only if there are runs in two task types of BLURB or more.
    """
    from bluestab.report.figures import save_seeds

    folder = out or Path("report") / results.name
    runs, summary = results.runs, results.summary
    if runs.empty:
        return []
    columns = runs.reindex(columns=list(RUN_COLUMNS))
    try:
        write_text(folder / "runs.csv", columns.to_csv(index=False))
        write_text(folder / "summary.csv", summary.to_csv(index=False))
        written = _write_tables(results, folder, at)
        benchmark = _write_blurb(results, folder / "blurb.csv")
        figure = save_seeds(runs, folder / "seeds.png")
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}); give another folder: "
            "bluestab report --out FOLDER"
        ) from error
    return [folder / "runs.csv", folder / "summary.csv", *written, *benchmark, *figure]


def _write_tables(results: Results, folder: Path, at: At) -> list[Path]:
    """summary.md, and one tables/TASK_MODEL.tex per task and model; older ones go."""
    notes = sentences(advice(results.runs, results.summary, at))
    write_text(folder / "summary.md", markdown(results.summary, at, notes))
    for older in (folder / "tables").glob("*.tex"):
        older.unlink()
    for task, model, rows in tables(results.summary, at):
        write_text(folder / "tables" / f"{task}_{model}.tex", latex(task, model, rows, at))
    return [folder / "summary.md", folder / "tables"]


def _write_blurb(results: Results, path: Path) -> list[Path]:
    if results.blurb.empty:
        path.unlink(missing_ok=True)  # of an earlier report: its numbers would not be these runs'
        return []
    write_text(path, results.blurb.to_csv(index=False))
    return [path]

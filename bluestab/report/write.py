"""The files of a report, written aside and renamed: runs.csv, summary.csv, blurb.csv, a figure."""

from __future__ import annotations

from pathlib import Path

from bluestab.errors import StoreError
from bluestab.report.frame import Results
from bluestab.store import write_text

RUN_COLUMNS = (
    "key", "cell", "task", "model", "technique", "arm", "config_diff", "seed", "at", "status",
    "metric", "score", "validation", "degenerate", "failed", "censored", "steps", "micro_batch",
    "lost_train", "lost_test", "lost_unit",
    "seconds", "recipe_version", "commit", "dirty", "bluestab", "torch",
)  # fmt: skip


def write_report(results: Results, out: Path | None = None) -> list[Path]:
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
        benchmark = _write_blurb(results, folder / "blurb.csv")
        figure = save_seeds(runs, folder / "seeds.png")
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}); give another folder: "
            "bluestab report --out FOLDER"
        ) from error
    return [folder / "runs.csv", folder / "summary.csv", *benchmark, *figure]


def _write_blurb(results: Results, path: Path) -> list[Path]:
    if results.blurb.empty:
        path.unlink(missing_ok=True)  # of an earlier report: its numbers would not be these runs'
        return []
    write_text(path, results.blurb.to_csv(index=False))
    return [path]

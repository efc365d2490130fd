"""The files of a report: runs.csv, summary.csv and a figure, written aside and renamed."""

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
    """Write the report of a sweep (or of a whole store) and return the files."""
    from bluestab.report.figures import save_seeds

    folder = out or Path("report") / results.name
    runs, summary = results.runs, results.summary
    if runs.empty:
        return []
    columns = runs.reindex(columns=list(RUN_COLUMNS))
    try:
        write_text(folder / "runs.csv", columns.to_csv(index=False))
        write_text(folder / "summary.csv", summary.to_csv(index=False))
        figure = save_seeds(runs, folder / "seeds.png")
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}); give another folder: "
            "bluestab report --out FOLDER"
        ) from error
    return [folder / "runs.csv", folder / "summary.csv", *figure]

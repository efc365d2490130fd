"""The files of a report: runs.csv, summary.csv and a figure, written aside and renamed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bluestab.errors import StoreError
from bluestab.report.frame import runs_frame, select, summary_frame
from bluestab.store import Store, write_text

RUN_COLUMNS = (
    "key", "cell", "task", "model", "technique", "arm", "config_diff", "seed", "at", "status",
    "metric", "score", "validation", "degenerate", "failed", "steps", "seconds", "commit", "dirty",
)  # fmt: skip


def write_report(
    store: Store,
    manifest: Mapping[str, Any] | None,
    out: Path | None = None,
    baseline: str = "none",
) -> list[Path]:
    """Write the report of a sweep (or of a whole store) and return the files."""
    from bluestab.report.figures import save_seeds

    name = manifest["name"] if manifest else "all"
    folder = out or Path("report") / name
    runs = runs_frame(select(store, manifest))
    if runs.empty:
        return []
    summary = summary_frame(runs, baseline)
    for column in RUN_COLUMNS:
        if column not in runs:
            runs[column] = None
    try:
        write_text(folder / "runs.csv", runs[list(RUN_COLUMNS)].to_csv(index=False))
        write_text(folder / "summary.csv", summary.to_csv(index=False))
        figure = save_seeds(runs, folder / "seeds.png")
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}); give another folder: "
            "bluestab report --out FOLDER"
        ) from error
    return [folder / "runs.csv", folder / "summary.csv", *figure]

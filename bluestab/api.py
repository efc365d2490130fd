"""The Python API: one run, and a store as data frames. `import bluestab` offers all of it.

    record = bluestab.run(["task=ncbi_disease", "model=minilm", "technique=freeze", "seed=3"])
    runs = bluestab.load_store("runs")          # one row per run
    summary = bluestab.load_summary("runs")     # one row per arm and `at`, as summary.csv
    curves = bluestab.load_curves("runs")       # one row per evaluation
    items = bluestab.load_predictions("3f2a")   # one row per test item and `at`
    bluestab.figures.seeds(runs)

Errors are those of the command line: BluestabError with a sentence that says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import StoreError
from bluestab.store.store import KEY, Store

if TYPE_CHECKING:
    import pandas as pd

    from bluestab.core.types import At, RunRecord
    from bluestab.report.section import Results

StorePath = str | Path | None
"""Folder of a store; None: `$BLUESTAB_STORE`, else `runs`."""


def run(overrides: Sequence[str] = ()) -> RunRecord:
    """One run, as `bluestab run OVERRIDES` does it; from the store if it is there.

    Returns its record (`bluestab.core.types.RunRecord`); a diverged or degenerate run is a result.
    Raises ConfigError if it cannot be started, RunsCrashed if it crashed, StoreError if another
    process is at it.
    """
    from bluestab.core.config import compose, resolved
    from bluestab.report.words.phrases import reason
    from bluestab.sweeps.attempt import attempt
    from bluestab.sweeps.lifecycle import RunsCrashed, make_ready
    from bluestab.training.check import check

    if isinstance(overrides, str):
        raise TypeError(f"overrides is {overrides!r}: expected a list, such as ['task=gad']")
    checked = check(resolved(compose(list(overrides))))
    store = Store(checked.cfg["store"])
    make_ready([checked], store)
    record = attempt(checked, store)
    if record is None:
        raise StoreError(f"run {checked.key} is being done by another process; wait for it")
    if record.status == "crashed":
        log = store.crash_folder(record.key) / "log.txt"
        raise RunsCrashed(f"the run crashed: {reason(record)}\n  {log}")
    return record


def load_store(path: StorePath = None, sweep: str | None = None) -> pd.DataFrame:
    """One row per finished or crashed run of a store, or of one of its sweeps.

    key, cell, task, model, technique, arm, config_diff, seed, status, metric, steps, seconds
    higher_is_better                   of the metric
    score_last, score_best             test score, a failed run's with its failure score
    validation_last, validation_best   as recorded; judged_*: with the failure score where undefined
    failed_last, failed_best           degenerate or diverged
    OPTION                             every option of the config that decides the result, by its
                                       dotted name (`optim.lr`); techniques as text
    """
    import pandas as pd

    results = _results(path, sweep)
    rows: dict[str, dict[str, Any]] = {}
    for run in results.runs.to_dict("records") if len(results.runs) else []:
        row = rows.setdefault(run["key"], {name: run[name] for name in OF_A_RUN})
        for name in ("score", "validation", "judged", "failed"):
            row[f"{name}_{run['at']}"] = run.get(name)
    for row in rows.values():
        row |= _options(results.configs[row["cell"]])
    scored = [f"{n}_{at}" for n in ("score", "validation", "judged", "failed") for at in ATS]
    return pd.DataFrame(list(rows.values()), columns=None if rows else [*OF_A_RUN, *scored])


OF_A_RUN = (
    "key", "cell", "task", "model", "technique", "arm", "config_diff", "seed", "status", "metric",
    "higher_is_better", "steps", "seconds",
)  # fmt: skip
ATS = ("last", "best")


def load_summary(
    path: StorePath = None,
    sweep: str | None = None,
    baseline: str | None = None,
    at: At = "last",
) -> pd.DataFrame:
    """One row per arm and `at`: the table that `bluestab report` writes as summary.csv. No
    prediction is read: without intervals over test items, and arms are paired by their configs.

    baseline  None: what the sweep declared, else plain fine-tuning
    """
    return _results(path, sweep, baseline, at).summary


def load_curves(path: StorePath = None, sweep: str | None = None) -> pd.DataFrame:
    """One row per run and evaluation: key, task, model, arm, seed, failed (at the last step), step,
    train_loss, validation, grad_norm_GROUP per layer group."""
    from bluestab.report.frames.curves import evaluations_frame

    return evaluations_frame(_store(path), _results(path, sweep).runs)


def load_predictions(key: str, store: StorePath = None) -> pd.DataFrame:
    """One row per test item and `at` of a finished run: at, id, prediction, target, logits.

    key  of the run, or its first digits. Raises StoreError if there is no such run, if several
    begin so, or if its predictions are not what was written.
    """
    from bluestab.store.artefacts import read_predictions

    home = _store(store)
    keys = home.keys()
    found = [known for known in keys if known.startswith(str(key))] if key else []
    if len(found) != 1:
        why = (
            f"{len(found)} runs begin so: {', '.join(found[:3])}; write more digits"
            if found
            else "no finished run has this key; keys are in load_store(...).key"
        )
        raise StoreError(f"there is no run '{key}' in the store '{home.root}' ({why})")
    (whole,) = found
    assert KEY.fullmatch(whole)
    digest = (home.read(whole).measured["files"] or {}).get("predictions.parquet")
    return read_predictions(home.folder(whole) / "predictions.parquet", digest).to_pandas()


def _store(path: StorePath) -> Store:
    store = Store(path or os.environ.get("BLUESTAB_STORE") or "runs")
    if not store.root.is_dir():
        raise StoreError(f"there is no store '{store.root}' here; give the folder of one")
    return store


def _results(
    path: StorePath, sweep: str | None, baseline: str | None = None, at: At = "last"
) -> Results:
    """The frames of a whole store, or of a sweep, without its predictions being read."""
    from bluestab.report.frames.results import quick_results

    store = _store(path)
    return quick_results(store, store.manifest(sweep) if sweep is not None else None, baseline, at)


def _options(config: Any, path: str = "") -> dict[str, Any]:
    """Dotted name -> value of what decides a result, without seeds, data hashes and techniques."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if not path and name in ("seeds", "data", "technique"):
            continue
        if isinstance(value, dict):
            found |= _options(value, f"{path}{name}.")
        elif path or name not in ("task", "model"):
            found[f"{path}{name}"] = (
                ", ".join(map(str, value)) if isinstance(value, list) else value
            )
    if not path:
        for name, knobs in config["technique"]:
            found |= {f"technique.{name}.{k}": v for k, v in knobs.items() if k != "kind"}
    return found

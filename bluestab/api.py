"""The Python API: runs, sweeps and predictions, and a store as data frames.

    record = bluestab.run(["task=ncbi_disease", "model=minilm", "technique=freeze", "seed=3"])
    record = bluestab.run(task="ncbi_disease", model="minilm", optim={"lr": 1e-4})
    found = bluestab.sweep(["task=ncbi_disease", "model=minilm", "technique=none,freeze"])
    found.summary                               # one row per arm and `at`, as summary.csv
    answers = bluestab.predict("3f2a", ["No sign of ataxia."])  # of a run that kept its weights
    runs = bluestab.load_store("runs")          # one row per run
    summary = bluestab.load_summary("runs")     # one row per arm and `at`, as summary.csv
    curves = bluestab.load_curves("runs")       # one row per evaluation
    items = bluestab.load_predictions("3f2a")   # one row per test item and `at`
    bluestab.figures.seeds(runs)

Errors are those of the command line: a BluestabError with one sentence per problem, which says what
to do. Its kinds are ConfigError, DataError, StoreError and RunsCrashed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

from bluestab.core.config import leaves, quoted
from bluestab.core.errors import BluestabError, ConfigError, DataError, RunsCrashed, StoreError
from bluestab.core.printable import printable_lines
from bluestab.core.types import RunRecord
from bluestab.store.store import KEY, Store

if TYPE_CHECKING:
    import pandas as pd

    from bluestab.core.types import At
    from bluestab.report.section import Results

__all__ = [
    "BluestabError",
    "ConfigError",
    "DataError",
    "FinishedSweep",
    "RunRecord",
    "RunsCrashed",
    "StoreError",
    "load_curves",
    "load_predictions",
    "load_store",
    "load_summary",
    "predict",
    "run",
    "sweep",
]

StorePath = str | Path | None
"""Folder of a store; None: `$BLUESTAB_STORE`, else `runs`."""


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """An error of ours says what is wrong: no forty lines of Hydra's or pyarrow's before it."""
    try:
        yield
    except BluestabError as error:
        raise error from None


@in_one_sentence()
def run(overrides: Sequence[str] = (), **knobs: object) -> RunRecord:
    """One run, as `bluestab run OVERRIDES` does it; from the store if it is there.

    overrides  `KEY=VALUE`, as on the command line: ["task=gad", "optim.lr=3e-5"]
    knobs      the same as Python has it: task="gad", optim={"lr": 3e-5}, technique=["freeze",
               "llrd"]; a text is read as on the command line, a path as a name

    Returns its record: `record.key`, `record.status`, `record.result["score"]["last"]` (the test
    score, in the unit of the task's metric), and the rest that `bluestab.RunRecord` lists. A
    diverged or degenerate run is a result, not an error.

    Raises ConfigError if it cannot be started, DataError for a file that cannot be read,
    RunsCrashed if it crashed, StoreError if another process is at it or the store cannot be
    written.
    """
    from bluestab.cli.hydra_app import composed
    from bluestab.core.config import resolved
    from bluestab.report.words.phrases import reason
    from bluestab.sweeps.attempt import attempt
    from bluestab.sweeps.lifecycle import make_ready
    from bluestab.training.check import check

    checked = check(resolved(composed(_as_overrides(overrides, knobs))))
    store = Store(checked.cfg["store"])
    make_ready([checked], store)
    record = attempt(checked, store)
    if record is None:
        raise StoreError(f"run {checked.key} is being done by another process; wait for it")
    if record.status == "crashed":
        log = store.crash_folder(record.key) / "log.txt"
        raise RunsCrashed(f"the run crashed: {reason(record)}\n  {log}")
    return record


@dataclass(frozen=True)
class FinishedSweep:
    """A sweep whose launcher came to its end: its store, and its name there."""

    store: Path
    name: str

    @property
    def runs(self) -> pd.DataFrame:
        """One row per run, as `load_store` gives it."""
        return load_store(self.store, self.name)

    @property
    def summary(self) -> pd.DataFrame:
        """One row per arm and `at`, as `load_summary` gives it."""
        return load_summary(self.store, self.name)


@in_one_sentence()
def sweep(overrides: Sequence[str] = (), **knobs: object) -> FinishedSweep:
    """Every run of a sweep, as `bluestab run -m OVERRIDES` does it; what is stored is not redone.

    overrides  as of `run`, where a comma divides alternatives: ["technique=none,llrd",
               "sweep.seeds=5"]; a declared one: ["+sweeps=quickstart"]
    knobs      as of `run`: technique="none,llrd", sweep={"seeds": 5}; a list is one value, such as
               two techniques that are combined

    Prints progress and the closing table and writes the report, as the command does. Searches
    (`hydra/sweeper=optuna`) and launchers that start no run belong to the command line.

    Raises ConfigError before anything is started if a run is impossible, RunsCrashed at the end if
    some crashed (the others are in the store), Interrupted if Ctrl-C stopped it.
    """
    from bluestab.cli.hydra_app import composed, run_app
    from bluestab.core.provenance import command_line

    given = _as_overrides(overrides, knobs)
    line = ["bluestab", "run", "-m", *given]
    with _as_command(line):
        cfg = composed(given, multirun=True)
        kinds = (str(cfg.hydra.sweeper._target_), str(cfg.hydra.launcher.backend))
        if cfg.sweep.get("search") or not kinds[0].endswith(".GridSweeper"):
            raise ConfigError(f"this is a search, which bluestab.sweep does not do: {join(line)}")
        if kinds[1].endswith((".Check", ".Fetch")):
            raise ConfigError(f"this starts no run, which bluestab.sweep is for: {join(line)}")
        run_app(lambda _: None, ["-m", *given])
        store, command = Store(cfg.store), printable_lines(command_line())
        names = [m["name"] for m in store.whole_manifests() if m["command"] == command]
    if not names:  # a dry run of a launcher
        raise ConfigError(f"nothing was started: {join(line)}")
    return FinishedSweep(store.root, names[-1])


@in_one_sentence()
def predict(
    runs: str | Path | Sequence[str | Path],
    texts: Sequence[str] | Sequence[tuple[str, str]],
    store: StorePath = None,
    device: str = "auto",
    abstain_below: float | None = None,
) -> pd.DataFrame:
    """Labels for new texts: one row per text, in order. `bluestab predict` does the same to files.

    runs           a run that kept its weights (`keep=last`): its key, its first digits, KEY:best;
                   or a folder that `bluestab export` wrote; several: their mean
    texts          texts, or pairs of texts where the task reads two; questions with the paths of
                   their images
    device         auto | cpu | cuda | cuda:N | mps
    abstain_below  probability in [0, 1] below which there is no prediction

    prediction     class, list of labels, or number; None for an empty text or where it abstains
    probability    of the class, in [0, 1]; probabilities: label -> probability
    entities       of tasks that tag words, in place of these: type, start, end (characters from 0,
                   the end exclusive), text, probability
    disagreement   of several runs
    truncated      a part of the text did not fit into the model

    The weights are loaded at each call. Raises ConfigError if they are missing or damaged.
    """
    import pandas as pd

    from bluestab.core import devices
    from bluestab.inference.predicting import predict_texts
    from bluestab.inference.weights import open_weights

    names = [runs] if isinstance(runs, str | Path) else list(runs)
    if isinstance(texts, str):
        raise TypeError(f"texts is {texts[:40]!r}: expected a list of texts")
    weights = open_weights([str(name) for name in names], Store(_path(store)))
    rows = predict_texts(weights, list(texts), devices.resolve(device), abstain_below)
    return pd.DataFrame(rows)


@in_one_sentence()
def load_store(path: StorePath = None, sweep: str | None = None) -> pd.DataFrame:
    """One row per finished or crashed run of a store, or of one of its sweeps.

    key, cell, task, model, technique, arm, config_diff, seed, status, metric, steps, seconds
    higher_is_better                   of the metric
    score_last, score_best             test score, a failed run's with its failure score
    validation_last, validation_best   as recorded; judged_*: with the failure score where undefined
    failed_last, failed_best           degenerate or diverged
    OPTION                             every option of the config that decides the result, by its
                                       dotted name (`optim.lr`); techniques as text

    seconds is the time of the whole run. Raises StoreError if there is no such store or sweep.
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


@in_one_sentence()
def load_summary(
    path: StorePath = None,
    sweep: str | None = None,
    baseline: str | None = None,
    at: At = "last",
) -> pd.DataFrame:
    """One row per arm and `at`: the table that `bluestab report` writes as summary.csv. No
    prediction is read: without intervals over test items, and arms are paired by their configs.

    baseline  None: what the sweep declared, else plain fine-tuning
    at        weights that arms are compared by: after the last step, or best on validation

    Scores and their intervals (95 %) are in the unit of the metric, failed_share in [0, 1]. Raises
    StoreError if there is no such store or sweep.
    """
    return _results(path, sweep, baseline, at).summary


@in_one_sentence()
def load_curves(path: StorePath = None, sweep: str | None = None) -> pd.DataFrame:
    """One row per run and evaluation: key, task, model, arm, seed, failed (at the last step), step,
    train_loss, validation, grad_norm_GROUP per layer group.

    step counts optimizer steps, validation is the task's metric. Raises StoreError if there is no
    such store or sweep.
    """
    from bluestab.report.frames.curves import evaluations_frame

    return evaluations_frame(_store(path), _results(path, sweep).runs)


@in_one_sentence()
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


def _as_overrides(overrides: Sequence[str], knobs: Mapping[str, object]) -> list[str]:
    """Overrides and keyword arguments as the command line has them. Raises TypeError, or
    ConfigError for options of the command line."""
    if isinstance(overrides, str | Mapping) or not all(isinstance(o, str) for o in overrides):
        raise TypeError(f"overrides is {overrides!r}: expected a list of texts, as ['task=gad']")
    if options := [o for o in overrides if o.startswith("-")]:
        raise ConfigError(
            f"{options[0]} is an option of the command line; here are bluestab.run for one run and "
            "bluestab.sweep for many"
        )
    return [*overrides, *(f"{key}={_typed(key, value)}" for key, value in leaves(knobs))]


def _typed(key: str, value: object) -> str:
    """A value of Python as a person types it for Hydra."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value
    if isinstance(value, Path):
        return quoted(str(value))
    if isinstance(value, Real):
        return str(int(value)) if isinstance(value, Integral) else repr(float(value))
    if isinstance(value, Sequence):
        return f"[{','.join(_typed(key, item) for item in value)}]"
    raise TypeError(f"{key} is {value!r}: expected a text, a number, a list or a dict of these")


@contextmanager
def _as_command(line: Sequence[str]) -> Iterator[None]:
    """While it runs, this process is one that was started by this command; an application of
    Hydra that asks for it finds itself again afterwards."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    argv, environment = sys.argv, dict(os.environ)
    outer, cfg = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().hydra = None
    sys.argv, os.environ["BLUESTAB_COMMAND"] = list(line), join(line)
    try:
        yield
    finally:
        sys.argv = argv
        for name in ("BLUESTAB_COMMAND", "HYDRA_FULL_ERROR"):
            os.environ.pop(name, None)
            os.environ |= {name: environment[name]} if name in environment else {}
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = outer, cfg


def _store(path: StorePath) -> Store:
    store = Store(_path(path))
    if not store.root.is_dir():
        raise StoreError(f"there is no store '{store.root}' here; give the folder of one")
    return store


def _path(path: StorePath) -> str | Path:
    return path or os.environ.get("BLUESTAB_STORE") or "runs"


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

"""Records -> one table of runs: a row per run and `at` (`last`, `best`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bluestab.core.secrets import cleaned_command
from bluestab.core.types import At, RunRecord
from bluestab.report.frames.arms import arm_names, with_sources, with_stages, with_vocabularies
from bluestab.report.frames.folds import FOLD, with_fold
from bluestab.report.frames.judging import Judge
from bluestab.report.frames.pairing import test_part
from bluestab.report.frames.subjects import name_tasks
from bluestab.report.words.phrases import reason
from bluestab.store.index import contents
from bluestab.store.records import DamagedRecord, damaged
from bluestab.store.store import Store
from bluestab.tasks.metric import DIRECTION, metric_of_result, recorded_direction

Row = dict[str, Any]
ATS: tuple[At, ...] = ("last", "best")


def gather(
    store: Store, manifest: Mapping[str, Any] | None
) -> tuple[list[Row], Configs, dict[str, str]]:
    """Rows of runs without the names of their arms, the configs of their cells, damaged records."""
    found = contents(store, None if manifest is None else [run["key"] for run in manifest["runs"]])
    rows: list[Row] = []
    configs, judge = Configs(), Judge(store)
    for key in list(found.statuses):
        try:
            record = found.record(key)
            rows += list(rows_of(judge.again(record)))
            configs.add(record)
        except DamagedRecord as error:
            found.damaged[key] = str(error)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            # nothing that this version wrote, whatever its checksum says
            file = store.folder(key) / "record.json"
            found.damaged[key] = str(damaged(file, f"it lacks {error}"))
    rows = [row for row in rows if row["cell"] in configs.hashed]
    name_tasks(rows, configs.hashed)
    return rows, configs, dict(found.damaged)


class Configs:
    """The hashed config of every cell, the runs whose weights they started from, and of stages of
    sequences the tasks before."""

    def __init__(self) -> None:
        self.hashed: dict[str, Mapping[str, Any]] = {}
        self.sources: dict[str, Mapping[str, str]] = {}
        self._scored_again: dict[str, tuple[str, ...]] = {}
        self._tasks: dict[str, str] = {}
        self._vocabularies: dict[str, tuple[str, str]] = {}

    def add(self, record: RunRecord) -> None:
        cell = record.result["cell"]
        names = record.measured["names"]
        self._tasks[cell] = names["task"]
        if words := names.get("vocabulary"):
            self._vocabularies[cell] = (names["model"], words)
        self.hashed.setdefault(cell, _without_fold(record.result["config"]))
        if source := names.get("init_from"):
            self.sources.setdefault(cell, source)
        if record.result["config"].get("predecessor"):
            tasks = tuple(entry["task"] for entry in record.result.get("earlier") or ())
            self._scored_again[cell] = tasks or self._scored_again.get(cell, ())

    def named(self) -> dict[str, Mapping[str, Any]]:
        before = {cell: again or self._before(cell) for cell, again in self._scored_again.items()}
        own = with_vocabularies(self.hashed, self._vocabularies)
        return with_stages(with_sources(own, self.sources), before)

    def _before(self, cell: str) -> tuple[str, ...]:
        """Tasks before a stage as far as their runs are here; a pretraining is not scored again."""
        link = self.hashed[cell].get("predecessor") if cell in self.hashed else None
        if not link or link["cell"] not in self._tasks:
            return ()
        return (*self._before(link["cell"]), self._tasks[link["cell"]])


def named(rows: list[Row], configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """A table of the rows of `rows_of`, each with the name of its arm; empty without rows."""
    if not rows:
        return pd.DataFrame()
    names = arm_names(configs, {row["cell"]: (row["task"], row["model"]) for row in rows})
    for row in rows:
        row["arm"], row["config_diff"] = names[row["cell"]]
    return pd.DataFrame(rows)


def scored(runs: pd.DataFrame, at: At) -> list[Row]:
    """The rows of the runs that have a score, at this step."""
    if runs.empty:
        return []
    part = runs[(runs["at"] == at) & (runs["status"] != "crashed")]
    found: list[Row] = part.to_dict("records")
    return found


def rows_of(record: RunRecord) -> Iterator[Row]:
    """One row per `at` (last, best), without the name of its arm; of a crashed run one row without
    scores."""
    result, measured = record.result, record.measured
    names, seeds = measured["names"], result["config"]["seeds"]
    fold = result["config"]["task"].get("fold")
    versions = measured.get("versions", {})
    common = {
        "key": result["key"],
        "cell": result["cell"],
        "task": names["task"],
        "model": names["model"],
        "technique": "+".join(names["technique"]) or "none",
        "seed": names["seed"],
        "init_from": _said(names.get("init_from")),
        "predecessor": result["config"].get("predecessor"),
        "shared_head": bool(result["config"].get("shared_head")),
        "streams": with_fold(tuple(sorted(seeds.items())), fold),
        "fold": fold,
        "folds": result["config"]["task"].get("folds"),
        "engine": result["config"].get("trainer", {}).get("engine", "lightning"),
        "n_train": (result.get("items") or {}).get("train"),
        "n_validation": (result.get("items") or {}).get("validation"),
        "n_test": (result.get("items") or {}).get("test"),
        "status": result["status"],
        "metric": result["metric"],
        DIRECTION: (metric := metric_of_result(result)).higher_is_better,
        # of a version that took every metric for one that grows with quality
        "misjudged": not metric.higher_is_better and recorded_direction(result) is None,
        "test_part": test_part(result),
        "failed_below": result.get("failed_below"),
        "failure_score": result.get("failure_score", result["config"]["task"].get("failure_score")),
        "judged_again": result.get("judged_again"),
        "steps": result["steps"],
        "censored": result.get("censored") is not None,
        "micro_batch": result.get("micro_batch"),
        "idle": tuple(t for t, did in (result.get("effects") or {}).items() if not did),
        **_lost(result.get("lost")),
        "recipe_version": result["config"]["recipe_version"],
        "seconds": measured["seconds"]["total"],
        "memory": (measured.get("memory") or {}).get("total"),
        "commit": measured["commit"],
        "dirty": measured["dirty"],
        "bluestab": versions.get("bluestab"),
        "torch": versions.get("torch"),
        "files": measured.get("files"),
        # where and how it ran, and what stopped it: for the page alone
        **{name: measured.get(name) for name in ("device", "precision", "host", "finished")},
        "command": cleaned_command(said) if (said := measured.get("command")) else said,
        "versions": tuple(sorted(versions.items())),
        "error": None if result["error"] is None else reason(record),
    }
    if result["status"] == "crashed":
        yield {**common, "at": "last", "score": None, "validation": None, "failed": None}
        return
    for at in ATS:
        scores = (result["metrics"] or {}).get(at)
        validation = scores["validation"][result["metric"]] if scores else None
        degenerate = bool((result["degenerate"] or {}).get(at))
        yield {
            **common,
            "at": at,
            "score": result["score"][at],
            "validation": validation,
            "earlier": tuple(
                (one["task"], one[at].get(one["metric"])) for one in result.get("earlier") or ()
            ),
            "earlier_validation": _earlier_validation(result.get("earlier") or (), at),
            # what choosing an arm goes by: no run is left out of it
            "judged": result.get(
                "failure_score", result["config"]["task"].get("failure_score", result["score"][at])
            )
            if validation is None
            else validation,
            "degenerate": degenerate,
            "failed": degenerate or result["status"] == "diverged",
        }


def _earlier_validation(entries: Sequence[Mapping[str, Any]], at: At) -> tuple[Any, ...] | None:
    """Scores on validation; None: the record is of a version that did not ask for them."""
    if not all("validation" in one for one in entries):
        return None
    return tuple(one["validation"][at].get(one["metric"]) for one in entries)


def _said(source: Mapping[str, str] | None) -> str | None:
    return None if source is None else f"{source['run']}:{source['at']}"


def _lost(lost: Mapping[str, Any] | None) -> Row:
    """Share of train and test beyond `max_length`, and of what; unknown in records before 0.2."""
    known = lost or {}
    return {
        "lost_train": known.get("train"),
        "lost_test": known.get("test"),
        "lost_unit": known.get("unit"),
    }


def _without_fold(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A cell has no fold: arms must not be named by that of their first run."""
    task = {name: value for name, value in config["task"].items() if name != FOLD}
    return {**config, "task": task}

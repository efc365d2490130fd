"""All seeds of one cell, so that nobody takes one of them for the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bluestab import stats
from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.types import At, RunRecord
from bluestab.report.frames.results import read_results
from bluestab.store.index import contents
from bluestab.store.records import DamagedRecord
from bluestab.store.store import Store
from bluestab.tasks.metric import metric_of_result, metric_of_row


@dataclass(frozen=True)
class Cell:
    """The finished runs of one cell in a store, by seed; crashed ones are no results."""

    records: Sequence[RunRecord]

    def scores(self, at: At) -> list[float]:
        """Test scores, of failed runs their failure score."""
        return [r.result["score"][at] for r in self.records]

    def failed(self, at: At) -> int:
        return sum(
            r.status == "diverged" or bool((r.result["degenerate"] or {}).get(at))
            for r in self.records
        )

    def rank(self, record: RunRecord, at: At) -> tuple[int, int]:
        """Place of a run by test score, 1 is best, and how many runs there are."""
        own, metric = record.result["score"][at], metric_of_result(record.result)
        return 1 + sum(metric.better(s, own) for s in self.scores(at)), len(self.records)

    def summary(self, at: At) -> dict[str, Any]:
        """n, mean, std, median, min, max, failed, and Wilson's interval of the failed share."""
        scores, n_failed = self.scores(at), self.failed(at)
        share = stats.wilson(n_failed, len(scores))
        return {
            "n": len(scores),
            "mean": stats.mean(scores),
            "std": stats.std(scores),
            "median": stats.median(scores),
            "min": min(scores),
            "max": max(scores),
            "failed": n_failed,
            "failed_low": None if share is None else share.low,
            "failed_high": None if share is None else share.high,
        }


def validation(record: RunRecord, at: At) -> float | None:
    """The score by which runs may be chosen; None for one without."""
    metrics = record.result["metrics"]
    return None if metrics is None else metrics[at]["validation"][record.result["metric"]]


def cell_of_run(store: Store, record: RunRecord) -> Cell:
    """Every finished run of the store that differs from this one in nothing but its seeds."""
    found = []
    known = contents(store)
    for key, status in known.statuses.items():
        if status == "crashed":
            continue
        try:
            other = known.record(key)
        except DamagedRecord:
            continue
        if other.result["cell"] == record.result["cell"]:
            found.append(other)
    return Cell(sorted(found, key=lambda r: (_seed(r), r.key)))


def _seed(record: RunRecord) -> int:
    return int(record.measured["names"]["seed"])


def best(store: Store, task: str, model: str | None, at: At) -> tuple[RunRecord, str]:
    """The run to use for a task, and why: the recommended arm, of it the seed that is best on
    validation. Test scores play no part.

    Raises ConfigError if the store holds no such run, or several models and none is named.
    """
    results = read_results(store, None, at=at)
    runs = results.runs
    if runs.empty or task not in set(runs["task"]):
        known = [] if runs.empty else sorted(set(runs["task"]))
        raise ConfigError(
            f"--best is '{task}', of which the store '{store.root}' holds no finished run"
            + did_you_mean(task, known)
        )
    part = runs[(runs["task"] == task) & (runs["at"] == at) & (runs["status"] == "done")]
    models = sorted(set(part["model"]))
    if model is None and len(models) > 1:
        raise ConfigError(
            f"--best is '{task}', which {len(models)} models were trained on "
            f"({', '.join(models)}); choose one with --model"
        )
    part = part[part["model"] == (model or (models[0] if models else None))]
    if part.empty:
        raise ConfigError(
            f"--best is '{task}', of which there is no finished run"
            + (f" with model {model}" + did_you_mean(model, models) if model else "")
        )
    name = str(part.iloc[0]["model"])
    advised = next((a for a in results.advice if (a.task, a.model) == (task, name)), None)
    metric = metric_of_row(part.iloc[0])
    arms: Mapping[str, float] = part.groupby("arm")["judged"].mean().to_dict()
    chosen = None if advised is None else advised.found.arm or advised.found.until
    if advised is not None and chosen in arms:
        how = "recommended" if advised.found.arm else "until there are more seeds"
        arm, why = str(chosen), f"{how}, {advised.why}"
    elif len(arms) == 1:
        arm, why = next(iter(arms)), "the only one there is"
    else:
        arm = metric.best(sorted(arms), lambda a: arms[a])
        why = f"it has the {metric.top} mean on validation; no arm can be recommended yet"
        if advised is not None:
            why += f": {advised.why}"
    rows = part[part["arm"] == arm]
    row = rows.loc[(metric.sign * rows["judged"]).idxmax()]
    said = (
        f"arm {arm} ({why}); seed {row['seed']}, the best of its {len(rows)} on validation "
        f"({row['judged']:.4f})"
    )
    return store.read(str(row["key"])), said

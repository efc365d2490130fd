"""What every run saw on its way: training loss, validation score and gradient norms by layer."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.plain_files import read_text
from bluestab.store.store import Store
from bluestab.training.loop.diagnostics import COLUMN

if TYPE_CHECKING:
    import pandas as pd

FILE = "curve.csv"
POINTS = 300_000
"""Numbers of learning curves on one page, about 2 MB; many long runs are shown at fewer steps."""
MOST, FEWEST = 60, 6  # evaluations of one run that are drawn
DIGITS = 4  # of what is only drawn: losses, norms, curves


@dataclass(frozen=True)
class Curve:
    """One run, one value per evaluation; None where a value is undefined.

    steps   optimizer steps, `(n_evaluations,)`
    loss    mean training loss since the evaluation before
    score   validation score, in the task's metric
    norms   layer group (`embeddings`, `block_1`, .., `top`) -> mean gradient norm
    """

    steps: Sequence[int]
    loss: Sequence[float | None]
    score: Sequence[float | None]
    norms: Mapping[str, Sequence[float | None]]

    def thinned(self, most: int) -> Curve:
        """At most `most` evaluations, the first and the last among them."""
        n = len(self.steps)
        if n <= most:
            return self
        kept = sorted({round(i * (n - 1) / (most - 1)) for i in range(most)})
        return Curve(
            [self.steps[i] for i in kept],
            [self.loss[i] for i in kept],
            [self.score[i] for i in kept],
            {group: [values[i] for i in kept] for group, values in self.norms.items()},
        )


def read_curve(folder: Path, metric: str) -> Curve | None:
    """The curve in the folder of a run; None if it has left none, or none that can be read."""
    try:
        text = read_text(folder / FILE)
        rows = list(csv.DictReader(io.StringIO(text)))
        if not rows:
            return None
        groups = [name for name in rows[0] if name.startswith(COLUMN)]
        return Curve(
            [int(row["step"]) for row in rows],
            [_number(row["train_loss"]) for row in rows],
            [_number(row.get(metric)) for row in rows],
            {g.removeprefix(COLUMN): [_number(row[g]) for row in rows] for g in groups},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error):
        return None  # a curve illustrates: no number of a report rests on it


def read_curves(store: Store, runs: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """key -> curve, of runs with `key`, `status` and `metric`, those that crashed included."""
    found = {}
    for run in runs:
        key = str(run["key"])
        folder = store.crash_folder(key) if run["status"] == "crashed" else store.folder(key)
        curve = read_curve(folder, str(run["metric"]))
        if curve is not None:
            found[key] = curve
    return found


def drawn(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """key -> steps, loss, score and norms in the order of the groups; thinned to fit the page."""
    if not curves:
        return {"groups": [], "runs": {}, "most": 0}
    columns = sum(2 + len(curve.norms) for curve in curves.values())
    most = min(MOST, max(FEWEST, POINTS // columns))
    groups = list(dict.fromkeys(group for curve in curves.values() for group in curve.norms))
    return {
        "groups": sorted(groups, key=_depth),
        "most": most,
        "runs": {
            key: {
                "steps": list(one.steps),
                "loss": _rounded(one.loss),
                "score": _rounded(one.score),
                "norms": {group: _rounded(values) for group, values in one.norms.items()},
            }
            for key, one in ((key, curve.thinned(most)) for key, curve in curves.items())
        },
    }


def _depth(group: str) -> tuple[int, int]:
    kind, _, number = group.rpartition("_")
    return {"embeddings": (0, 0), "top": (2, 0)}.get(group, (1, int(number) if kind else 0))


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    return [None if v is None else float(f"{v:.{DIGITS}g}") for v in values]


def evaluations_frame(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run and evaluation: key, task, model, arm, seed, metric, step, train_loss,
    validation, grad_norm_GROUP per layer group, and failed (at the last step).

    runs  as `read_results` gives it
    """
    import pandas as pd

    last = runs[runs["at"] == "last"].to_dict("records") if len(runs) else []
    curves = read_curves(store, last)
    rows = [
        {
            **{name: run[name] for name in ("key", "task", "model", "arm", "seed", "metric")},
            "failed": run["failed"] is True,
            "step": step,
            "train_loss": curve.loss[i],
            "validation": curve.score[i],
            **{f"{COLUMN}{group}": values[i] for group, values in curve.norms.items()},
        }
        for run in last
        if (curve := curves.get(run["key"])) is not None
        for i, step in enumerate(curve.steps)
    ]
    return pd.DataFrame(rows, columns=None if rows else list(EVALUATION_COLUMNS))


EVALUATION_COLUMNS = (
    "key", "task", "model", "arm", "seed", "metric", "failed", "step", "train_loss", "validation",
)  # fmt: skip


def _number(text: str | None) -> float | None:
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None

"""How long, how much memory, how much disk: arithmetic on what finished runs or a dry step cost.

Asked before a sweep; how much time is left while it runs is said by `report/terminal/time_left.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bluestab.core.types import WEIGHTS_TO_KEEP, RunRecord
from bluestab.report.terminal.sweep_view import latest_records
from bluestab.report.terminal.time_left import remaining
from bluestab.store.representations import FILE as REPRESENTATIONS
from bluestab.store.store import Store
from bluestab.training.loop.memory import counted_mb

if TYPE_CHECKING:
    from bluestab.training.dry_run_step import DryStep

COSTLESS = frozenset(
    # settings of the optimizer that change neither the time of a step nor the memory
    ("lr", "epochs", "steps", "warmup", "weight_decay", "beta1", "beta2", "eps", "clip")
)
MARGIN = 1.02  # a checkpoint is a little more than its weights: tokenizer, configuration
RUN_FILES = 24_000  # bytes on disk of a run's record, config, curve and log: whole blocks each
HISTORY = 1000  # latest runs of the store that are looked at
CostSource = Literal[
    "same cell", "same technique", "same task and model", "dry step", "like dry step"
]


@dataclass(frozen=True)
class Cost:
    """What one run costs.

    seconds    wall clock; memory_mb: peak by kind (process, gpu, and what was counted)
    disk       bytes of the run's folder without checkpoints
    parameters of the network, for checkpoints
    source     where this is known from; runs: how many finished runs it is the mean of
    """

    seconds: float
    memory_mb: Mapping[str, float]
    disk: float
    parameters: int
    source: CostSource
    runs: int = 0
    device: str = ""


def evaluations(steps: int, steps_per_epoch: int, eval_every: int | None) -> int:
    """How often validation is evaluated: every epoch or `eval_every` steps, and at the end."""
    return math.ceil(steps / (eval_every or steps_per_epoch))


def from_dry_step(
    dry: DryStep,
    *,
    steps: int,
    steps_per_epoch: int,
    eval_every: int | None,
    source: CostSource = "dry step",
    earlier: int = 0,
) -> Cost:
    """A whole run from a dry step.

    Two tests are counted, of the last and of the best weights, and as many, with validation, of
    each of the `earlier` tasks of a sequence, which are taken to be as large, as is what techniques
    remember of them; a copy of the best is kept in memory where the model is. Where items are
    ranked, the names of a dictionary pass the network once with the same weights.
    """
    n = evaluations(steps, steps_per_epoch, eval_every)
    names = n + min(n, 2) * (1 + earlier) - min(n, 1)  # last validation and first test: once
    seconds = (
        dry.prepare
        + steps * dry.step
        + n * dry.evaluate["validation"]
        + min(n, 2) * (1 + earlier) * dry.evaluate["test"]
        + min(n, 2) * earlier * dry.evaluate["validation"]
        + names * dry.candidates
        + earlier * dry.recall
        + dry.importance
    )
    disk = RUN_FILES + min(n, 2) * dry.test_bytes
    place = "gpu" if "gpu" in dry.memory_mb else "process"
    more = 4 * dry.parameters / 2**20 + max(0, earlier - 1) * dry.memory_per_task_mb
    memory = {k: mb + (more if k == place else 0) for k, mb in dry.memory_mb.items()}
    return Cost(seconds, memory, disk, dry.parameters, source, device=dry.device)


def workload(hashed: Mapping[str, Any]) -> str:
    """What the cost of a step depends on, techniques left out: task, model, batches, trainer."""
    optim = {k: v for k, v in hashed["optim"].items() if k not in COSTLESS}
    parts = [hashed["task"], hashed["data"], hashed["model"], optim, hashed["trainer"]]
    return json.dumps(parts, sort_keys=True)


@dataclass(frozen=True)
class Finished:
    """What a finished run cost, and what it was."""

    cell: str
    workload: str
    techniques: tuple[str, ...]
    steps: int
    fit: float  # seconds that grow with the number of steps
    rest: float  # seconds that do not
    memory_mb: Mapping[str, float]
    parameters: int
    device: str
    disk: float = 0.0

    @classmethod
    def of(cls, record: RunRecord, disk: float = 0.0) -> Finished | None:
        """None for a run that did not go to its end."""
        result, measured = record.result, record.measured
        seconds = measured["seconds"]
        if record.status != "done" or not result.get("steps"):
            return None
        return cls(
            cell=result["cell"],
            workload=workload(result["config"]),
            techniques=tuple(name for name, _ in result["config"]["technique"]),
            steps=result["steps"],
            fit=seconds["fit"],
            rest=seconds["total"] - seconds["fit"],
            memory_mb={
                **(measured.get("peak_memory_mb") or {}),
                **counted_mb(measured.get("memory") or {}),
            },
            parameters=result["parameters"]["total"],
            device=str(measured.get("device", "")),
            disk=disk,
        )


def on_device(finished: Sequence[Finished], asked: str, here: str) -> list[Finished]:
    """Those that ran on the kind of device that a run would take.

    asked  as in the config: cpu, cuda:1, ... or auto; here: what auto means on this machine

    With auto, all of them if none ran on this kind: a sweep may be planned where it will not run.
    """
    wanted = (here if asked == "auto" else asked).partition(":")[0]
    same = [f for f in finished if f.device.split(" ")[0].partition(":")[0] == wanted]
    return same or (list(finished) if asked == "auto" else [])


def finished_runs(store: Store) -> Iterator[Finished]:
    """What the latest runs of a store cost."""
    for record in latest_records(store, HISTORY, without={}):
        with suppress(KeyError, TypeError, ValueError):  # of another version
            if one := Finished.of(record, _bytes(store.folder(record.key))):
                yield one


def _bytes(folder: Path) -> int:
    """What a run takes on disk, checkpoints and vectors left out."""
    with suppress(OSError):
        files = [f for f in folder.iterdir() if f.is_file() and f.name != REPRESENTATIONS]
        return sum(file.stat().st_blocks * 512 for file in files)
    return 0


class KnownCosts:
    """Costs of finished runs, asked for by what a new run is."""

    def __init__(self, finished: Iterable[Finished]) -> None:
        self._by: dict[tuple[CostSource, object], list[Finished]] = {}
        for one in finished:
            for slot in _slots(one.cell, one.workload, one.techniques):
                self._by.setdefault(slot, []).append(one)

    def cost(self, cell: str, work: str, techniques: tuple[str, ...], steps: int) -> Cost | None:
        """The mean over runs of the same cell, else of the same task and model with the time of
        training scaled to `steps`; None if nothing like it has finished."""
        for slot in _slots(cell, work, techniques):
            if like := self._by.get(slot):
                break
        else:
            return None
        kinds = sorted({kind for one in like for kind in one.memory_mb})
        return Cost(
            seconds=_mean([one.fit * steps / one.steps + one.rest for one in like]),
            memory_mb={k: max(one.memory_mb.get(k, 0) for one in like) for k in kinds},
            disk=_mean([one.disk for one in like if one.disk] or [RUN_FILES]),
            parameters=like[0].parameters,
            source=slot[0],
            runs=len(like),
            device=like[0].device,
        )


def _slots(
    cell: str, work: str, techniques: tuple[str, ...]
) -> tuple[tuple[CostSource, object], tuple[CostSource, object], tuple[CostSource, object]]:
    return (
        ("same cell", cell),
        ("same technique", (work, techniques)),
        ("same task and model", work),
    )


@dataclass(frozen=True)
class Forecast:
    """What a sweep will cost.

    runs     how many it is about; unknown: of these, runs that nothing is known of
    seconds  of the known ones, on `workers` workers; None if nothing is known
    """

    runs: int
    unknown: int
    workers: int
    seconds: float | None
    memory_mb: Mapping[str, float]
    disk: float


def forecast(
    costs: Sequence[Cost | None], *, workers: int = 1, keep: str | Sequence[str] = "none"
) -> Forecast:
    """Sum up the runs that are still to do.

    keep  which checkpoints stay, of all runs or of each: none, best, last, all (4 bytes for each
          parameter)
    """
    known = [cost for cost in costs if cost is not None]
    kinds = sorted({kind for cost in known for kind in cost.memory_mb})
    kept = [keep] * len(costs) if isinstance(keep, str) else keep
    numbers = sum(
        len(WEIGHTS_TO_KEEP[one]) * cost.parameters
        for one, cost in zip(kept, costs, strict=True)
        if cost is not None
    )
    return Forecast(
        runs=len(costs),
        unknown=len(costs) - len(known),
        workers=workers,
        seconds=remaining([cost.seconds for cost in known], [], workers) if known else None,
        memory_mb={k: max(cost.memory_mb.get(k, 0) for cost in known) for k in kinds},
        disk=sum(cost.disk for cost in known) + 4 * MARGIN * numbers,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""A group of runs from its configs to its results: prepare, fit, score, both record halves."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bluestab.artefacts import write_curve, write_predictions, write_weights
from bluestab.audit import lost_note
from bluestab.checks import CheckedRun
from bluestab.circumstances import peak_memory_mb
from bluestab.memory import keep_freed
from bluestab.packed.keeping import Keeper
from bluestab.packed.siblings import Sibling
from bluestab.packed.training import Group
from bluestab.phases import Phases
from bluestab.representations import FILE, write_representations
from bluestab.results import prediction_rows, result_of, rounded
from bluestab.types import KEPT, At, Built

if TYPE_CHECKING:
    from bluestab.types import Progress, Watch

log = logging.getLogger("bluestab")

Outcome = tuple[dict[str, Any], dict[str, Any]]
"""The two halves of a record."""


@dataclass(frozen=True)
class Place:
    """A run in a group: where its files go, and who is told of its steps and its curve."""

    run: CheckedRun
    work: Path
    progress: Progress
    watch: Watch


def train_and_score_together(
    places: Sequence[Place], device_name: str, resume: Path | None = None
) -> list[Outcome | Exception]:
    """Train runs as one; per run its result, or what went wrong in scoring it alone.

    resume  folder of the group's checkpoint; None: it cannot be interrupted and go on

    Raises what goes wrong for all of them.
    """
    device, cfg = torch.device(device_name), places[0].run.cfg
    torch.set_num_threads(cfg["trainer"]["threads"])
    keep_freed()
    _deterministic(device)
    phases = Phases(_wait_for(device) if cfg["profile"] else None)
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    keeper = None
    if resume is not None:
        keys = [place.run.key for place in places]
        keeper = Keeper(resume, cfg["checkpoint_every"], keys, device)
    found = None if keeper is None else keeper.found()
    group = _built(places, device, phases)
    if keeper is not None and found is not None and not keeper.restore(group, found):
        found, group = None, _built(places, device, phases)
    begun = 0 if found is None else found.step
    _say(group)
    seconds["prepare"] = time.perf_counter() - started
    with phases("data"):
        group.fit(keeper, begun)
    seconds["fit"] = time.perf_counter() - started - sum(seconds.values())
    scored = _Scored(group, places, begun)
    scored.at_last()
    scored.at_best()
    seconds["score"] = time.perf_counter() - started - sum(seconds.values())
    seconds["total"] = sum(seconds.values())
    return [
        scored.errors.get(i) or _outcome(group, scored, places[i], i, seconds)
        for i in range(len(places))
    ]


def _built(places: Sequence[Place], device: torch.device, phases: Phases) -> Group:
    """The group before its first step; what techniques note of it, the next one does not see."""
    runs = [replace(p.run, techniques=copy.deepcopy(dict(p.run.techniques))) for p in places]
    return Group(runs, [(place.progress, place.watch) for place in places], device, phases)


def _say(group: Group) -> None:
    run, ready = group.siblings[0].run, group.ready
    for told in run.data.notes:
        log.info("%s", told)
    keys = " ".join(sibling.run.key for sibling in group.siblings)
    log.info("%d runs train as one: %s", len(group.siblings), keys)
    log.info("%d steps, %d of warm-up", ready.total_steps, ready.warmup_steps)
    if (note := lost_note(ready.lost, run.data.task.unit)) is not None:
        log.warning("%s=%d", note, run.data.task.max_length)


def _deterministic(device: torch.device) -> None:
    """As Lightning's `deterministic=True` sets it, without filling fresh memory."""
    import os

    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)


class _Scored:
    """Metrics, effects, predictions and vectors of every run of a group."""

    def __init__(self, group: Group, places: Sequence[Place], begun: int) -> None:
        self.group, self.places, self.begun = group, places, begun
        n = len(places)
        self.metrics: list[dict[At, Any]] = [{} for _ in range(n)]
        self.effects: list[dict[str, Any]] = [{} for _ in range(n)]
        self.predictions: list[list[dict[str, Any]]] = [[] for _ in range(n)]
        self.vectors: list[dict[str, np.ndarray]] = [{} for _ in range(n)]
        self.errors: dict[int, Exception] = {}

    def _going(self) -> list[tuple[int, Sibling]]:
        siblings = enumerate(self.group.siblings)
        return [(i, s) for i, s in siblings if s.diverged is None and i not in self.errors]

    def _each(self, what: Callable[[int, Sibling], None], among: Sequence[Sibling]) -> None:
        """What fails for one of them takes nothing from the others."""
        for i, sibling in self._going():
            if any(sibling is one for one in among):
                try:
                    what(i, sibling)
                except Exception as error:
                    log.error("%s: %s: %s", sibling.run.key, type(error).__name__, error)
                    self.errors[i] = error

    def at_last(self) -> None:
        going = [s for _, s in self._going()]

        def effects(i: int, sibling: Sibling) -> None:
            self.effects[i] = sibling.effects()

        self._each(effects, going)
        self._test("last", going)

    def at_best(self) -> None:
        """Runs whose best weights are the last ones have been scored."""
        other = [s for _, s in self._going() if s.history.best_step != s.steps]

        def restore(i: int, sibling: Sibling) -> None:
            sibling.history.restore_best()

        self._each(restore, other)
        self._test("best", other)

        def same(i: int, sibling: Sibling) -> None:
            self._save(i, "best")
            self.metrics[i]["best"] = self.metrics[i]["last"]
            self.predictions[i] += [{**row, "at": "best"} for row in self.predictions[i]]

        self._each(same, [s for _, s in self._going() if s.history.best_step == s.steps])

    def _test(self, at: At, siblings: Sequence[Sibling]) -> None:
        if not siblings:
            return
        wanted = self.places[0].run.cfg["keep_representations"]
        for i, vectors in self.group.test(siblings, vectors=wanted).items():
            self.vectors[i][at] = vectors

        def keep(i: int, sibling: Sibling) -> None:
            self._save(i, at)
            task, history = sibling.run.data.task, sibling.history
            step = sibling.steps if at == "last" else history.best_step
            row = next(row for row in history.rows if row["step"] == step)
            names = (*task.metrics, *task.extras)
            self.metrics[i][at] = {
                "validation": {name: row[name] for name in names},
                "test": dict(sibling.scores),
            }
            self.predictions[i] += prediction_rows(
                at, sibling.examples["test"], sibling.predictions, sibling.item_logits
            )

        self._each(keep, siblings)

    def _save(self, i: int, at: At) -> None:
        place, built = self.places[i], self.group.siblings[i].built
        if at in KEPT[place.run.cfg["keep"]]:
            ready = self.group.ready
            write_weights(place.work, at, _whole(built), ready.tokenizer, place.run.data.labels)


def _whole(built: Built) -> Built:
    """The same with weights of its own to save: those of a sibling are views into the stack."""

    def plain(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return built.plain({name: value.detach().cpu().clone() for name, value in weights.items()})

    return replace(built, plain=plain)


def _outcome(
    group: Group, scored: _Scored, place: Place, i: int, seconds: Mapping[str, float]
) -> Outcome | Exception:
    """Both halves of a record; the files beside it are written."""
    sibling, cfg, n = group.siblings[i], place.run.cfg, len(group.siblings)
    done = sibling.diverged is None
    result = result_of(
        place.run,
        sibling,
        scored.metrics[i] if done else None,
        scored.effects[i] if done else None,
        sibling.diverged,
    )
    result["micro_batch"] = None
    with group.phases("write"):
        if done and cfg["keep_representations"]:
            write_representations(place.work / FILE, scored.vectors[i])
        write_curve(place.work / "curve.csv", sibling.history.rows)
        write_predictions(place.work / "predictions.parquet", scored.predictions[i])
    steps, pieces = sibling.steps - scored.begun, int(group.inputs["train"].lengths.sum())
    per_epoch = max(1, -(-len(group.inputs["train"].lengths) // cfg["optim"]["batch_size"]))
    share = {phase: value / n for phase, value in seconds.items()}
    measured = {
        # its share of what the group took, so that sums over runs stay true
        "seconds": rounded(share),
        "phases": rounded({phase: value / n for phase, value in group.phases.seconds.items()}),
        "profiled": cfg["profile"],
        "tokens_per_second": round(pieces * steps / per_epoch / max(share["fit"], 1e-9)),
        "attention": cfg["trainer"]["attention"][group.device.type],
        "precision": str(cfg["trainer"]["precision"]),
        "peak_memory_mb": peak_memory_mb(group.device),
        "eval_batch_size": cfg["trainer"]["eval_batch_size"],
        "frozen_prefix": group.prefix,
        "resumed_from": scored.begun or None,
        "packed": {"runs": n, "seconds": round(seconds["total"], 3)},
    }
    return result, measured


def _wait_for(device: torch.device) -> Callable[[], object] | None:
    """What makes the device finish what it was asked; None where the host does the work."""
    return torch.cuda.synchronize if device.type == "cuda" else None

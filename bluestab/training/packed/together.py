"""A group of runs from its jobs to its results: prepare, fit, score, both record halves."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bluestab.core.types import WEIGHTS_TO_KEEP, At
from bluestab.models.built import Built
from bluestab.training.job import Job
from bluestab.training.loop.memory import keep_freed
from bluestab.training.loop.phases import Phases, wait_for
from bluestab.training.packed.keeping import Keeper
from bluestab.training.packed.siblings import Sibling
from bluestab.training.packed.training import Group
from bluestab.training.results import Outcome, measured_of, prediction_rows, result_of, write_files
from bluestab.training.truncation import truncation_note
from bluestab.training.weights import write_weights

log = logging.getLogger("bluestab")


def train_and_score_together(jobs: Sequence[Job]) -> list[Outcome | Exception]:
    """Train jobs as one; per job both halves of its record, or what went wrong in scoring it alone.

    Raises what goes wrong for all of them.
    """
    device, cfg = torch.device(jobs[0].device), jobs[0].run.cfg
    torch.set_num_threads(cfg["trainer"]["threads"])
    keep_freed()
    _deterministic(device)
    phases = Phases(wait_for(device) if cfg["profile"] else None)
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    keys = [job.run.key for job in jobs]
    keeper = Keeper(jobs[0].resume, cfg["checkpoint_every"], keys, device)
    found = keeper.found()
    group = _built(jobs, device, phases)
    if found is not None and not keeper.restore(group.stack, group.siblings, found):
        found, group = None, _built(jobs, device, phases)
    begun = 0 if found is None else found.step
    _say(group)
    seconds["prepare"] = time.perf_counter() - started
    with phases("data"):
        group.fit(keeper, begun)
    seconds["fit"] = time.perf_counter() - started - sum(seconds.values())
    scored = _Scored(group, jobs, begun)
    scored.at_last()
    scored.at_best()
    seconds["score"] = time.perf_counter() - started - sum(seconds.values())
    seconds["total"] = sum(seconds.values())
    return [scored.errors.get(i) or scored.outcome(i, seconds) for i in range(len(jobs))]


def _built(jobs: Sequence[Job], device: torch.device, phases: Phases) -> Group:
    """The group before its first step; what techniques note of it, the next one does not see."""
    runs = [replace(j.run, techniques=copy.deepcopy(dict(j.run.techniques))) for j in jobs]
    return Group(runs, [(job.progress, job.watch) for job in jobs], device, phases)


def _say(group: Group) -> None:
    run, ready = group.siblings[0].run, group.ready
    for note in run.data.notes:
        log.info("%s", note)
    keys = " ".join(sibling.run.key for sibling in group.siblings)
    log.info("%d runs train as one: %s", len(group.siblings), keys)
    log.info("%d steps, %d of warm-up", ready.total_steps, ready.warmup_steps)
    if (lost := truncation_note(ready.lost, run.data.task.unit)) is not None:
        log.warning("%s=%d", lost, run.data.task.max_length)


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

    def __init__(self, group: Group, jobs: Sequence[Job], begun: int) -> None:
        self.group, self.jobs, self.begun = group, jobs, begun
        n = len(jobs)
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
        wanted = self.jobs[0].run.cfg["keep_representations"]
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
        job, built = self.jobs[i], self.group.siblings[i].built
        if at in WEIGHTS_TO_KEEP[job.run.cfg["keep"]]:
            ready = self.group.ready
            write_weights(job.work, at, _whole(built), ready.tokenizer, job.run.data.labels)

    def outcome(self, i: int, seconds: Mapping[str, float]) -> Outcome:
        """Both halves of a job's record; the files beside it are written.

        seconds  that all of them took, by phase
        """
        job, group, sibling = self.jobs[i], self.group, self.group.siblings[i]
        metrics, effects, vectors = None, None, None
        if sibling.diverged is None:
            metrics, effects = self.metrics[i], self.effects[i]
            vectors = self.vectors[i] if job.run.cfg["keep_representations"] else None
        result = result_of(job.run, sibling, metrics, effects, sibling.diverged, None)
        with group.phases("write"):
            write_files(job.work, sibling.history.rows, self.predictions[i], vectors)
        measured = measured_of(
            job.run,
            group.device,
            seconds=seconds,
            phases=group.phases.seconds,
            pieces=self._pieces(sibling),
            eval_batch_size=job.run.cfg["trainer"]["eval_batch_size"],
            frozen_prefix=group.prefix,
            resumed_from=self.begun or None,
            memory=group.ledger.report(),
            group=len(self.jobs),
        )
        return result, measured

    def _pieces(self, sibling: Sibling) -> float:
        """How many word pieces a run passed in training since the group began or went on."""
        lengths = self.group.inputs["train"].lengths
        per_epoch = max(1, -(-len(lengths) // sibling.run.cfg["optim"]["batch_size"]))
        pieces: float = lengths.sum() * (sibling.steps - self.begun) / per_epoch
        return pieces


def _whole(built: Built) -> Built:
    """The same with weights of its own to save: those of a sibling are views into the stack."""

    def plain(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return built.plain({name: value.detach().cpu().clone() for name, value in weights.items()})

    return replace(built, plain=plain)

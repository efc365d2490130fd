"""A weight soup: seeds of one cell averaged into one network, scored and recorded like a run.

uniform  the mean of all members
greedy   members by their validation score, best first; each stays in if the mean with it scores no
         worse on validation than without (Wortsman et al. 2022, arXiv 2203.05482, recipe 1)

Their members start from one head. Seeds do not, unless `seeds.init` is set: heads that began at
different random values can cancel each other in the mean. The score says what came of it.
Statistics (variances of batch norm and the like) are not recomputed: these networks have none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bluestab.core import devices
from bluestab.core.errors import ConfigError
from bluestab.core.keys import cell_of, key_of
from bluestab.core.provenance import provenance
from bluestab.core.types import RECORD_SCHEMA, At, Example, RunRecord
from bluestab.inference.cell import cell_of_run, validation
from bluestab.inference.remake import checked, keep_weights
from bluestab.inference.weights import FinishedRun, Weights, find_run, of_run
from bluestab.models.untrusted import WEIGHTS
from bluestab.store.artefacts import write_config, write_predictions
from bluestab.store.files import write_text
from bluestab.store.store import Store
from bluestab.tasks.base import Scores
from bluestab.tasks.metric import Metric, metric_of_result
from bluestab.training.check import Run

KINDS = ("uniform", "greedy")
SEEDS_OF = "init"


@dataclass(frozen=True)
class Soup:
    """The record of a soup, the members that are in it, and remarks worth reading."""

    record: RunRecord
    members: Sequence[RunRecord]
    remarks: Sequence[str]


def members_of(names: Sequence[str], store: Store) -> list[FinishedRun]:
    """The runs that are named; all usable seeds of its cell if it is one.

    Raises ConfigError if they are of several cells, or fewer than two.
    """
    found = [find_run(name, store) for name in names]
    first = found[0]
    if len(found) == 1:
        others = [
            r
            for r in cell_of_run(first.store, first.record).records
            if r.status == "done" and r.key != first.record.key
        ]
        found += [find_run(f"{first.folder.parent / r.key}:{first.at}", store) for r in others]
    cells = {run.record.result["cell"] for run in found}
    if len(cells) > 1:
        raise ConfigError(
            f"these runs differ in more than the seed ({len(cells)} cells): only seeds of one "
            "configuration lie close enough to be averaged"
        )
    if len({run.record.key for run in found}) < 2:
        raise ConfigError(
            f"a soup needs two runs of one configuration, the store holds {len(found)} that can "
            "be used: run more seeds"
        )
    if len({run.at for run in found}) > 1:
        raise ConfigError("some runs are named :best and others are not: choose one for all")
    return found


def make_soup(members: Sequence[FinishedRun], kind: str, device: str) -> Soup:
    """Average the members' weights, score the mean on validation and test, and record it as a run.

    Returns the soup; one that the store has is read from it. Raises ConfigError or StoreError if
    weights cannot be had.
    """
    first = members[0]
    store, at = first.store, first.at
    metric = metric_of_result(first.record.result)
    ranked = sorted(members, key=lambda run: -_quality(validation(run.record, at), metric))
    remarks = [
        f"run {run.record.key} kept no {at} weights: trained again"
        for run in ranked
        if keep_weights(run, device)
    ]
    weights = [of_run(run) for run in ranked]
    config = _config(ranked, weights, kind)
    key = key_of(config)
    starts = {run.record.result["config"]["seeds"][SEEDS_OF] for run in ranked}
    if len(starts) > 1:
        remarks.append(
            f"heads began at {len(starts)} different random values: in the mean they may cancel "
            "each other; a sweep with seeds.init=0 has one head for all"
        )
    if store.has(key):
        record = store.read(key)
        used = record.result["effects"]["soup"]["members"]
        return Soup(record, [r.record for r in ranked if r.record.key in used], remarks)
    run = checked(first, store, device)
    averager = _WeightAverager(run, weights, devices.resolve(device))
    started = time.perf_counter()
    chosen = averager.greedy() if kind == "greedy" else list(range(len(ranked)))
    record = _record(run, ranked, chosen, config, averager, time.perf_counter() - started)
    with store.building(key) as work:
        averager.write(work / "checkpoint" / at)
        write_predictions(work / "predictions.parquet", averager.rows)
        write_text(work / "curve.csv", "step,train_loss\n")
        write_text(work / "log.txt", f"{kind} soup of {', '.join(r.record.key for r in ranked)}\n")
        write_config(work / "config.yaml", {**run.cfg, "keep": at})
        record = store.finish(work, record)
    return Soup(record, [ranked[i].record for i in chosen], remarks)


def _quality(score: float | None, metric: Metric) -> float:
    """Larger is better, whatever the metric; none is worse than an undefined score."""
    return -float("inf") if score is None else metric.sign * score


def _config(ranked: Sequence[FinishedRun], weights: Sequence[Weights], kind: str) -> dict[str, Any]:
    """What decides a soup: its members' configuration, their weights, how they are chosen."""
    config = dict(ranked[0].record.result["config"])
    knobs = {"kind": kind, "at": ranked[0].at, "members": sorted(one.sha256 for one in weights)}
    return {**config, "technique": [*config["technique"], ["soup", knobs]]}


class _WeightAverager:
    """The members' weights, their mean, and its scores. One network is in memory."""

    def __init__(self, run: Run, weights: Sequence[Weights], device: str) -> None:
        from bluestab.inference.predictor import Predictor

        self.run, self.weights = run, weights
        self.predictor = Predictor([weights[0]], device)
        self.examples = run.data.select(run.seeds)
        self.rows: list[dict[str, Any]] = []
        self.tried: list[dict[str, Any]] = []
        self.mean: dict[str, Any] = {}

    def mix(self, chosen: Sequence[int]) -> None:
        """Put the mean of these members into the network."""
        import torch
        from safetensors.torch import load_file

        total: dict[str, Any] = {}
        for i in chosen:
            for name, value in load_file(self.weights[i].folder / WEIGHTS).items():
                own = value.double() if value.is_floating_point() else value
                kept = total.get(name)
                total[name] = own if kept is None or not own.is_floating_point() else kept + own
        self.mean = {
            name: (value / len(chosen)).to(torch.float32) if value.is_floating_point() else value
            for name, value in total.items()
        }
        self.predictor.take(self.mean)

    def greedy(self) -> list[int]:
        """Positions of the members that stay in."""
        metric = self.run.data.task.headline
        chosen: list[int] = []
        best = -float("inf")
        for i in range(len(self.weights)):
            self.mix([*chosen, i])
            score = self.score("validation")[0][metric.name]
            quality = _quality(score, metric)
            stays = not chosen or quality >= best
            noted = -float("inf") if score is None else score
            self.tried.append({"member": i, "validation": noted, "stays": stays})
            if stays:
                chosen.append(i)
                best = quality
        return chosen

    def score(self, split: Any) -> tuple[Scores, list[Any], list[np.ndarray]]:
        """Scores, predictions and logits of a split, by the task's own code."""
        task, labels, examples = self.run.data.task, self.run.data.labels, self.examples[split]
        found = self.predictor.logits(examples)
        logits = [one for _, _, (one,) in found]
        predictions = [
            task.decode(one, parts, example, labels)
            for (parts, _, (one,)), example in zip(found, examples, strict=True)
        ]
        targets = [e.target for e in examples]
        scores = task.score(predictions, targets) | task.calibration(logits, targets, labels)
        return scores, predictions, logits

    def finished(self, chosen: Sequence[int]) -> dict[str, Scores]:
        """Scores of the chosen mean on validation and test; its test items become `rows`."""
        self.mix(chosen)
        scores, predictions, logits = self.score("test")
        for at in ("last", "best"):
            for example, predicted, own in zip(
                self.examples["test"], predictions, logits, strict=True
            ):
                self.rows.append(
                    {
                        "at": at,
                        "id": example.id,
                        "prediction": predicted,
                        "target": _listed(example),
                        "logits": own.ravel().tolist(),
                    }
                )
        return {"validation": self.score("validation")[0], "test": scores}

    def write(self, folder: Path) -> None:
        """The mean, as transformers reads it, with the first member's other files."""
        import shutil

        from safetensors.torch import save_file

        shutil.copytree(self.weights[0].folder, folder)
        save_file(self.mean, folder / WEIGHTS, {"format": "pt"})


def _listed(example: Example) -> Any:
    return list(example.target) if isinstance(example.target, tuple) else example.target


def _record(
    run: Run,
    ranked: Sequence[FinishedRun],
    chosen: Sequence[int],
    config: dict[str, Any],
    averager: _WeightAverager,
    seconds: float,
) -> RunRecord:
    task, first = run.data.task, ranked[0].record
    scores = averager.finished(chosen)
    raw = scores["test"][task.metric]
    score = task.failure_score if raw is None else raw
    ats: tuple[At, ...] = ("last", "best")
    own = {
        "members": [ranked[i].record.key for i in chosen],
        "left_out": [r.record.key for i, r in enumerate(ranked) if i not in chosen],
        "member_test": [ranked[i].record.result["score"][ranked[i].at] for i in chosen],
        "tried": averager.tried,
    }
    result = {
        "key": key_of(config),
        "cell": cell_of(config),
        "config": config,
        "metric": task.metric,
        "failed_below": task.failed_below,
        "failure_score": task.failure_score,
        "status": "done",
        "metrics": dict.fromkeys(ats, scores),
        "score": dict.fromkeys(ats, score),
        "degenerate": {at: task.is_degenerate(raw) for at in ats},
        "best_step": 0,
        "steps": 0,
        "warmup_steps": 0,
        **{name: first.result[name] for name in ("items", "truncated", "lost", "parameters")},
        "effects": {**(first.result["effects"] or {}), "soup": own},
        "censored": None,
        "micro_batch": None,
        "error": None,
    }
    names = dict(first.measured["names"])
    measured = {
        "names": {**names, "technique": [*names["technique"], "soup"]},
        "seconds": {
            "prepare": 0.0,
            "fit": 0.0,
            "score": round(seconds, 3),
            "total": round(seconds, 3),
        },
        "attention": first.measured["attention"],
        "precision": first.measured["precision"],
        **provenance(str(averager.predictor.device)),
    }
    return RunRecord(RECORD_SCHEMA, result, measured)

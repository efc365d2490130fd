"""One run: config -> key -> done? -> assemble -> fit -> score -> record."""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluestab import devices
from bluestab.artefacts import logging_to, write_config, write_curve, write_predictions
from bluestab.checks import CheckedRun
from bluestab.circumstances import circumstances, peak_memory_mb
from bluestab.errors import DiskFull, Diverged, StoreError, TimedOut, is_disk_full
from bluestab.store import Store
from bluestab.types import RECORD_SCHEMA, At, RunRecord, Split

if TYPE_CHECKING:
    from bluestab.assemble import Assembly, Progress

log = logging.getLogger("bluestab")


def execute(run: CheckedRun, store: Store, progress: Progress) -> RunRecord:
    """Train and score one run, keep its record, and return it; from the store if it is there.

    A crash of the run is recorded and returned (status `crashed`), never raised: one run must not
    take others with it. Keyboard interrupts pass through and leave nothing behind.

    Raises DiskFull if there is no room for the result, StoreError if it cannot be written.
    """
    if store.has(run.key):
        return store.read(run.key)
    device = devices.resolve(run.cfg["device"])
    started = time.perf_counter()
    with store.building(run.key) as work:
        with logging_to(work / "log.txt"):
            seconds: dict[str, float] = {}
            try:
                ticking = _within(run.cfg["timeout"], progress)
                result, measured = _train_and_score(run, work, device, seconds, ticking)
            except Exception as error:
                if is_disk_full(error) or store.is_full():
                    raise _no_room(store, run.key) from error
                log.error("%s", traceback.format_exc())
                seconds["total"] = time.perf_counter() - started
                result, measured = crashed(run, error), {"seconds": _rounded(seconds)}
        gc.collect()  # trainer and module hold each other: a thousand runs must not pile up
        measured |= {"names": names(run), **circumstances(device)}
        record = RunRecord(RECORD_SCHEMA, result, measured)
        try:
            write_config(work / "config.yaml", run.cfg)
            if record.status == "crashed":
                store.keep_crash(work, record)
            else:
                store.finish(work, record)
        except OSError as error:
            if is_disk_full(error):
                raise _no_room(store, run.key) from error
            raise StoreError(
                f"the result of run {run.key} cannot be written to '{store.root}' "
                f"({error.strerror}); the same command goes on from here"
            ) from error
    return record


def _no_room(store: Store, key: str) -> DiskFull:
    return DiskFull(
        f"no room left for the result of run {key} in '{store.root}'; make room, the same command "
        "goes on from here"
    )


def _within(limit: float | None, progress: Progress) -> Progress:
    """`progress` that raises TimedOut at the first step after `limit` seconds."""
    if limit is None:
        return progress
    end = time.monotonic() + limit

    def ticking(step: int, total: int, loss: float | None, score: float | None) -> None:
        progress(step, total, loss, score)
        if time.monotonic() > end:
            raise TimedOut(limit, step)

    return ticking


def _train_and_score(
    run: CheckedRun,
    work: Path,
    device_name: str,
    seconds: dict[str, float],
    progress: Progress,
) -> tuple[dict[str, Any], dict[str, Any]]:
    import torch

    from bluestab.assemble import assemble

    device = torch.device(device_name)
    torch.set_num_threads(run.cfg["trainer"]["threads"])
    with _timed(seconds, "prepare"):
        assembly = assemble(
            run.cfg,
            data=run.data,
            model=run.model,
            techniques=run.techniques,
            seeds=run.seeds,
            device=device,
            progress=progress,
        )
    log.info("%s: %d steps, %d of warm-up", run.key, assembly.total_steps, assembly.warmup_steps)
    error: Diverged | None = None
    with _timed(seconds, "fit"):
        try:
            _fit(assembly)
        except Diverged as diverged:
            error = diverged
            log.warning("%s", error)
    predictions: list[dict[str, Any]] = []
    metrics: dict[At, dict[Split, Any]] | None = None
    effects = None
    if error is None:
        effects = assembly.effects()
        with _timed(seconds, "score"):
            metrics = _score(assembly, predictions)
    seconds["total"] = sum(seconds.values())
    steps = assembly.trainer.global_step
    result = _result(run, assembly, metrics, effects, error)
    write_curve(work / "curve.csv", assembly.history.rows)
    write_predictions(work / "predictions.parquet", predictions)
    pieces = sum(len(ids) for ids in assembly.loaders["train"].dataset["input_ids"])
    epochs = steps / max(1, len(assembly.loaders["train"]))
    measured = {
        "seconds": _rounded(seconds),
        "tokens_per_second": round(pieces * epochs / max(seconds["fit"], 1e-9)),
        "attention": run.cfg["trainer"]["attention"][device.type],
        "precision": str(run.cfg["trainer"]["precision"]),
        "peak_memory_mb": peak_memory_mb(device),
    }
    return result, measured


def _fit(assembly: Assembly) -> None:
    try:
        assembly.trainer.fit(
            assembly.module, assembly.loaders["train"], assembly.loaders["validation"]
        )
    except SystemExit as error:  # how Lightning leaves `fit` after Ctrl-C
        raise KeyboardInterrupt from error
    rows = assembly.history.rows
    if not rows or rows[-1]["step"] != assembly.total_steps:
        # the last evaluation inside `fit` was earlier than the last step
        assembly.trainer.validate(assembly.module, assembly.loaders["validation"], verbose=False)
    if not all(np.isfinite(logits).all() for logits in assembly.module.item_logits.values()):
        raise Diverged(assembly.trainer.global_step)  # no loss saw what the last update broke


def _score(assembly: Assembly, predictions: list[dict[str, Any]]) -> dict[At, dict[Split, Any]]:
    """Scores of the last and the best weights; fills `predictions` with one row per test item."""
    history = assembly.history
    names = assembly.data.task.metrics
    by_step = {row["step"]: {name: row[name] for name in names} for row in history.rows}
    metrics: dict[At, dict[Split, Any]] = {}
    last = assembly.total_steps
    for at, step in (("last", last), ("best", history.best_step)):
        if at == "best" and step == last:
            metrics["best"] = metrics["last"]
            predictions += [{**row, "at": "best"} for row in predictions]
            break
        if at == "best":
            history.restore_best()
        assembly.trainer.test(assembly.module, assembly.loaders["test"], verbose=False)
        module = assembly.module
        metrics[at] = {"validation": by_step[step], "test": dict(module.scores)}  # type: ignore[index]
        for i, example in enumerate(assembly.examples["test"]):
            predictions.append(
                {
                    "at": at,
                    "id": example.id,
                    "prediction": module.predictions[i],
                    "target": _listed(example.target),
                    "logits": module.item_logits[i].ravel().tolist(),
                }
            )
    return metrics


def _listed(target: Any) -> Any:
    return list(target) if isinstance(target, tuple) else target


def _result(
    run: CheckedRun,
    assembly: Assembly,
    metrics: Mapping[At, Mapping[Split, Any]] | None,
    effects: Mapping[str, Any] | None,
    error: Diverged | None,
) -> dict[str, Any]:
    """The canonical half of the record."""
    task = run.data.task
    ats: tuple[At, ...] = ("last", "best")
    score: dict[str, float] = dict.fromkeys(ats, task.failure_score)
    degenerate = None
    if metrics is not None:
        raw = {at: metrics[at]["test"][task.metric] for at in ats}
        score = {at: task.failure_score if raw[at] is None else raw[at] for at in ats}
        degenerate = {at: task.is_degenerate(raw[at]) for at in ats}
    plan, parameters = assembly.plan, dict(assembly.built.model.named_parameters())
    return {
        **_identity(run),
        "status": "done" if error is None else "diverged",
        "metrics": metrics,
        "score": score,
        "degenerate": degenerate,
        "best_step": assembly.history.best_step,
        "steps": assembly.trainer.global_step,
        "warmup_steps": min(assembly.warmup_steps, assembly.trainer.global_step),
        "items": {split: len(examples) for split, examples in assembly.examples.items()},
        "truncated": dict(assembly.truncated),
        "parameters": {
            "total": sum(p.numel() for p in parameters.values()),
            "trainable": sum(p.numel() for n, p in parameters.items() if plan[n].trainable),
        },
        "effects": effects,
        "error": None if error is None else {"type": "Diverged", "message": str(error)},
    }


def _identity(run: CheckedRun) -> dict[str, Any]:
    task = run.data.task
    return {
        "key": run.key,
        "cell": run.cell,
        "config": run.hashed,
        "metric": task.metric,
        "failed_below": task.failed_below,
        "failure_score": task.failure_score,
    }


def names(run: CheckedRun) -> dict[str, Any]:
    """What a person calls the parts of the run; the key knows them by content."""
    return {
        "task": run.data.task.name,
        "model": run.model.name,
        "technique": list(run.techniques),
        "seed": run.cfg["seed"],
    }


def crashed(run: CheckedRun, error: Exception) -> dict[str, Any]:
    """The canonical half of the record of a run that has no result."""
    unknown = ("metrics", "score", "degenerate", "best_step", "steps", "warmup_steps", "items")
    return {
        **_identity(run),
        "status": "crashed",
        **dict.fromkeys((*unknown, "truncated", "parameters", "effects")),
        "error": {"type": type(error).__name__, "message": str(error)},
    }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {phase: round(value, 3) for phase, value in seconds.items()}


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = time.perf_counter() - start

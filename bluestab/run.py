"""One run: config -> key -> done? -> assemble -> fit -> score -> record."""

from __future__ import annotations

import copy
import gc
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluestab.artefacts import (
    KEPT,
    lacks_weights,
    logging_to,
    write_config,
    write_curve,
    write_predictions,
    write_weights,
)
from bluestab.checks import CheckedRun
from bluestab.circumstances import circumstances, peak_memory_mb
from bluestab.errors import ConfigError, Diverged, StoreError
from bluestab.memory import Sizes, is_out_of_memory
from bluestab.seeding import seed_global_streams
from bluestab.store import Store, to_json
from bluestab.types import RECORD_SCHEMA, At, RunRecord, Split

if TYPE_CHECKING:
    import torch

    from bluestab.assemble import Assembly, Progress
    from bluestab.checkpoints import Found

log = logging.getLogger("bluestab")


def resolve_device(name: str) -> torch.device:
    """`auto|cpu|cuda[:N]|mps` -> a device that exists here. Raises ConfigError if it does not."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = "cuda:0"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {name}, but this machine has {torch.cuda.device_count()} CUDA devices "
            f"that torch {torch.__version__} can use; say device=cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device is mps, which this machine does not have; say device=cpu")
    return device


def execute(run: CheckedRun, store: Store, progress: Progress) -> RunRecord:
    """Train and score one run, keep its record, and return it; from the store if it is there.

    A crash of the run is recorded and returned (status `crashed`), never raised: one run must not
    take others with it. Keyboard interrupts pass through and leave nothing behind.

    Raises StoreError if the result cannot be written (full disk), or if a finished run that lacks
    the weights `keep` asks for does not come out the same when it is run again for them.
    """
    if store.has(run.key):
        if lacks_weights(store.folder(run.key), run.cfg["keep"]):
            _add_weights(run, store, progress)
        return store.read(run.key)
    device = resolve_device(run.cfg["device"])
    started = time.perf_counter()
    resume = store.root / ".resume" / run.key
    with store.building(run.key) as work:
        with logging_to(work / "log.txt"):
            seconds: dict[str, float] = {}
            try:
                result, measured = _train_and_score(run, work, resume, device, seconds, progress)
            except Exception as error:
                log.error("%s", traceback.format_exc())
                seconds["total"] = time.perf_counter() - started
                result, measured = _crashed(run, error), {"seconds": _rounded(seconds)}
        gc.collect()  # trainer and module hold each other: a thousand runs must not pile up
        measured |= {"names": _names(run), **circumstances(device)}
        record = RunRecord(RECORD_SCHEMA, result, measured)
        try:
            write_config(work / "config.yaml", run.cfg)
            if record.status == "crashed":
                store.keep_crash(work, record)
            else:
                store.finish(work, record)
                _discard(resume)
        except OSError as error:
            raise StoreError(
                f"the result of run {run.key} cannot be written to '{store.root}' "
                f"({error.strerror}); make room, the same command goes on from here"
            ) from error
    return record


def _discard(resume: Path) -> None:
    from bluestab.checkpoints import discard

    discard(resume)


def _add_weights(run: CheckedRun, store: Store, progress: Progress) -> None:
    """Run a finished run again for its weights, and put them beside a result that is the same."""
    device, folder = resolve_device(run.cfg["device"]), store.folder(run.key)
    stored = store.read(run.key)
    with store.building(run.key) as work:
        with logging_to(work / "log.txt"):
            log.info("%s is run again for its weights, keep=%s", run.key, run.cfg["keep"])
            resume = store.root / ".resume" / run.key
            try:
                result, _ = _train_and_score(run, work, resume, device, {}, progress)
            except Exception as error:
                raise StoreError(
                    f"run {run.key} is done, but running it again for its weights "
                    f"(keep={run.cfg['keep']}) failed: {type(error).__name__}: {error}"
                ) from error
        gc.collect()
        _discard(resume)
        # a record of an earlier version lacks the fields that came later, all null if unused
        then = {**dict.fromkeys(result), **stored.result}
        differing = [n for n in then if to_json(then[n]) != to_json(result.get(n))]
        if differing:
            raise StoreError(
                f"run {run.key} was run again for its weights (keep={run.cfg['keep']}), and its "
                f"{', '.join(differing)} came out different from the stored result, made on "
                f"{stored.measured.get('device')} with {stored.measured.get('versions')}; the "
                f"store is left as it was: run it there, or into another store=FOLDER"
            )
        parts = [work / "checkpoint"]
        if (folder / "checkpoint").is_dir():
            parts = [part for part in parts[0].iterdir() if not _beside(folder, part).is_dir()]
        for part in parts:  # complete and flushed: each appears in one rename
            part.rename(_beside(folder, part))


def _beside(folder: Path, part: Path) -> Path:
    return folder / "checkpoint" if part.name == "checkpoint" else folder / "checkpoint" / part.name


def _train_and_score(
    run: CheckedRun,
    work: Path,
    resume: Path,
    device: torch.device,
    seconds: dict[str, float],
    progress: Progress,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attempts, until one fits into memory; the first goes on from a checkpoint if there is one."""
    import torch

    from bluestab.checkpoints import discard, find, identity, set_aside

    sizes, techniques = Sizes.of(run.cfg), run.techniques
    found = find(resume, identity(run.key, device))
    if found is not None:
        micro, evaluation = found.sizes["micro_batch"], found.sizes["eval_batch_size"]
        sizes = replace(sizes, micro_batch=micro, evaluation=evaluation)
    while True:
        spare = copy.deepcopy(techniques)  # what an attempt leaves in them must not reach the next
        attempt = _Attempt(replace(run, techniques=techniques), sizes, work, resume, device)
        try:
            return attempt.run_it(found, seconds, progress)
        except Exception as error:
            if found is not None and not attempt.gone_on:
                set_aside(found.path, f"going on from it failed ({type(error).__name__}: {error})")
            elif (smaller := attempt.smaller(error)) is not None:
                log.warning("out of memory: %s", str(error).splitlines()[0] if str(error) else "")
                sizes = smaller
                log.warning(
                    "the run starts anew with %d items at once, %d in evaluation",
                    sizes.micro_batch or sizes.batch,
                    sizes.evaluation,
                )
                discard(resume)
            else:
                raise
        found, techniques = None, spare
        del attempt
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


class _Attempt:
    """One try at a run, with batches of these sizes."""

    def __init__(
        self, run: CheckedRun, sizes: Sizes, work: Path, resume: Path, device: torch.device
    ) -> None:
        self.run, self.sizes, self.work = run, sizes, work
        self.resume, self.device = resume, device
        self.assembly: Assembly | None = None

    @property
    def gone_on(self) -> bool:
        """Whether training went on from the checkpoint it was given."""
        checkpoints = None if self.assembly is None else self.assembly.checkpoints
        return checkpoints is not None and checkpoints.gone_on

    def smaller(self, error: Exception) -> Sizes | None:
        """Sizes to try next, if a lack of memory in training or evaluation ended this attempt."""
        if self.assembly is None or self.run.cfg["on_oom"] != "halve":
            return None
        if not is_out_of_memory(error):
            return None
        return self.sizes.halved(evaluating=self.assembly.module.evaluating)

    def run_it(
        self, found: Found | None, seconds: dict[str, float], progress: Progress
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The two halves of the record; files of the run are written into `work`."""
        import torch

        from bluestab.assemble import assemble

        run, cfg = self.run, self.sizes.applied_to(self.run.cfg)
        torch.set_num_threads(cfg["trainer"]["threads"])
        with _timed(seconds, "prepare"):
            assembly = self.assembly = assemble(
                cfg,
                data=run.data,
                model=run.model,
                techniques=run.techniques,
                seeds=run.seeds,
                device=self.device,
                progress=progress,
                key=run.key,
                resume=self.resume,
            )
        log.info(
            "%s: %d steps, %d of warm-up", run.key, assembly.total_steps, assembly.warmup_steps
        )
        if found is not None:
            log.info("%s goes on from step %d (%s)", run.key, found.step, found.path)
        error: Diverged | None = None
        with _timed(seconds, "fit"):
            try:
                seed_global_streams(run.seeds.dropout)
                _fit(assembly, None if found is None else found.path)
            except Diverged as diverged:
                error = diverged
                log.warning("%s", error)
        if assembly.history.censored is not None:
            log.warning("stopped early: %s", assembly.history.censored)
        predictions: list[dict[str, Any]] = []
        metrics: dict[At, dict[Split, Any]] | None = None
        effects = None
        if error is None:
            effects = assembly.effects()
            with _timed(seconds, "score"):
                metrics = _score(assembly, predictions, self.work, KEPT[cfg["keep"]])
        seconds["total"] = sum(seconds.values())
        result = _result(run, assembly, metrics, effects, error)
        result["micro_batch"] = self.sizes.micro_batch
        write_curve(self.work / "curve.csv", assembly.history.rows)
        write_predictions(self.work / "predictions.parquet", predictions)
        begun = 0 if found is None else found.step
        pieces = sum(len(ids) for ids in assembly.loaders["train"].dataset["input_ids"])
        epochs = (assembly.trainer.global_step - begun) / max(1, len(assembly.loaders["train"]))
        measured = {
            "seconds": _rounded(seconds),
            "tokens_per_second": round(pieces * epochs / max(seconds["fit"], 1e-9)),
            "attention": cfg["trainer"]["attention"][self.device.type],
            "precision": str(cfg["trainer"]["precision"]),
            "peak_memory_mb": peak_memory_mb(self.device),
            "eval_batch_size": self.sizes.evaluation,
            "resumed_from": None if found is None else found.step,
        }
        return result, measured


def _fit(assembly: Assembly, checkpoint: Path | None = None) -> None:
    try:
        assembly.trainer.fit(
            assembly.module,
            assembly.loaders["train"],
            assembly.loaders["validation"],
            ckpt_path=checkpoint,
            weights_only=True,
        )
    except SystemExit as error:  # how Lightning leaves `fit` after Ctrl-C
        raise KeyboardInterrupt from error
    rows = assembly.history.rows
    if not rows or rows[-1]["step"] != assembly.trainer.global_step:
        # the last evaluation inside `fit` was earlier than the last step
        assembly.trainer.validate(assembly.module, assembly.loaders["validation"], verbose=False)
    if not all(np.isfinite(logits).all() for logits in assembly.module.item_logits.values()):
        raise Diverged(assembly.trainer.global_step)  # no loss saw what the last update broke


def _score(
    assembly: Assembly, predictions: list[dict[str, Any]], work: Path, keep: tuple[At, ...]
) -> dict[At, dict[Split, Any]]:
    """Scores of the last and the best weights; fills `predictions` with one row per test item."""
    history = assembly.history
    names = assembly.data.task.metrics
    by_step = {row["step"]: {name: row[name] for name in names} for row in history.rows}
    metrics: dict[At, dict[Split, Any]] = {}
    last = assembly.trainer.global_step
    for at, step in (("last", last), ("best", history.best_step)):
        is_last = at == "best" and step == last
        if at == "best" and not is_last:
            history.restore_best()
        if at in keep:
            write_weights(work, at, assembly.built.model, assembly.tokenizer, assembly.data.labels)
        if is_last:
            metrics["best"] = metrics["last"]
            predictions += [{**row, "at": "best"} for row in predictions]
            break
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
        "censored": assembly.history.censored,
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


def _names(run: CheckedRun) -> dict[str, Any]:
    """What a person calls the parts of the run; the key knows them by content."""
    return {
        "task": run.data.task.name,
        "model": run.model.name,
        "technique": list(run.techniques),
        "seed": run.cfg["seed"],
    }


def _crashed(run: CheckedRun, error: Exception) -> dict[str, Any]:
    later = ("truncated", "parameters", "effects", "censored", "micro_batch")
    unknown = ("metrics", "score", "degenerate", "best_step", "steps", "warmup_steps", "items")
    return {
        **_identity(run),
        "status": "crashed",
        **dict.fromkeys((*unknown, *later)),
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

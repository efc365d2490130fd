"""One run: config -> key -> done? -> assemble -> fit -> score -> record."""

from __future__ import annotations

import gc
import logging
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.artefacts import lacks_weights, logging_to, write_config
from bluestab.attempt import identity_of, rounded, train_and_score
from bluestab.checks import CheckedRun
from bluestab.circumstances import circumstances
from bluestab.errors import ConfigError, StoreError
from bluestab.store import Store, to_json
from bluestab.types import RECORD_SCHEMA, RunRecord

if TYPE_CHECKING:
    import torch

    from bluestab.assemble import Progress

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
                result, measured = train_and_score(run, work, resume, device, seconds, progress)
            except Exception as error:
                log.error("%s", traceback.format_exc())
                seconds["total"] = time.perf_counter() - started
                result, measured = _crashed(run, error), {"seconds": rounded(seconds)}
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
    # as large as the parts were for which its memory sufficed then
    used = {"micro_batch": stored.result.get("micro_batch")}
    if "eval_batch_size" in stored.measured:
        used["eval_batch_size"] = stored.measured["eval_batch_size"]
    run = replace(run, cfg={**run.cfg, "trainer": {**run.cfg["trainer"], **used}})
    with store.building(run.key) as work:
        with logging_to(work / "log.txt"):
            log.info("%s is run again for its weights, keep=%s", run.key, run.cfg["keep"])
            resume = store.root / ".resume" / run.key
            try:
                result, _ = train_and_score(run, work, resume, device, {}, progress)
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
        **identity_of(run),
        "status": "crashed",
        **dict.fromkeys((*unknown, *later)),
        "error": {"type": type(error).__name__, "message": str(error)},
    }

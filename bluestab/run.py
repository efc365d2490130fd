"""One run: config -> key -> done? -> assemble -> fit -> score -> record."""

from __future__ import annotations

import gc
import logging
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from bluestab import devices
from bluestab.artefacts import (
    lacks_representations,
    lacks_weights,
    logging_to,
    write_config,
    write_parts,
)
from bluestab.attempt import train_and_score
from bluestab.checks import CheckedRun
from bluestab.circumstances import circumstances
from bluestab.errors import DiskFull, StoreError, TimedOut, is_disk_full
from bluestab.files import flush, flush_tree
from bluestab.loggers.base import Listening, Told, flat
from bluestab.representations import FILE as REPRESENTATIONS
from bluestab.results import identity_of, rounded
from bluestab.store import Store, to_json
from bluestab.types import RECORD_SCHEMA, RunRecord

if TYPE_CHECKING:
    from bluestab.assemble import Progress

log = logging.getLogger("bluestab")


class Asked(Protocol):
    """Of a run: what it is called, and what was asked for."""

    @property
    def key(self) -> str: ...

    @property
    def cfg(self) -> Mapping[str, Any]: ...


def is_done(run: Asked, store: Store) -> bool:
    """Is everything there that was asked for: the record, and what is to be kept beside it?"""
    return store.has(run.key) and not _lacking(run, store)


def _lacking(run: Asked, store: Store) -> dict[str, str]:
    """What a finished run was asked to keep and has not: its name -> the knob that asks."""
    cfg, folder = run.cfg, store.folder(run.key)
    lacking = {}
    if lacks_weights(folder, cfg["keep"]):
        lacking["weights"] = f"keep={cfg['keep']}"
    if cfg["keep_representations"] and lacks_representations(folder):
        lacking["representations"] = "keep_representations=true"
    return lacking


def execute(run: CheckedRun, store: Store, progress: Progress) -> RunRecord:
    """Train and score one run, keep its record, and return it; from the store if it is there.

    A crash of the run is recorded and returned (status `crashed`), never raised: one run must not
    take others with it. Keyboard interrupts pass through; a checkpoint, if there is one, stays.

    Raises DiskFull if there is no room for the result, StoreError if it cannot be written, or if a
    finished run that lacks what `keep` or `keep_representations` asks for does not come out the
    same when it is run again for it.
    """
    if store.has(run.key):
        if lacking := _lacking(run, store):
            _add(lacking, run, store, progress)
        return store.read(run.key)
    device = devices.resolve(run.cfg["device"])
    started = time.perf_counter()
    resume = store.root / ".resume" / run.key
    with store.building(run.key) as work:
        listening = Listening(run.loggers, told(run, store, work))
        with logging_to(work / "log.txt"):
            seconds: dict[str, float] = {}
            try:
                ticking = within(run.cfg["timeout"], progress)
                result, measured = train_and_score(
                    run, work, resume, device, seconds, ticking, listening.rows
                )
            except Exception as error:
                if is_disk_full(error) or store.is_full():
                    raise no_room(store, run.key) from error
                log.error("%s", traceback.format_exc())
                seconds["total"] = time.perf_counter() - started
                result, measured = crashed(run, error), {"seconds": rounded(seconds)}
        gc.collect()  # trainer and module hold each other: a thousand runs must not pile up
        measured |= {"names": names(run), **circumstances(device)}
        record = RunRecord(RECORD_SCHEMA, result, measured)
        with logging_to(work / "log.txt"):
            listening.end(record)
        return kept(run, store, work, record)


def kept(run: CheckedRun, store: Store, work: Path, record: RunRecord) -> RunRecord:
    """Publish what was built in `work`, with its record. Raises DiskFull or StoreError."""
    try:
        write_config(work / "config.yaml", run.cfg)
        if run.data.drawn:
            write_parts(work / "split.csv", run.data.select(run.seeds))
        if record.status == "crashed":
            store.keep_crash(work, record)
        else:
            record = store.finish(work, record)
            _discard(store.root / ".resume" / run.key)
    except OSError as error:
        if is_disk_full(error):
            raise no_room(store, run.key) from error
        raise StoreError(
            f"the result of run {run.key} cannot be written to '{store.root}' "
            f"({error.strerror}); the same command goes on from here"
        ) from error
    return record


def no_room(store: Store, key: str) -> DiskFull:
    """What to raise for a run that found the disk full."""
    return DiskFull(
        f"no room left for the result of run {key} in '{store.root}'; make room, the same command "
        "goes on from here"
    )


def within(limit: float | None, progress: Progress) -> Progress:
    """`progress` that raises TimedOut at the first step after `limit` seconds."""
    if limit is None:
        return progress
    end = time.monotonic() + limit

    def ticking(step: int, total: int, loss: float | None, score: float | None) -> None:
        progress(step, total, loss, score)
        if time.monotonic() > end:
            raise TimedOut(limit, step)

    return ticking


def _discard(resume: Path) -> None:
    from bluestab.checkpoints import discard

    discard(resume)


def _add(lacking: Mapping[str, str], run: CheckedRun, store: Store, progress: Progress) -> None:
    """Run a finished run again for what it lacks, and put that beside a result that is the same."""
    wanted = f"its {' and '.join(lacking)}"
    asked = " ".join(lacking.values())
    device, folder = devices.resolve(run.cfg["device"]), store.folder(run.key)
    stored = store.read(run.key)
    others = stored.measured.get("packed", {}).get("runs", 1) - 1
    if others:
        raise StoreError(
            f"run {run.key} is done, without {wanted}, and cannot be made again by itself: it "
            f"trained in one step with {others} more, on which its last digits depend; ask for "
            f"{asked} in another store=FOLDER"
        )
    # as large as the parts were for which its memory sufficed then
    used = {"micro_batch": stored.result.get("micro_batch")}
    if "eval_batch_size" in stored.measured:
        used["eval_batch_size"] = stored.measured["eval_batch_size"]
    run = replace(run, cfg={**run.cfg, "trainer": {**run.cfg["trainer"], **used}})
    with store.building(run.key) as work:
        with logging_to(work / "log.txt"):
            log.info("%s is run again for %s, %s", run.key, wanted, asked)
            resume = store.root / ".resume" / run.key
            try:
                result, _ = train_and_score(run, work, resume, device, {}, progress)
            except Exception as error:
                if is_disk_full(error) or store.is_full():
                    raise no_room(store, run.key) from error
                raise StoreError(
                    f"run {run.key} is done, but running it again for {wanted} "
                    f"({asked}) failed: {type(error).__name__}: {error}"
                ) from error
        gc.collect()
        _discard(resume)
        # a record of an earlier version lacks the fields that came later, all null if unused
        then = {**dict.fromkeys(result), **stored.result}
        differing = [n for n in then if to_json(then[n]) != to_json(result.get(n))]
        if differing:
            raise StoreError(
                f"run {run.key} was run again for {wanted} ({asked}), and its "
                f"{', '.join(differing)} came out different from the stored result, made on "
                f"{stored.measured.get('device')} with {stored.measured.get('versions')}; the "
                f"store is left as it was: run it there, or into another store=FOLDER"
            )
        flush_tree(work)
        for part in _parts(work, folder):  # each appears in one rename
            part.rename(folder / part.relative_to(work))
        flush(folder)


def _parts(work: Path, folder: Path) -> list[Path]:
    """Of what was made in `work`, the parts that a finished run's folder has not."""
    weights, vectors = work / "checkpoint", work / REPRESENTATIONS
    # the folder of all weights at once, else those of one kind
    inside = sorted(weights.iterdir()) if (folder / "checkpoint").is_dir() else [weights]
    candidates = [*(inside if weights.is_dir() else []), vectors]
    return [p for p in candidates if p.exists() and not (folder / p.relative_to(work)).exists()]


def names(run: CheckedRun) -> dict[str, Any]:
    """What a person calls the parts of the run; the key knows them by content."""
    found: dict[str, Any] = {
        "task": run.data.task.name,
        "model": run.model.name,
        "technique": list(run.techniques),
        "seed": run.cfg["seed"],
    }
    return found if run.init_from is None else {**found, "init_from": run.init_from.names()}


def told(run: CheckedRun, store: Store, work: Path) -> Told:
    """What loggers are told of a run: names, knobs and numbers."""
    said = names(run)
    technique = "+".join(said["technique"]) or "none"
    sweep = run.cfg.get("sweep") or {}
    tags = {name: str(said[name]) for name in ("task", "model", "seed")}
    return Told(
        key=run.key,
        sweep=sweep.get("name"),
        arm=sweep.get("arm") or technique,
        tags={**tags, "technique": technique, "cell": run.cell, "key": run.key},
        knobs=flat({**run.hashed, "technique": dict(run.hashed["technique"])}),
        store=store.root,
        work=work,
    )


def crashed(run: CheckedRun, error: Exception) -> dict[str, Any]:
    """The canonical half of the record of a run that has no result."""
    later = ("truncated", "lost", "parameters", "effects", "censored", "micro_batch")
    unknown = ("metrics", "score", "degenerate", "best_step", "steps", "warmup_steps", "items")
    return {
        **identity_of(run),
        "status": "crashed",
        **dict.fromkeys((*unknown, *later)),
        "error": {"type": type(error).__name__, "message": str(error)},
    }


class _Callable(ModuleType):
    """Makes `bluestab.run([...])`, the call of the Python API, work beside this module's own names:
    a package has one attribute `run`, and importing this module sets it."""

    def __call__(self, overrides: Sequence[str] = ()) -> RunRecord:
        found: RunRecord = import_module("bluestab.api").run(overrides)
        return found


sys.modules[__name__].__class__ = _Callable

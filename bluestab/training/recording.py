"""What is recorded of a run besides its scores: names, a crash; and how a record is stored."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.config import leaves
from bluestab.core.errors import DiskFull, StoreError, TimedOut, is_disk_full
from bluestab.core.secrets import cleaned
from bluestab.core.types import RunRecord
from bluestab.store.artefacts import write_config, write_parts
from bluestab.store.store import Store
from bluestab.training.check import Run
from bluestab.training.loggers.base import RunInfo
from bluestab.training.results import identity_of

if TYPE_CHECKING:
    from bluestab.core.types import Progress


def publish(run: Run, store: Store, work: Path, record: RunRecord) -> RunRecord:
    """Move what was built in `work` into the store, with its record, which is returned.

    A crash goes to where crashes are kept. The checkpoint of a finished run is removed.

    Raises DiskFull if there is no room, StoreError if the store cannot be written.
    """
    try:
        write_config(work / "config.yaml", run.cfg)
        if run.data.drawn:
            write_parts(work / "split.csv", run.data.select(run.seeds))
        if record.status == "crashed":
            store.keep_crash(work, record)
        else:
            from bluestab.training.loop.checkpoints import discard

            record = store.finish(work, record)
            discard(store.root / ".resume" / run.key)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full_error(store, run.key) from error
        raise StoreError(
            f"the result of run {run.key} cannot be written to '{store.root}' "
            f"({error.strerror}); the same command goes on from here"
        ) from error
    return record


def disk_full_error(store: Store, key: str) -> DiskFull:
    """The DiskFull to raise for a run whose result did not fit on the disk, while it is there."""
    try:
        needed = store.free_bytes() + store.building_bytes()
    except OSError:  # not even its folder could be made
        needed = 0
    return DiskFull(
        f"no room left for the result of run {key} in '{store.root}', where {needed / 1e6:.1f} MB "
        "did not suffice; make room or keep less (keep=none), the same command goes on from here",
        needed,
    )


def with_timeout(limit: float | None, progress: Progress) -> Progress:
    """`progress` that raises TimedOut at the first step after `limit` seconds from now."""
    if limit is None:
        return progress
    end = time.monotonic() + limit

    def ticking(step: int, total: int, loss: float | None, score: float | None) -> None:
        progress(step, total, loss, score)
        if time.monotonic() > end:
            raise TimedOut(limit, step)

    return ticking


def run_names(run: Run) -> dict[str, Any]:
    """Names of task, model, techniques and seed; the key has their content instead."""
    found: dict[str, Any] = {
        "task": run.data.task.name,
        "model": run.model.name,
        "technique": list(run.techniques),
        "seed": run.cfg["seed"],
    }
    if run.model.vocabulary is not None:
        found["vocabulary"] = "/".join(Path(run.model.vocabulary).parts[-2:])
    return found if run.init_from is None else {**found, "init_from": run.init_from.names()}


def run_info(run: Run, store: Store, work: Path) -> RunInfo:
    """The description of a run that its loggers are given: names, knobs and folders."""
    names = run_names(run)
    technique = "+".join(names["technique"]) or "none"
    sweep = run.cfg.get("sweep") or {}
    tags = {name: str(names[name]) for name in ("task", "model", "seed")}
    return RunInfo(
        key=run.key,
        sweep=sweep.get("name"),
        arm=sweep.get("arm") or technique,
        tags={**tags, "technique": technique, "cell": run.cell, "key": run.key},
        knobs=dict(leaves({**run.hashed, "technique": dict(run.hashed["technique"])})),
        store=store.root,
        work=work,
    )


def crash_result(run: Run, error: Exception) -> dict[str, Any]:
    """The canonical half of the record of a run that has no result."""
    later = ("truncated", "lost", "parameters", "effects", "censored", "micro_batch")
    unknown = ("metrics", "score", "degenerate", "best_step", "steps", "warmup_steps", "items")
    return {
        **identity_of(run),
        "status": "crashed",
        **dict.fromkeys((*unknown, *later)),
        "error": {"type": type(error).__name__, "message": cleaned(str(error))},
    }

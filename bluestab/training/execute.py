"""Runs on their way to their records: config -> key -> done? -> train -> score -> record.

Runs that train as one go together; a single run is a group of one.
"""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core import devices
from bluestab.core.errors import GroupTooLarge, StoreError, is_disk_full
from bluestab.core.provenance import provenance
from bluestab.core.types import IMPORTANCES, RECORD_SCHEMA, WEIGHTS_TO_KEEP, RunRecord
from bluestab.store.artefacts import (
    PATH_INTEGRAL,
    importance_file,
    lacking_importances,
    lacks_path_integral,
    lacks_representations,
    lacks_weights,
    logging_to,
)
from bluestab.store.files import flush, flush_tree
from bluestab.store.records import to_json
from bluestab.store.representations import FILE as REPRESENTATIONS
from bluestab.store.store import Store
from bluestab.training.attempt import train_and_score
from bluestab.training.check import Run
from bluestab.training.importances import measure_importances
from bluestab.training.job import Job
from bluestab.training.loggers.base import LoggerGroup
from bluestab.training.loop.memory import is_out_of_memory
from bluestab.training.recording import (
    crash_result,
    disk_full_error,
    publish,
    run_info,
    run_names,
    with_timeout,
)
from bluestab.training.results import Outcome, rounded

if TYPE_CHECKING:
    from bluestab.core.types import Progress

log = logging.getLogger("bluestab")


def is_done(run: Run, store: Store) -> bool:
    """Whether the store has the record of a run, and all that its knobs `keep` and `keep_...` want
    beside it."""
    return is_stored(run.key, run.cfg, store)


def is_stored(key: str, cfg: Mapping[str, Any], store: Store) -> bool:
    """`is_done` of a run that is known by its key and its config alone."""
    return store.has(key) and not _lacking(key, cfg, store)


def _lacking(key: str, cfg: Mapping[str, Any], store: Store) -> dict[str, str]:
    """What a finished run was asked to keep and has not: its name -> the knob that asks."""
    folder = store.folder(key)
    lacking = {}
    if lacks_weights(folder, cfg["keep"]):
        lacking["weights"] = f"keep={cfg['keep']}"
    if cfg["keep_representations"] and lacks_representations(folder):
        lacking["representations"] = "keep_representations=true"
    if cfg.get("keep_path_integral", False) and lacks_path_integral(folder):
        lacking["path integral"] = "keep_path_integral=true"
    if names := _lacking_importances(folder, cfg):
        lacking[IMPORTANCE] = f"keep_importance=[{','.join(names)}]"
    return lacking


IMPORTANCE = "importance of weights"


def _lacking_importances(folder: Path, cfg: Mapping[str, Any]) -> list[str]:
    return lacking_importances(folder, cfg["keep"], cfg.get("keep_importance", ()))


def execute_one(run: Run, store: Store, progress: Progress) -> RunRecord:
    """`execute` of a single run: returns its record, and raises the same."""
    (record,) = execute([run], store, [progress])
    return record


def execute(runs: Sequence[Run], store: Store, progress: Sequence[Progress]) -> list[RunRecord]:
    """Train and score runs as one, keep their records, and return them in order.

    runs      one, or siblings (`families.pack_group_key`); those that are in the store are read
              from it
    progress  for each run, called after every step

    A crash of a run is recorded and returned (status `crashed`), never raised: one run must not
    take others with it. A crash in what runs share is recorded for all of them, one in what is a
    run's own for that run. Keyboard interrupts pass through; a checkpoint, if there is one, stays.

    Raises GroupTooLarge if fewer runs at once may fit into memory; DiskFull if there is no room for
    a result, StoreError if it cannot be written, or if a finished run that lacks what it is to keep
    does not come out the same when it is run again for it. Records that were written before stay.
    """
    missing = []
    for run, one in zip(runs, progress, strict=True):
        if not store.has(run.key):
            missing.append((run, one))
        elif lacking := _lacking(run.key, run.cfg, store):
            _add(lacking, run, store, one)
    made = {record.key: record for record in (_made(missing, store) if missing else [])}
    return [made.get(run.key) or store.read(run.key) for run in runs]


def _made(missing: Sequence[tuple[Run, Progress]], store: Store) -> list[RunRecord]:
    """The records of runs that are not in the store, which are put there."""
    device = devices.resolve(missing[0][0].cfg["device"])
    started = time.perf_counter()
    with ExitStack() as folders:
        jobs, loggers = [], []
        for run, progress in missing:
            work = folders.enter_context(store.building(run.key))
            group = LoggerGroup(run.loggers, run_info(run, store, work))
            ticking = with_timeout(run.cfg["timeout"], progress)
            jobs.append(Job(run, work, _resume(run, store), device, ticking, group.rows))
            loggers.append(group)
        with ExitStack() as logs:
            for job in jobs:
                logs.enter_context(logging_to(job.work / "log.txt"))
            outcomes = _outcomes(jobs, store, started)
        gc.collect()  # trainer and module hold each other: a thousand runs must not pile up
        took = (time.perf_counter() - started) / len(jobs)
        records = []
        for job, group, outcome in zip(jobs, loggers, outcomes, strict=True):
            if isinstance(outcome, Exception):
                if is_disk_full(outcome):
                    raise disk_full_error(store, job.run.key) from outcome
                outcome = _crashed(job, outcome, took)
            records.append(_recorded(job, outcome, group, store))
    return records


def _resume(run: Run, store: Store) -> Path:
    """The folder of a run's checkpoint."""
    return store.root / ".resume" / run.key


def _outcomes(jobs: Sequence[Job], store: Store, started: float) -> list[Outcome | Exception]:
    """What each job came to; what goes wrong for all at once is a crash of each.

    started  `time.perf_counter` when the runs began

    Raises DiskFull, and GroupTooLarge if fewer at once may fit into memory.
    """
    try:
        return [_train_one(jobs[0])] if len(jobs) == 1 else _train_group(jobs)
    except Exception as error:
        _raise_if_full(error, store, jobs[0].run.key)
        halve = jobs[0].run.cfg["on_oom"] == "halve"
        if not (len(jobs) > 1 and halve and is_out_of_memory(error)):
            log.error("%s", traceback.format_exc())
            took = (time.perf_counter() - started) / len(jobs)
            return [_crashed(job, error, took) for job in jobs]
        too_large = f"{len(jobs)} runs at once: {error}"
    gc.collect()  # the error is gone, and with it what held on to the group
    raise GroupTooLarge(too_large)


def _raise_if_full(error: Exception, store: Store, key: str) -> None:
    """Raises DiskFull if there was no room for what run `key` was to leave."""
    if is_disk_full(error) or store.is_full():
        raise disk_full_error(store, key) from error


def _train_one(job: Job) -> Outcome:
    """What one run comes to, with the engine that its config names. Raises what goes wrong."""
    if job.run.cfg["trainer"]["engine"] != "packed":
        return train_and_score(job)
    (outcome,) = _train_group([job])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _train_group(jobs: Sequence[Job]) -> list[Outcome | Exception]:
    """What several come to that train as one. Raises what goes wrong for all of them."""
    from bluestab.training.packed.together import train_and_score_together  # loads torch

    return train_and_score_together(jobs)


def _crashed(job: Job, error: Exception, seconds: float) -> Outcome:
    """What a job came to that ended with an error."""
    return crash_result(job.run, error), {"seconds": rounded({**job.seconds, "total": seconds})}


def _recorded(job: Job, outcome: Outcome, loggers: LoggerGroup, store: Store) -> RunRecord:
    """Complete the record of a job and publish it. Raises DiskFull or StoreError."""
    result, measured = outcome
    measured |= {"names": run_names(job.run), **provenance(job.device)}
    record = RunRecord(RECORD_SCHEMA, result, measured)
    names = job.run.cfg.get("keep_importance", ())
    with logging_to(job.work / "log.txt"):
        if names and record.status == "done":
            record = _with_importances(job, names, store, record)
        loggers.end(record)
    return publish(job.run, store, job.work, record)


def _with_importances(job: Job, names: Iterable[str], store: Store, record: RunRecord) -> RunRecord:
    """Measure them, of a run that has just been trained; it is done without them, too, and who
    needs them measures them then. The record, with the seconds. Raises DiskFull."""
    begun = time.perf_counter()
    weights = job.work / "checkpoint"
    try:
        measure_importances(job.run, names, weights, weights)
    except Exception as error:
        _raise_if_full(error, store, job.run.key)
        log.error("%s", traceback.format_exc())
        for file in weights.glob(f"*/{importance_file(Path(), '*')}"):
            file.unlink()
    took, seconds = time.perf_counter() - begun, record.measured["seconds"]
    seconds = rounded({**seconds, "importance": took, "total": seconds["total"] + took})
    return replace(record, measured={**record.measured, "seconds": seconds})


def _add(lacking: Mapping[str, str], run: Run, store: Store, progress: Progress) -> None:
    """Run a finished run again for what it lacks, and put that beside a result that is the same;
    where the weights that it kept tell all of it, only that is measured."""
    wanted = f"its {' and '.join(lacking)}"
    asked = " ".join(lacking.values())
    folder, stored = store.folder(run.key), store.read(run.key)
    others = stored.measured.get("packed", {}).get("runs", 1) - 1
    trains = lacking.keys() != {IMPORTANCE}
    if others and trains:
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
        device = devices.resolve(run.cfg["device"])
        job = Job(run, work, _resume(run, store), device, progress)
        with logging_to(work / "log.txt"):
            log.info("%s is run again for %s, %s", run.key, wanted, asked)
            try:
                result = _made_again(job, folder, trains) or stored.result
            except Exception as error:
                _raise_if_full(error, store, run.key)
                raise StoreError(
                    f"run {run.key} is done, but running it again for {wanted} ({asked}) failed: "
                    f"{type(error).__name__}: {error}"
                ) from error
        gc.collect()
        then = stored.result
        differing = [
            n for n in then if to_json(then[n]) != to_json(_as_far(result.get(n), then[n]))
        ]
        if differing:
            raise StoreError(
                f"run {run.key} was run again for {wanted} ({asked}), and its "
                f"{', '.join(differing)} came out different from the stored result, made on "
                f"{stored.measured.get('device')} with {stored.measured.get('versions')}; the "
                f"store is left as it was: run it there, or into another store=FOLDER"
            )
        flush_tree(work)
        _move_parts(work, folder)
        flush(folder)
    store.claims.forget_deaths(run.key)


def _as_far(now: Any, then: Any) -> Any:
    """What of a value of a result an earlier version said, too: it may lack fields of today."""
    if isinstance(now, Mapping) and isinstance(then, Mapping):
        return {name: _as_far(now.get(name), value) for name, value in then.items()}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [*map(_as_far, now, then)]
    return now


def _made_again(job: Job, folder: Path, trains: bool) -> dict[str, Any] | None:
    """The result of a finished run that is trained once more (None: it is not), and what it lacks
    in the job's `work`. (folder: of the finished run.)"""
    from bluestab.training.loop.checkpoints import discard

    result = None
    if trains:
        result, _ = _train_one(job)
        discard(job.resume)
    if names := _lacking_importances(folder, job.run.cfg):
        kept = job.work if trains else folder
        measure_importances(job.run, names, kept / "checkpoint", job.work / "checkpoint")
    return result


def _move_parts(work: Path, folder: Path) -> None:
    """Of what was made in `work`, move what a finished run's folder has not; each part appears in
    one rename."""
    kept = [Path("checkpoint", at) for at in WEIGHTS_TO_KEEP["all"]]
    beside: list[str | Path] = [
        PATH_INTEGRAL,
        *(importance_file(Path(), name) for name in IMPORTANCES),
    ]
    files = [weights / name for weights in kept for name in beside]
    for part in (Path("checkpoint"), *kept, *files, Path(REPRESENTATIONS)):  # the outer ones first
        if (work / part).exists() and not (folder / part).exists():
            (work / part).rename(folder / part)

"""The death of a process that did a run: what kind it was, and its record."""

from __future__ import annotations

from bluestab.core.errors import is_disk_full
from bluestab.core.provenance import provenance
from bluestab.core.types import RECORD_SCHEMA, RunRecord
from bluestab.store.artefacts import write_config
from bluestab.store.files import write_text
from bluestab.store.store import Store
from bluestab.training.check import Run
from bluestab.training.recording import crash_result, disk_full_error, run_names


def record_death(
    run: Run,
    store: Store,
    *,
    how: Exception,
    pid: int = 0,
    said: str = "",
    seconds: float = 0,
) -> RunRecord:
    """Record the crash of a run whose process died, or that could not be started, with its log so
    far; returns the record.

    how   what ended the process, or is in the way
    said  the end of its output

    Raises DiskFull if there is no room for that.
    """
    try:
        return _death(run, store, how, pid, said, seconds)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full_error(store, run.key) from error
        raise


def _death(
    run: Run, store: Store, how: Exception, pid: int, said: str, seconds: float
) -> RunRecord:
    log = ""
    for folder in store.abandoned(run.key):
        if folder.name.endswith(f".{pid}") and (folder / "log.txt").is_file():
            log = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    measured = {
        "seconds": {"total": round(seconds, 3)},
        "names": run_names(run),
        **provenance(run.cfg["device"]),
    }
    record = RunRecord(RECORD_SCHEMA, crash_result(run, how), measured)
    with store.building(run.key) as work:
        write_text(work / "log.txt", f"{log}{how}\n{said}")
        write_config(work / "config.yaml", run.cfg)
        store.keep_crash(work, record)
    return record


class WorkerDied(Exception):
    """The process that did a run is gone."""


class OutOfMemoryKilled(WorkerDied):
    """Killed because a limit of memory was reached."""


class NodeFailed(WorkerDied):
    """The machine went away under it."""


class TimeLimitReached(WorkerDied):
    """A scheduler's time limit ended it."""

"""Runs that train as one: as `run.execute` does one of them, with a record for each."""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bluestab import devices
from bluestab.artefacts import logging_to
from bluestab.checks import CheckedRun
from bluestab.circumstances import circumstances
from bluestab.errors import GroupTooLarge, is_disk_full
from bluestab.loggers.base import Listening
from bluestab.memory import is_out_of_memory
from bluestab.results import rounded
from bluestab.run import crashed, kept, names, no_room, told, within
from bluestab.store import Store
from bluestab.types import RECORD_SCHEMA, RunRecord

if TYPE_CHECKING:
    from bluestab.types import Progress

log = logging.getLogger("bluestab")


def execute_together(
    runs: Sequence[CheckedRun], store: Store, progress: Sequence[Progress]
) -> list[RunRecord]:
    """Train and score siblings as one, keep their records, and return them in order.

    None of them is finished in the store. A crash in what they share is recorded for all of them,
    one in what is a run's own for that run; neither is raised. Keyboard interrupts pass through.

    Raises GroupTooLarge if fewer at once may fit into memory; DiskFull or StoreError as
    `run.execute` does, when what was written before is kept.
    """
    from bluestab.packed.together import Outcome, Place, train_and_score_together

    device = devices.resolve(runs[0].cfg["device"])
    started = time.perf_counter()
    with ExitStack() as stack:
        works = [stack.enter_context(store.building(run.key)) for run in runs]
        listening = [
            Listening(run.loggers, told(run, store, work))
            for run, work in zip(runs, works, strict=True)
        ]
        outcomes: Sequence[Outcome | Exception] = []
        too_large = ""
        with ExitStack() as logs:
            for work in works:
                logs.enter_context(logging_to(work / "log.txt"))
            try:
                places = [
                    Place(run, work, within(run.cfg["timeout"], one), ears.rows)
                    for run, work, one, ears in zip(runs, works, progress, listening, strict=True)
                ]
                resume = store.root / ".resume" / runs[0].key
                outcomes = train_and_score_together(places, device, resume)
            except Exception as error:
                if is_disk_full(error) or store.is_full():
                    raise no_room(store, runs[0].key) from error
                halve = runs[0].cfg["on_oom"] == "halve"
                if len(runs) > 1 and halve and is_out_of_memory(error):
                    too_large = f"{len(runs)} runs at once: {error}"
                else:
                    log.error("%s", traceback.format_exc())
                    outcomes = [error.with_traceback(None)] * len(runs)
            gc.collect()  # the error is gone, and with it what held on to the group
            if too_large:
                raise GroupTooLarge(too_large)
        took = (time.perf_counter() - started) / len(runs)
        records = []
        for run, work, ears, outcome in zip(runs, works, listening, outcomes, strict=True):
            if isinstance(outcome, Exception):
                if is_disk_full(outcome):
                    raise no_room(store, run.key) from outcome
                result = crashed(run, outcome)
                measured = {"seconds": rounded({"total": took})}
            else:
                result, measured = outcome
            measured |= {"names": names(run), **circumstances(device)}
            record = RunRecord(RECORD_SCHEMA, result, measured)
            with logging_to(work / "log.txt"):
                ears.end(record)
            records.append(kept(run, store, work, record))
    return records

"""One worker in this process: runs one after another, or a group of siblings at a time."""

from __future__ import annotations

import time

from bluestab.core.errors import DiskFull, GroupTooLarge
from bluestab.report.terminal.progress import SweepDisplay
from bluestab.report.words.phrases import describe
from bluestab.sweeps.attempt import Execute, Together, attempt_together
from bluestab.sweeps.grouping import PackSizer, in_blocks, next_group
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.queue import LOOK_AGAIN, Queue
from bluestab.sweeps.stopping import Stop, pause_until_room, tell_waiting


def run_here(
    sweep: Sweep,
    execute: Execute | None = None,
    together: Together | None = None,
    group: int | None = 1,
) -> bool:
    """Do what is missing, one group after another. Did a person stop it?

    execute, together  what does a run, and several of them; tests put others there
    group              runs that train as one at most; None: what memory is expected to hold
    """
    store, sizer = sweep.store, PackSizer(group)
    queue = Queue(in_blocks(sweep.runs, group), store)
    keys = [planned.run.key for planned in sweep.runs]
    with (
        SweepDisplay(sweep.name, keys, store, workers=1, blind=sweep.blind) as display,
        Stop(display.say, sweep.deadline) as stop,
    ):
        while len(queue) and not stop.asked:
            members = next_group(queue, sizer.size)
            if not members:
                tell_waiting(display, queue)
                time.sleep(LOOK_AGAIN / 10)
                continue
            display.note = ""
            runs = [planned.run for planned in members]
            try:
                records = attempt_together(runs, store, None, execute, together)
            except DiskFull as error:
                queue.put_all_back(members)
                pause_until_room(store, stop, display.say, error)
                continue
            except GroupTooLarge as error:
                queue.put_all_back(members)
                display.say(sizer.too_large(runs[0], len(runs), str(error)))
                continue
            for planned, record in zip(members, records, strict=True):
                if record is None:
                    queue.put_back(planned)
                    continue
                display.end(record, describe(planned.run))
                if record.status == "crashed":
                    queue.crashed(planned)
            sizer.measured(runs[0], [record for record in records if record is not None])
        return stop.asked

"""Sibling runs train as one, group after group, in this process; others run by themselves.

What can be packed gets `trainer.engine=packed`, which is part of its key: that is a matter of its
config, never of its seed or of the group it happens to be in, so that no cell mixes engines. What
cannot is done as the launcher `local` does it. Of a group that is cut off the same command trains
those runs again that are missing, from its checkpoint (`checkpoint_every`) if all of them are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bluestab import rules
from bluestab.checks import CheckedRun
from bluestab.errors import ConfigError, DiskFull, GroupTooLarge
from bluestab.launchers.base import Backend
from bluestab.packing import Room, in_blocks, is_packed, said_of, with_engines
from bluestab.planning import Compose, Job, PlannedRun, Sweep, plan_sweep
from bluestab.report.progress import SweepDisplay
from bluestab.report.terminal import describe, print_notes
from bluestab.siblings import family_of
from bluestab.types import RunRecord
from bluestab.workers import (
    LOOK_AGAIN,
    Execute,
    Queue,
    Stop,
    attempt,
    attempt_together,
    begin,
    close,
    pause_until_room,
    tell_waiting,
)

BLOCK = 20
"""Seeds of one arm that are done before those of the next, where the size of groups is not given:
an interrupted sweep is then a smaller one that still pairs its arms."""


class Packed(Backend):
    """group: runs that train as one at most; null: what memory is expected to hold."""

    def __init__(self, *, group: int | None) -> None:
        wrong = rules.problems({"hydra.launcher.group": (group, rules.whole(1, null=True))})
        if wrong:
            raise ConfigError(*wrong)
        self.group = group

    def take(self, compose: Compose, jobs: Sequence[Job], name: str | None) -> None:
        """As any launcher does, but first each run is given the engine that can train it."""
        jobs, apart = with_engines(compose, jobs)
        sweep = plan_sweep(compose, jobs, name)
        print_notes(planned.run.data for planned in sweep.runs)
        for line in said_of(sweep.runs, apart):
            print(line)
        self.launch(sweep)

    def launch(self, sweep: Sweep) -> None:
        begin(sweep)
        stopped = run_packed(sweep, self.group)
        close(sweep, stopped)


def next_group(queue: Queue, room: Callable[[CheckedRun], int]) -> list[PlannedRun]:
    """The next run, and siblings that follow it, as many as there is room for; none if there is
    none now."""
    first = queue.next()
    if first is None:
        return []
    group = [first]
    if not is_packed(first.run) or queue.store.has(first.run.key):
        return group
    family, size = family_of(first.run), room(first.run)
    while len(group) < size and (following := queue.next()) is not None:
        if (
            not is_packed(following.run)
            or queue.store.has(following.run.key)
            or family_of(following.run) != family
        ):
            queue.put_back(following)
            break
        group.append(following)
    return group


Together = Callable[..., list[RunRecord]]
"""What does siblings as one: `bluestab.group.execute_together`."""


def run_packed(
    sweep: Sweep,
    group: int | None,
    execute: Execute | None = None,
    together: Together | None = None,
) -> bool:
    """Do what is missing, one group after the other. Did a person stop it?"""
    store = sweep.store
    room = Room(group)
    queue = Queue(in_blocks(sweep.runs, group or BLOCK), store)
    keys = [planned.run.key for planned in sweep.runs]
    with SweepDisplay(sweep.name, keys, store, workers=1) as display, Stop(display.say) as stop:
        while len(queue) and not stop.asked:
            members = next_group(queue, room.size)
            if not members:
                tell_waiting(display, queue)
                time.sleep(LOOK_AGAIN / 10)
                continue
            display.note = ""
            runs = [planned.run for planned in members]
            records: Sequence[RunRecord | None]
            try:
                if len(members) == 1:
                    records = [attempt(runs[0], store, execute=execute)]
                else:
                    records = attempt_together(runs, store, together)
            except DiskFull:
                _put_back(queue, members)
                pause_until_room(store, stop, display.say)
                continue
            except GroupTooLarge as error:
                _put_back(queue, members)
                display.say(room.too_large(runs[0], len(runs), str(error)))
                continue
            for planned, record in zip(members, records, strict=True):
                if record is None:
                    queue.put_back(planned)
                    continue
                display.end(record, describe(planned.run))
                if record.status == "crashed":
                    queue.crashed(planned)
            room.measured(runs[0], [record for record in records if record is not None])
        return stop.asked


def _put_back(queue: Queue, members: Sequence[PlannedRun]) -> None:
    for planned in reversed(members):
        queue.put_back(planned)

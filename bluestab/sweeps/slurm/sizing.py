"""How large the tasks of a submission are: runs of each, and seconds before their limit.

Nothing is timed on the machine that submits unless it is asked for: sites forbid work on a login
node. Where no like run is in the store, a task makes room by the clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bluestab.core import devices
from bluestab.core.printable import counted
from bluestab.report.terminal.tables import seconds
from bluestab.sweeps.launchers.check import foresee
from bluestab.sweeps.plan import PlannedRun, Sweep
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.script import SIGNAL_DELAY

TASK_SECONDS = 1800.0  # of work that a task should hold
UNKNOWN = 10  # runs per task of an array where nothing says how long a run takes
SHORTEST_DELAY = 20  # seconds before the limit at which a task is told, at least


@dataclass(frozen=True)
class TaskSize:
    """runs     of a task, by which the number of tasks is reckoned
    seconds  of work after which a task makes room for one that has not begun; None: after `runs`
    """

    runs: int
    seconds: float | None = None


def size_of_tasks(
    sweep: Sweep,
    runs: Sequence[PlannedRun],
    *,
    asked: int | None,
    workers: int,
    dry_step: bool,
    has_gpus: bool,
) -> TaskSize:
    """As asked for; else what fills half an hour, by like runs in the store.

    workers   runs at once in a task
    dry_step  where no run is alike, time a few steps on this machine
    has_gpus  a dry step on a machine without them would say nothing
    """
    if asked is not None:
        return TaskSize(asked)
    dry_step = dry_step and not (has_gpus and not devices.cuda_devices())
    costs = foresee(sweep.store, [p.run for p in runs], dry_steps=dry_step).costs
    known = [costs[p.run.cell].seconds for p in runs if p.run.cell in costs]
    if not known:
        print(
            f"nothing says yet how long a run takes: a task for every {UNKNOWN} runs, each at work "
            f"for {TASK_SECONDS / 60:.0f} minutes before it makes room for others; "
            "hydra.launcher.runs_per_task sets a number, hydra.launcher.dry_step=true times a few "
            "steps on this machine"
        )
        return TaskSize(UNKNOWN, TASK_SECONDS)
    mean = max(sum(known) / len(known), 0.1)
    number = max(1, round(TASK_SECONDS * workers / mean))
    print(f"a run takes about {seconds(mean)}: {counted(number, 'run')} per task")
    return TaskSize(number)


@dataclass(frozen=True)
class TimeLimit:
    """The time limit of a task. minutes: None if not known; said: where it comes from."""

    minutes: float | None
    said: str

    @property
    def signal_delay(self) -> int:
        """Seconds before the limit at which a task is told; less where the limit is short."""
        if self.minutes is None:
            return SIGNAL_DELAY
        return max(SHORTEST_DELAY, min(SIGNAL_DELAY, int(6 * self.minutes)))


def time_limit(time: object, partition: str | None) -> TimeLimit:
    """As asked for with hydra.launcher.time; else the limit of the partition, if SLURM tells it.

    time  as in the knob; partition: several, or None for the cluster's default
    """
    if (minutes := minutes_of(time)) is not None:
        return TimeLimit(minutes, f"hydra.launcher.time={time}")
    found = {
        name: limit
        for name, settings in scheduler.partitions(partition).items()
        for limit in [
            minutes_of(settings.get("DefaultTime")) or minutes_of(settings.get("MaxTime"))
        ]
        if limit is not None
    }
    if not found:
        return TimeLimit(None, "the time limit of its partition")
    name = min(found, key=lambda one: found[one])
    return TimeLimit(found[name], f"the limit of partition {name}, {found[name]:g} minutes,")


TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def minutes_of(limit: object) -> float | None:
    """SLURM's forms of a time: `90`, `90:30` (minutes:seconds), `2:00:00`, `1-12`, `1-12:30`."""
    if limit is None or (match := TIME.fullmatch(str(limit))) is None:
        return None
    days, *parts = match.groups()
    given = [int(part) for part in parts if part is not None]
    if days is not None:  # days-hours:minutes:seconds
        units = (60.0, 1.0, 1 / 60)
        return 1440.0 * int(days) + sum(n * u for n, u in zip(given, units, strict=False))
    if len(given) == 3:
        return 60.0 * given[0] + given[1] + given[2] / 60
    return given[0] + (given[1] / 60 if len(given) == 2 else 0.0)

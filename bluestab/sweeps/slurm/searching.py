"""A search on a cluster, seen by the command: its tasks need no command, see `task.search_on`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bluestab.core.errors import ConfigError, Interrupted, RunsCrashed
from bluestab.core.secrets import cleaned_value
from bluestab.store.store import Store
from bluestab.sweeps.slurm import own_tasks
from bluestab.sweeps.slurm.status import LAG, LOOK, POLL, TasksEnded, TaskStatus, status_line
from bluestab.sweeps.slurm.submission import Submission, submissions

if TYPE_CHECKING:
    from bluestab.sweeps.search.spec import Search
    from bluestab.sweeps.search.trials import Trials


def shared(search: Search) -> Search:
    """The search with a storage that means the same on every node. Raises ConfigError if it has
    one that nodes cannot share."""
    where = search.storage
    if search.storage_reference is not None:
        raise ConfigError(
            f"search.storage is {search.storage_reference}: tasks are told the storage through a "
            "file, where the variable's value does not belong; name the URL itself, its password "
            "left out (~/.pgpass), or leave it out (a journal file in the store)"
        )
    if "://" not in where:
        return replace(search, storage=str(Path(where).absolute()))
    if where.startswith("sqlite:"):
        raise ConfigError(
            f"search.storage is {where}, but SQLite on a disk that machines share loses data; "
            "leave it out (a journal file in the store), or name a postgresql:// server"
        )
    if cleaned_value(where) != where:
        raise ConfigError(
            f"search.storage is {cleaned_value(where)}: tasks are told the storage through a file, "
            "where a password does not belong; leave it out of the URL and put it into ~/.pgpass "
            "(HOST:PORT:DATABASE:USER:PASSWORD, chmod 600), which every node reads"
        )
    return search


def live_tasks(store: Store, name: str) -> list[Submission]:
    """Submissions whose tasks work on a search, or will. Raises ConfigError if SLURM is silent."""
    found = []
    for one in submissions(store, name):
        if not one.is_search:
            continue
        question = f"job {', '.join(one.jobs())} still works on the search {name}"
        if own_tasks.live(one, question):
            found.append(one)
    return found


def follow(
    search: Search,
    trials: Trials,
    attached: Sequence[Submission],
    cancels: Callable[[], bool],
) -> None:
    """Say what is told, until all points are. Raises TasksEnded if the tasks end before.

    cancels  asked at Ctrl-C: were the jobs cancelled?
    """
    status = TaskStatus(attached)
    try:
        is_done = _follow(trials, status)
    except KeyboardInterrupt:
        if cancels():
            raise Interrupted("cancelled; the same command goes on") from None
        line = status_line(Store(search.root), search.name, is_search=True)
        raise Interrupted(
            f"left; the jobs go on, and the same command attaches to them; {line}"
        ) from None
    status.cancel_pending()
    if is_done:
        return
    if any(one.is_exhausted() for one in attached):
        print(f"there are no other points than the {search.n_trials - trials.left()} that are told")
        return
    ends = "\n".join(status.ends())
    if trials.crashed() and _stops(search):
        raise RunsCrashed(f"a run crashed, and on_crash=stop: the search stops\n{ends}".rstrip())
    raise TasksEnded(
        f"all tasks have ended, and {max(trials.left(), len(trials.under_way()))} of "
        f"{search.n_trials} points are missing; the same command goes on\n{ends}".rstrip()
    )


def _follow(trials: Trials, status: TaskStatus) -> bool:
    """Until all points are told, or no task lives. Are they all told?"""
    from bluestab.sweeps.search.progress import ProgressPrinter

    printer, said = ProgressPrinter(trials), ""
    asked_at = gone_at = -math.inf
    while True:
        printer.print_new()
        is_done = trials.left() <= 0 and not trials.under_way()
        now = time.monotonic()
        if now - asked_at >= (2 * LOOK if is_done else POLL):
            asked_at = now
            status.refresh()
            if status.line != said:
                said = status.line
                print(f"  {said}", flush=True)
        if status.known and not status.live:
            gone_at = now if gone_at < 0 else gone_at
            if is_done or now - gone_at > LAG:
                return is_done
        else:
            gone_at = -math.inf
        if is_done and status.idle:  # tasks that have not begun would find nothing to do
            return True
        time.sleep(LOOK)


def _stops(search: Search) -> bool:
    from bluestab.sweeps.search.plan import first_run

    return str(first_run(search).cfg["on_crash"]) == "stop"

"""What is left of a submission, shared by its tasks through the store alone."""

from __future__ import annotations

import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bluestab.core.errors import BluestabError
from bluestab.report.words.phrases import describe
from bluestab.store.claims import Claim, Claims
from bluestab.store.store import Store
from bluestab.sweeps.attempt import Failures
from bluestab.sweeps.failures import record_death
from bluestab.sweeps.plan import PlannedRun
from bluestab.sweeps.queue import LOOK_AGAIN, Source
from bluestab.sweeps.slurm.failures import MANY, cause, counted, more_memory
from bluestab.sweeps.slurm.submission import RunOrder, Submission, crashes
from bluestab.sweeps.slurm.waiting import StagesBefore
from bluestab.training.check import Run, check
from bluestab.training.execute import is_stored

STANDBY_SECONDS = 600.0
"""Seconds that the last idle task stays to take over what may yet die elsewhere."""


class StandbySlot:
    """Where nothing can be started and others are at work, one idle task of a submission stays."""

    def __init__(self, submission: Submission) -> None:
        self._claims = Claims(submission.folder)
        self._claim: Claim | None = None
        self._idle_since: float | None = None

    def stays(self) -> bool:
        """Is this task the one, and has it not waited too long?"""
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since > STANDBY_SECONDS:
            return False
        if self._claim is None:
            with suppress(OSError):
                self._claim = self._claims.take("reserve")
            if self._claim is not None:
                self._claim.__enter__()
        return self._claim is not None

    def at_work(self) -> None:
        """It has found something to do."""
        self._idle_since = None

    def leave(self) -> None:
        if self._claim is not None:
            self._claim.__exit__()
            self._claim = None


class SharedQueue(Source):
    """What is left of a submission, as one of its tasks sees it.

    waiting       runs at which nobody has died; suspect: others, which come last, since they may
                  kill task after task; elsewhere: those that others work on; early: stages of
                  sequences that wait for the one before
    taken         how many runs this task has begun and not given back
    begun         key of every run it has begun -> what was saved of it before
    crashed_here  keys of those that crashed; cut: of those that did not stop in time
    """

    def __init__(
        self,
        submission: Submission,
        store: Store,
        quota: int,
        say: Callable[[str], None] = print,
        seconds: float | None = None,
    ) -> None:
        """quota: runs after which this task makes room for one that has not begun yet; seconds:
        of work after which it does, whatever the number; say: a line for the person who reads its
        log."""
        super().__init__()
        self._say = say
        self.submission, self.store, self.quota = submission, store, quota
        self.memory_hint = more_memory(submission)
        self._full_at = None if seconds is None else time.monotonic() + seconds
        self.orders = {order.key: order for order in submission.orders()}
        touched = names_in(store.root) | names_in(store.crash_folder("x").parent)
        self._crashes: Counter[str] = Counter()
        policy = str(next(iter(self.orders.values())).cfg["on_crash"])
        self._stops = policy == "stop"
        self._retries = int(policy.partition(":")[2] or 0)
        self.waiting = deque(
            o for o in self.orders.values() if o.key not in touched or not self._has_ended(o)
        )
        self.suspect: deque[RunOrder] = deque()
        self.elsewhere: deque[RunOrder] = deque()
        self.early: deque[RunOrder] = deque()
        self._stages = StagesBefore(self.orders, store, self._gave_up)
        self.taken = 0
        self.begun: dict[str, int] = {}
        self.crashed_here: set[str] = set()
        self.cut: set[str] = set()
        self._look_again = 0.0
        self._standby = StandbySlot(submission)

    def __len__(self) -> int:
        """0 when this task should leave."""
        if self._makes_room():
            return 0
        self._release()
        others = len(self.elsewhere) + len(self.early)
        if others and not self.is_left and not self._standby.stays():
            return 0
        return len(self.waiting) + len(self.suspect) + others

    @property
    def is_left(self) -> bool:
        """Is there a run that nobody works on?"""
        return bool(self.waiting or self.suspect)

    def next(self) -> PlannedRun | None:
        if self._makes_room():
            return None
        if self._stops and self._new_crashes(self.orders):
            self.clear()
        if not self.is_left and time.monotonic() > self._look_again:
            self._look_again = time.monotonic() + LOOK_AGAIN
            self.waiting, self.elsewhere = self.elsewhere, self.waiting
        self._release()
        while self.is_left:
            is_suspect = not self.waiting
            order = (self.suspect if is_suspect else self.waiting).popleft()
            # in this order: a run that ends in between is not begun again
            is_free = self.store.claims.is_free(order.key)
            died = self.store.claims.deaths(order.key)
            known = Failures(len(died), self.store.which_crash(order.key))
            if self._has_ended(order):
                continue
            standing = self._stages.standing(order.key)
            if standing == "early":
                self.early.append(order)
            if standing != "ready":
                continue
            if not is_free:
                self.elsewhere.append(order)
                continue
            dead = counted(self.submission, died)
            if dead and not is_suspect:
                self.suspect.append(order)
                continue
            planned = PlannedRun(checked(order), order.overrides)
            if len(dead) < MANY:
                self.taken += 1
                self.begun.setdefault(order.key, self._saved(order.key))
                self.failures[order.key] = known
                if dead:
                    self.run_alone.add(order.key)
                self._standby.at_work()
                return planned
            self._record_deaths(planned, dead)
        return None

    def _release(self) -> None:
        """Where nothing else is left: stages whose time has come are to be started, and those
        whose time will not come are forgotten."""
        if self.is_left:
            return
        early, self.early = self.early, deque()
        for order in early:
            standing = self._stages.standing(order.key)
            if standing == "ready":
                self.waiting.append(order)
            elif standing == "early":
                self.early.append(order)

    def portion(self, workers: int) -> int:
        """Of the runs after which a task makes room for others."""
        return math.ceil(self.quota / workers)

    def put_back(self, planned: PlannedRun) -> None:
        self.taken -= 1
        self.waiting.appendleft(self.orders[planned.run.key])

    def cut_off(self, planned: PlannedRun) -> None:
        self.cut.add(planned.run.key)
        self.put_back(planned)

    def crashed(self, planned: PlannedRun) -> None:
        key = planned.run.key
        self.crashed_here.add(key)
        self._crashes[key] += 1
        if self._stops:
            self.clear()
        elif self._crashes[key] <= self._retries:
            self.waiting.append(self.orders[key])

    def died(self, planned: PlannedRun) -> bool:
        key = planned.run.key
        if len(counted(self.submission, self.store.claims.deaths(key))) >= MANY:
            self.crashed_here.add(key)
            return False
        self.put_back(planned)
        return True

    def clear(self) -> None:
        """Nothing more is started."""
        self.waiting.clear()
        self.suspect.clear()
        self.elsewhere.clear()
        self.early.clear()

    def got_on(self) -> bool:
        """Has a run of this task ended, or saved a checkpoint?"""
        return any(
            self._has_ended(self.orders[key]) or self._saved(key) != before
            for key, before in self.begun.items()
        )

    def _saved(self, key: str) -> int:
        """Which checkpoint of a run is kept (a number that differs for the next one)."""
        with suppress(OSError):
            return (self.store.root / ".resume" / key).stat().st_mtime_ns
        return 0

    def close(self) -> None:
        """Leave the reserve, if this task was in it."""
        self._standby.leave()

    def _has_ended(self, order: RunOrder) -> bool:
        """Done; or crashed since the submission, and not to be tried again by this task."""
        if is_stored(order.key, order.cfg, self.store):
            return True
        again = 0 < self._crashes[order.key] <= self._retries
        return not again and bool(self._new_crashes([order.key]))

    def _gave_up(self, order: RunOrder) -> bool:
        """It crashed since the submission, and this task does not try it again."""
        return self._has_ended(order) and not self.store.has(order.key)

    def _new_crashes(self, keys: Iterable[str]) -> list[str]:
        before = self.submission.content["crashes"]
        now = crashes(self.store, keys)
        return [key for key, stamp in now.items() if before.get(key) != stamp]

    def _makes_room(self) -> bool:
        if self._full_at is None:
            is_full = self.taken >= self.quota
        else:
            is_full = self.taken > 0 and time.monotonic() >= self._full_at
        return is_full and not self.submission.all_have_begun()

    def _record_deaths(self, planned: PlannedRun, dead: Sequence[Mapping[str, Any]]) -> None:
        """Its processes died too often: that is its crash."""
        claim = self.store.claims.take(planned.run.key)
        if claim is None:
            return
        with claim:
            record_death(planned.run, self.store, how=cause(self.submission, dead))
        self.crashed_here.add(planned.run.key)
        self._say(f"{describe(planned.run)}: died {len(dead)} times, recorded as crashed")


def checked(order: RunOrder) -> Run:
    """The run of an order. Raises BluestabError if it is another one here, or impossible."""
    try:
        run = check(order.cfg)
    except BluestabError as error:
        raise BluestabError(
            "impossible here, if not on the machine that submitted: data, models and code must be "
            f"on a disk that the nodes share; {error}"
        ) from error
    if run.key != order.key:
        raise BluestabError(
            f"run {order.key} is now {run.key}: its data or weights differ from those on the "
            "machine that submitted; start the command again there"
        )
    return run


def names_in(folder: Path) -> set[str]:
    """What a folder holds; nothing if it cannot be read."""
    with suppress(OSError):
        return set(os.listdir(folder))
    return set()

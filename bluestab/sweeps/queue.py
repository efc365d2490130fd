"""The runs of a sweep that are still to be started: in which order, and how often.

What is to be done is in the store and nowhere else: a run that is there is skipped, a run that a
live process has claimed is looked at again later, so any number of launchers can share one sweep.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from bluestab.store.store import Store
from bluestab.sweeps.attempt import Failures
from bluestab.sweeps.plan import PlannedRun
from bluestab.sweeps.stages import StageOrder, still_to_do
from bluestab.training.execute import is_done

LOOK_AGAIN = 1.0  # seconds between two looks at runs that other processes are working on


class Source(ABC):
    """Where workers take their runs from; `len` is how many they may yet be asked to do.

    run_alone  keys of runs that train in no group: they may have killed a process
    failures   key -> those of a run when it was handed out, where that counts
    memory_hint  what asks for more memory, said when a worker was killed for the lack of it
    """

    store: Store
    memory_hint = ""

    def __init__(self) -> None:
        self.run_alone: set[str] = set()
        self.failures: dict[str, Failures] = {}

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def next(self) -> PlannedRun | None:
        """A run that nobody is working on; None if there is none now (look again if `len`)."""

    @abstractmethod
    def put_back(self, planned: PlannedRun) -> None:
        """It was not started after all, or was given back."""

    def put_all_back(self, group: Sequence[PlannedRun]) -> None:
        """The same for several, in their order."""
        for planned in reversed(group):
            self.put_back(planned)

    @abstractmethod
    def portion(self, workers: int) -> int:
        """How many runs one of so many idle workers may take, and leave the others their part."""

    def cut_off(self, planned: PlannedRun) -> None:
        """It was preempted, did not end in time, and was killed."""
        self.put_back(planned)

    @abstractmethod
    def crashed(self, planned: PlannedRun) -> None:
        """After an exception, which is recorded: is it tried again?"""

    @abstractmethod
    def died(self, planned: PlannedRun) -> bool:
        """After the death of the process that did it: it is done once more. Was it so?"""


class Queue(Source):
    """The runs of a sweep that are still to be started, in order, and how often they may be."""

    def __init__(self, runs: Iterable[PlannedRun], store: Store) -> None:
        super().__init__()
        runs = list(runs)
        self.store = store
        self.ready = deque(still_to_do(runs, store))
        self._stages = StageOrder(runs, self.ready, store)
        self.elsewhere: deque[PlannedRun] = deque()
        policy = str(runs[0].run.cfg["on_crash"]) if runs else "continue"
        self._stops = policy == "stop"
        self._retries = int(policy.partition(":")[2] or 0)
        self._crashes: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._look_again = 0.0

    def __len__(self) -> int:
        """Runs that are not started, those of other processes included."""
        return len(self.ready) + len(self.elsewhere)

    def next(self) -> PlannedRun | None:
        """A run that nobody is working on; None if there is none now (look again if `len`)."""
        waiting: list[PlannedRun] = []
        try:
            for _ in range(len(self.ready)):
                planned = self.ready.popleft()
                if is_done(planned.run, self.store):
                    continue
                if self._stages.is_hopeless(planned):
                    continue
                if self._stages.is_early(planned):
                    waiting.append(planned)
                elif self.store.claims.is_free(planned.run.key):
                    return planned
                else:
                    self.elsewhere.append(planned)
        finally:
            self.ready.extendleft(reversed(waiting))
        if self.elsewhere and time.monotonic() > self._look_again:
            self._look_again = time.monotonic() + LOOK_AGAIN
            self.ready.extend(self.elsewhere)
            self.elsewhere.clear()
            return self.next()
        return None

    def put_back(self, planned: PlannedRun) -> None:
        """It was not started after all."""
        self.ready.appendleft(planned)

    def portion(self, workers: int) -> int:
        """An equal part of those that nobody works on."""
        return max(1, math.ceil(len(self.ready) / workers))

    def crashed(self, planned: PlannedRun) -> None:
        """After an exception: again at the end if `on_crash` says so, or nothing more at all."""
        self._crashes[planned.run.key] += 1
        if self._stops:
            self.clear()
        elif self._crashes[planned.run.key] <= self._retries:
            self.ready.append(planned)
        else:
            self._stages.give_up(planned)

    def died(self, planned: PlannedRun) -> bool:
        """After the death of the process that did it: once more, before the others. Was it so?"""
        self._deaths[planned.run.key] += 1
        self.run_alone.add(planned.run.key)
        if self._deaths[planned.run.key] > 1:
            self._stages.give_up(planned)
            return False
        self.ready.appendleft(planned)
        return True

    def clear(self) -> None:
        """Nothing more is started."""
        self.ready.clear()
        self.elsewhere.clear()

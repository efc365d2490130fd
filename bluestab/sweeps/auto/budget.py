"""What is left of a budget: of runs, or of the time of this machine."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from bluestab.sweeps.auto.plan import RACE_SHARE, race_runs

REPORTING = 20.0
"""Seconds that the report and the model's check take, about, beside training it once more."""
USABLE = 0.9
"""Of the time that runs may take; starts of workers and the last run's end take the rest."""
AGAIN = 1.2
"""Times what a run took: to train it once more, with room to spare."""


class Budget(ABC):
    """How many runs it still allows."""

    @abstractmethod
    def left(self, *, race: bool, alone: bool = False) -> int:
        """race: of the race's share alone; alone: of the baseline, which keeps its weights."""

    @abstractmethod
    def use(self, n: int) -> None:
        """Runs are asked for, whether or not they are in the store."""

    @abstractmethod
    def learn(self, n: int, seconds: float, longest: float) -> None:
        """So many runs took so long, all at once, and the longest of them alone."""

    @abstractmethod
    def lost(self, seconds: float) -> None:
        """Runs of a command that was killed took so long, one after another."""

    @property
    def deadline(self) -> float | None:
        """`time.monotonic` after which no further run is to begin; None: there is none."""
        return None

    @property
    def spent(self) -> float | None:
        """Seconds, where the budget is time."""
        return None


class RunBudget(Budget):
    """A number of runs: equal ones give equal results, whatever the machine."""

    def __init__(self, runs: int) -> None:
        self._runs, self._used = runs, 0

    def left(self, *, race: bool, alone: bool = False) -> int:
        return (race_runs(self._runs) if race else self._runs) - self._used

    def use(self, n: int) -> None:
        self._used += n

    def learn(self, n: int, seconds: float, longest: float) -> None:
        pass

    def lost(self, seconds: float) -> None:
        pass


def longest_run(seconds: float) -> float:
    """Seconds of a run that can be trained, and once more to be delivered, in so many seconds."""
    return (seconds - 2 * REPORTING) / (1 + AGAIN)


class TimeBudget(Budget):
    """Seconds by the clock, those of earlier commands included.

    seconds  in all; spent: before now; per_run: forecast for a run of the mean length, several at
             once counted, baseline: of the baseline's; longest: for the longest run alone
    workers  runs at once
    """

    def __init__(
        self,
        seconds: float,
        spent: float,
        per_run: float,
        baseline: float,
        longest: float,
        workers: int,
    ) -> None:
        self._seconds, self._begun = seconds, time.monotonic() - spent
        self._per_run, self._baseline, self._longest = per_run, baseline, longest
        self._workers = workers
        self._runs, self._took = 0, 0.0

    @property
    def spent(self) -> float:
        return time.monotonic() - self._begun

    @property
    def _reserve(self) -> float:
        """To train the delivered run once more, on one worker, and to write the report."""
        return REPORTING + AGAIN * self._longest

    @property
    def deadline(self) -> float:
        """A run that begins before it ends within the budget, if it takes what others took."""
        return self._begun + self._seconds - self._reserve - self._longest

    def left(self, *, race: bool, alone: bool = False) -> int:
        if alone:
            return max(0, int((self._seconds - REPORTING - self.spent) / self._baseline))
        if time.monotonic() >= self.deadline:
            return 0  # none of them would begin
        end = self._seconds - self._reserve
        if race:
            end = min(end, RACE_SHARE * self._seconds)
        return max(0, int((end - self.spent) / self._per_run))

    def use(self, n: int) -> None:
        pass

    def learn(self, n: int, seconds: float, longest: float) -> None:
        if n:  # the first that are done take the place of the forecast
            self._longest = max(longest, self._longest) if self._runs else longest
            self._runs, self._took = self._runs + n, self._took + seconds
            self._per_run = self._took / self._runs

    def lost(self, seconds: float) -> None:
        self._begun -= seconds / self._workers

"""Lines about a search that goes on: what has become of its points, each said once."""

from __future__ import annotations

import time
from typing import Any

from bluestab.sweeps.search.patience import StorageAway
from bluestab.sweeps.search.points import shown
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.told import n_runs, points, scores_of, took, was_stopped
from bluestab.sweeps.search.trials import Trials


class ProgressPrinter:
    """Prints what has become of points, each once.

    job  task of a cluster, `<array>_<index>`, whose points alone are of interest
    """

    def __init__(self, trials: Trials, job: str | None = None) -> None:
        self.trials, self.job = trials, job
        self._missed, self._missed_since = 0, 0.0
        self.printed = {t.number for t in trials.all() if t.state.is_finished()}
        done = sum(t.state.is_finished() for t in points(trials.all()))
        if done:
            self.say(f"going on with search {trials.search.name}: {done} points are told")

    def say(self, text: str) -> None:
        """A line, at once: what is printed may be a file that somebody watches."""
        print(text, flush=True)

    def look(self) -> None:
        """`print_new`, but without waiting for a database that is away, which is said once."""
        patience, where = self.trials.patience, self.trials.search.storage
        try:
            with patience.none():
                self.print_new()
        except StorageAway as error:
            self._missed += 1
            if self._missed == 1:
                self._missed_since = time.monotonic()
            patience.say_away(where, error.reason, self._missed)
            return
        patience.is_back(where, self._missed_since, self._missed)
        self._missed = 0

    def print_new(self) -> None:
        """Print the points that have ended since the last call."""
        search, trials = self.trials.search, self.trials.all()
        counted = [t for t in points(trials) if t.state.is_finished()]
        numbers = {t.number for t in counted}
        for trial in trials:
            if not trial.state.is_finished() or trial.number in self.printed:
                continue
            self.printed.add(trial.number)
            if self.job is not None and not took(self.job, trial):
                continue
            note = " ".join(str(trial.user_attrs.get("note", "its process died")).split())[:200]
            if trial.number in numbers:
                done = len([n for n in numbers if n in self.printed])
                self.say(f"[{done}/{search.n_trials}] {line(trial, search)}")
            elif trial.user_attrs.get("why") == "impossible":
                self.say(f"    passed over: {shown(trial.params)}: {note}")
            elif trial.user_attrs.get("why") is None and trial.params:
                self.say(f"    its process died, once more: {shown(trial.params)}")


def line(trial: Any, search: Search) -> str:
    """A finished point in a line: its values, how many seeds it had, what it is."""
    scores, of = scores_of(trial), len(search.seeds)
    note = " ".join(str(trial.user_attrs.get("note", "")).split())[:200]
    if trial.state.name == "FAIL":
        return f"crashed        {shown(trial.params)}: {note or 'its process died too often'}"
    if was_stopped(trial):
        mean = f"mean {sum(scores) / len(scores):.4f}, " if scores else ""
        return f"stopped {n_runs(trial, of)}/{of}    {shown(trial.params)}: {mean}{note}"
    values = zip(search.objective, trial.values or (), strict=True)
    said = ", ".join(f"{name} {value:.4f}" for name, value in values)
    return f"{said}    {shown(trial.params)}"

"""How far a sweep is, read from its store alone: the same for every launcher, machine, shell.

What is done is in the folders of runs, what is going on in the claims. Nothing is written.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from bluestab.core.errors import StoreError
from bluestab.core.types import RunRecord
from bluestab.report.terminal.time_left import Means, left, remaining
from bluestab.store.store import Store
from bluestab.tasks.metric import metric_of_result

PATIENCE = 10.0  # seconds without a running run after which a sweep stands still
HISTORY = 200  # latest runs of other sweeps that are looked at for the remaining time


class SweepView:
    """Which runs of a sweep are done, failed, crashed and running; `refresh` looks again.

    done      finished runs, failed ones included; failed: degenerate or diverged
    crashed   keys whose last attempt, since the sweep was last started, ended in a crash
    running   key -> claim, the longest running first
    damaged   keys whose record cannot be read; they count as left
    scores    arm, as the overrides tell it apart -> test score at the last step and failed, per run
    lower_is_better  of these arms, those of whose metric lower values are better

    A finished run is read once; a look costs one listing of the store and one read per running run.
    """

    def __init__(
        self,
        store: Store,
        runs: Sequence[Mapping[str, Any]],
        since: float = 0.0,
        *,
        blind: bool = False,
    ) -> None:
        """runs: of the manifest; since: when the sweep was started (its manifest's mtime); blind:
        test scores are not looked at, nor which runs failed by them."""
        self._store = Store(store.root)  # what it has seen of claims is its own
        self._kind = {str(run["key"]): _kind(run) for run in runs}
        self._pending = dict.fromkeys(self._kind)
        self._since, self._blind = since, blind
        self._means = Means()
        # a sweep that was started a moment ago is on its way to its first run
        self._last_running = time.monotonic() - max(0.0, time.time() - since)
        self.total = len(self._kind)
        self.done = self.failed = 0
        self.crashed: set[str] = set()
        self.damaged: set[str] = set()
        self.scores: dict[str, list[tuple[float, bool]]] = {}
        self.lower_is_better: set[str] = set()
        self._arm = _arms(runs)
        self.running: dict[str, dict[str, Any]] = {}
        self.refresh()
        self._learn_from_others()

    @property
    def left(self) -> int:
        """Runs that are not finished, not running and have not crashed."""
        return self.total - self.done - len(self.crashed) - len(self.running)

    @property
    def complete(self) -> bool:
        """Nothing is running and nothing is left but crashes."""
        return not self.running and self.left == 0

    @property
    def stands_still(self) -> bool:
        """Runs are left and nobody has worked on any for a while."""
        return (
            not self.running and self.left > 0 and time.monotonic() - self._last_running > PATIENCE
        )

    def state(self) -> tuple[object, ...]:
        """Differs whenever something has changed that is worth a line."""
        failed = self.failed, len(self.crashed), len(self.damaged)
        return self.done, *failed, frozenset(self.running), self.stands_still

    def refresh(self) -> None:
        """Look at the store again. Never raises: what cannot be seen now is seen later."""
        self.damaged = set()
        for key in self._pending.keys() & _names(self._store.root):
            if self._store.has(key):
                self._finish(key)
        self.running = {}
        with suppress(OSError, StoreError):
            found = self._store.running()
            mine = [(key, claim) for key, claim in found.items() if key in self._pending]
            self.running = dict(sorted(mine, key=lambda item: number(item[1].get("started")) or 0))
        if self.running:
            self._last_running = time.monotonic()
        crashed = self._pending.keys() & _names(self._store.crash_folder("x").parent)
        self.crashed = {key for key in crashed - self.running.keys() if self._is_new_crash(key)}

    def _is_new_crash(self, key: str) -> bool:
        """Older ones are tried again by the sweep as it was started last."""
        try:
            return self._store.crash_folder(key).stat().st_mtime >= self._since
        except OSError:
            return False

    def _finish(self, key: str) -> None:
        try:
            record = self._store.read(key)
            self._means.add(*self._kind[key], _total_seconds(record))
            self.failed += record.failed and not self._blind
        except (StoreError, OSError, KeyError, TypeError, ValueError):
            self.damaged.add(key)  # the next start of the sweep does it again
            return
        del self._pending[key]
        self.done += 1
        if self._blind:
            return
        with suppress(KeyError, TypeError, ValueError):  # it is drawn, and nothing more
            score = float(record.result["score"]["last"])
            self.scores.setdefault(self._arm[key], []).append((score, record.failed))
            if not metric_of_result(record.result).higher_is_better:
                self.lower_is_better.add(self._arm[key])

    def _learn_from_others(self) -> None:
        """Runs of the same cells that the store has from other sweeps say how long these take."""
        unknown = {self._kind[key][0] for key in self._pending} - {""}
        unknown -= {cell for cell in unknown if self._means.knows(cell)}
        if not unknown:
            return
        subject = dict(self._kind.values())
        for record in latest_records(self._store, HISTORY, without=self._kind):
            cell = record.result["cell"]
            if cell in unknown and record.status == "done":
                with suppress(KeyError, TypeError, ValueError):
                    self._means.add(cell, subject[cell], _total_seconds(record))

    def seconds_left(self, workers: int) -> float | None:
        """Remaining time on so many workers; None as long as nothing says how long runs take.

        Before any run has finished, the pace of the running ones is all there is to go by.
        """
        now = time.time()
        waiting = Counter(self._kind[k] for k in self._pending.keys() - self.crashed)
        running = []
        for key, claim in self.running.items():
            waiting[self._kind[key]] -= 1
            spent = elapsed(claim, now)
            rest = left(self._means.expected(*self._kind[key]), spent, fraction(claim))
            running.append((spent, rest))
        paces = [spent + rest for spent, rest in running if rest is not None]
        pace = sum(paces) / len(paces) if paces else None
        needed: list[float | None] = []
        for kind, n in waiting.items():
            expected = self._means.expected(*kind)
            needed += [pace if expected is None else expected] * n
        going = [left(pace, spent, 0.0) if rest is None else rest for spent, rest in running]
        return remaining(needed, going, max(workers, len(going)))


def _kind(run: Mapping[str, Any]) -> tuple[str, str]:
    """Cell, and what names the task and the model among the overrides of this sweep."""
    overrides = run.get("overrides") or ()
    subject = [o for o in overrides if str(o).split("=")[0].split(".")[0] in ("task", "model")]
    return str(run.get("cell", "")), " ".join(map(str, subject))


def _arms(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """key -> the overrides that not all runs share, without the seed."""
    said = {str(run["key"]): [str(o) for o in run.get("overrides") or ()] for run in runs}
    n = Counter(override for overrides in said.values() for override in set(overrides))
    return {
        key: " ".join(
            override.removeprefix("technique=")
            for override in overrides
            if n[override] < len(said) and not override.startswith("seed=")
        )
        or "all runs"
        for key, overrides in said.items()
    }


def _names(folder: os.PathLike[str]) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()


def _total_seconds(record: RunRecord) -> float:
    return float(record.measured["seconds"]["total"])


def latest_records(store: Store, n: int, without: Mapping[str, Any]) -> list[RunRecord]:
    """Up to n finished runs of the store, the latest first; damaged ones are passed over."""
    records = []
    for key in store.latest_keys(without)[:n]:
        with suppress(StoreError):
            records.append(store.read(key))
    return records


def started(store: Store, name: str) -> float:
    """When a sweep was last started: every start writes its manifest anew. 0 if it is not there."""
    try:
        return store.manifests()[name].stat().st_mtime
    except (OSError, KeyError):
        return 0.0


def elapsed(claim: Mapping[str, Any], now: float) -> float:
    """Seconds since a run was begun, by the clocks of two machines that may differ."""
    begun = number(claim.get("started"))
    return 0.0 if begun is None else max(0.0, now - begun)


def fraction(claim: Mapping[str, Any]) -> float:
    """Of the steps of a run that are done, in [0, 1]."""
    step, total = number(claim.get("step")), number(claim.get("total"))
    return min(max(step / total, 0.0), 1.0) if step and total else 0.0


def number(value: object) -> float | None:
    """Claims come from other processes and maybe other versions: anything may stand in them."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return float(value) if abs(value) < 1e15 else None

"""Which stages of sequences may be started, which wait, and which are not started any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bluestab.core.errors import BluestabError
from bluestab.store.store import Store
from bluestab.sweeps.plan import PlannedRun
from bluestab.training.check import Run, check
from bluestab.training.execute import is_done


def key_before(run: Run) -> str | None:
    """Key of the stage that a run goes on from."""
    return None if run.predecessor is None else run.predecessor["key"]


def runs_before(runs: Iterable[Run]) -> dict[str, tuple[Run, ...]]:
    """Cell -> the stages before it, the first first, for each cell of a sweep that is a stage."""
    by_key = {run.key: run for run in runs}
    found: dict[str, tuple[Run, ...]] = {}
    for run in by_key.values():
        if run.cell not in found and run.predecessor is not None:
            chain: list[Run] = []
            before = by_key.get(run.predecessor["key"])
            while before is not None:
                chain.insert(0, before)
                before = by_key.get(key_before(before) or "")
            found[run.cell] = tuple(chain)
    return found


def still_to_do(runs: Sequence[PlannedRun], store: Store) -> list[PlannedRun]:
    """Runs that are not finished, in order.

    One that lends its weights is finished without them once all that go on from it are.
    """
    undone = {planned.run.key for planned in runs if not store.has(planned.run.key)}
    lacking = {p.run.key: p for p in runs if not is_done(p.run, store)}
    undone |= {key for key, planned in lacking.items() if not planned.lends}
    needed = {key_before(p.run) for p in runs if p.run.key in undone}
    while more := (needed & {*lacking}) - undone:  # made again, for which the one before is needed
        undone |= more
        needed = {key_before(lacking[key].run) for key in more}
    return [planned for planned in runs if planned.run.key in undone]


class StageOrder:
    """What the stages of a queue wait for: the stage before them, with its weights."""

    def __init__(self, runs: Iterable[PlannedRun], store: Store) -> None:
        self.store = store
        self._undone = {planned.run.key: planned for planned in runs}
        self._made_again = {key for key in self._undone if store.has(key)}
        self._without_weights: set[str | None] = set()

    def is_hopeless(self, planned: PlannedRun) -> bool:
        """Whether the stage before has left no weights, and will not."""
        before = self._undone.get(key_before(planned.run) or "")
        if before is not None and self._is_finished(before.run):
            del self._undone[before.run.key]
            if self.store.read(before.run.key).status != "done":
                self.give_up(before)
        if key_before(planned.run) not in self._without_weights:
            return False
        self.give_up(planned)
        return True

    def _is_finished(self, run: Run) -> bool:
        """Of a run that is made again for its weights, whether these are there."""
        return is_done(run, self.store) if run.key in self._made_again else self.store.has(run.key)

    def is_early(self, planned: PlannedRun) -> bool:
        """Whether the stage before is not finished; asked after `is_hopeless`."""
        return key_before(planned.run) in self._undone

    def give_up(self, planned: PlannedRun) -> None:
        """It crashed or diverged, or could not be started: nothing goes on from it."""
        self._undone.pop(planned.run.key, None)
        self._without_weights.add(planned.run.key)


def ready(run: Run) -> Run:
    """A stage with the weights that it goes on from, which it may have been planned without.

    Raises BluestabError if they are not what was planned.
    """
    if not run.waits:
        return run
    found = check(run.cfg)
    if found.key != run.key:
        raise BluestabError(
            f"run {run.key} is now {found.key}: its data or weights changed after the sweep began; "
            "start the command again"
        )
    return replace(found, settled=run.settled)


def left_out(runs: Iterable[PlannedRun], store: Store) -> list[PlannedRun]:
    """Stages that were not started, since one before them crashed or diverged."""
    runs = list(runs)
    bad = {p.run.key for p in runs if not _left_weights(p.run.key, store)}
    found = [p for p in runs if key_before(p.run) in bad and not store.has(p.run.key)]
    return [p for p in found if store.crash(p.run.key) is None]


def _left_weights(key: str, store: Store) -> bool:
    return store.has(key) and store.read(key).status == "done"

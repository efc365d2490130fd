"""Which stages of sequences may be started, which wait, and which are not started any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bluestab.core.errors import BluestabError
from bluestab.store.store import Store
from bluestab.sweeps.plan import PlannedRun
from bluestab.sweeps.sequences import key_before, keys_before
from bluestab.training.check import Run, check
from bluestab.training.execute import is_done


def still_to_do(runs: Sequence[PlannedRun], store: Store) -> list[PlannedRun]:
    """Runs that are not finished, in order.

    One that lends its weights is finished without them once all stages behind it are: each of these
    needs the weights of all before it.
    """
    lacking = {p.run.key for p in runs if not is_done(p.run, store)}
    left = {
        p.run.key for p in runs if p.run.key in lacking and not (p.lends and store.has(p.run.key))
    }
    before = keys_before(planned.run for planned in runs)
    left |= lacking.intersection(key for one in left for key in before[one])
    return [planned for planned in runs if planned.run.key in left]


class StageOrder:
    """What the stages of a queue wait for: all stages before them, with their weights.

    runs  all of the sweep; undone: those that are to be done
    """

    def __init__(
        self, runs: Iterable[PlannedRun], undone: Iterable[PlannedRun], store: Store
    ) -> None:
        self.store = store
        self._before = keys_before(planned.run for planned in runs)
        self._undone = {planned.run.key: planned for planned in undone}
        self._made_again = {key for key in self._undone if store.has(key)}
        self._without_weights: set[str] = set()

    def is_hopeless(self, planned: PlannedRun) -> bool:
        """Whether a stage before has left no weights, and will not."""
        before = self._before.get(planned.run.key, ())
        for stage in (self._undone[key] for key in before if key in self._undone):
            if self._is_finished(stage.run):
                del self._undone[stage.run.key]
                if self.store.read(stage.run.key).status != "done":
                    self.give_up(stage)
        if self._without_weights.isdisjoint(before):
            return False
        self.give_up(planned)
        return True

    def _is_finished(self, run: Run) -> bool:
        """Of a run that is made again for its weights, whether these are there."""
        return is_done(run, self.store) if run.key in self._made_again else self.store.has(run.key)

    def is_early(self, planned: PlannedRun) -> bool:
        """Whether a stage before is not finished; asked after `is_hopeless`."""
        return not self._undone.keys().isdisjoint(self._before.get(planned.run.key, ()))

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


def stages_behind(key: str, runs: Iterable[PlannedRun]) -> list[str]:
    """Keys of the stages, of these runs, that go on from this one, and from those."""
    before = keys_before(planned.run for planned in runs)
    return [one for one, earlier in before.items() if key in earlier]


def left_out(runs: Iterable[PlannedRun], store: Store) -> list[PlannedRun]:
    """Stages that were not started, since one before them crashed or diverged."""
    runs = list(runs)
    bad = {p.run.key for p in runs if not _left_weights(p.run.key, store)}
    found = [p for p in runs if key_before(p.run) in bad and not store.has(p.run.key)]
    return [p for p in found if store.crash(p.run.key) is None]


def _left_weights(key: str, store: Store) -> bool:
    return store.has(key) and store.read(key).status == "done"

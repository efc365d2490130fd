"""One attempt at a run, or at siblings as one, under its claim in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from bluestab.core.errors import BluestabError, is_disk_full
from bluestab.core.types import RunRecord
from bluestab.report.words.phrases import describe
from bluestab.store.claims import Claim
from bluestab.store.store import Store
from bluestab.sweeps.failures import record_death
from bluestab.sweeps.stages import ready
from bluestab.training.check import Run
from bluestab.training.execute import is_done
from bluestab.training.loop.schedules import updates
from bluestab.training.recording import disk_full_error

Execute = Callable[[Run, Store, Callable[..., None]], RunRecord]
"""What does a run: `bluestab.training.execute.execute_one`."""

Together = Callable[[Sequence[Run], Store, Sequence[Callable[..., None]]], list[RunRecord]]
"""What does siblings as one: `bluestab.training.execute.execute`."""


class Failures(NamedTuple):
    """Processes that died at a run, and which crash of it is kept: a number that differs for the
    next one, None for none."""

    deaths: int
    crash: int | None


def failures_of(key: str, store: Store) -> Failures:
    """What the store knows now."""
    return Failures(len(store.claims.deaths(key)), store.which_crash(key))


def attempt(
    run: Run,
    store: Store,
    progress: Callable[..., None] | None = None,
    execute: Execute | None = None,
    failures: Failures | None = None,
) -> RunRecord | None:
    """Do a run under its claim; None if another live process has it.

    progress  called after every step, as the claim's own is
    execute   what does the run; None: `bluestab.training.execute.execute_one`
    failures  None is also returned if there are others than these by now

    Raises StoreError as `execute` does; DiskFull also if there is no room for the claim or for the
    folder of the run.
    """
    try:
        return _claimed(run, store, progress, execute, failures)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full_error(store, run.key) from error
        raise


def _claimed(
    run: Run,
    store: Store,
    progress: Callable[..., None] | None,
    execute: Execute | None,
    failures: Failures | None,
) -> RunRecord | None:
    if execute is None:
        from bluestab.training.execute import execute_one  # looked up now: tests put others there

        execute = execute_one
    claim = _take(run, store, failures)
    if claim is None:
        return None
    _note_epochs(claim, run)
    with claim:
        try:
            run = ready(run)
        except BluestabError as error:
            return record_death(run, store, how=error)

        def noted(*state: Any) -> None:
            claim.progress(*state)
            if progress is not None:
                progress(*state)

        return execute(run, store, noted)


def _take(run: Run, store: Store, known: Failures | None) -> Claim | None:
    """The claim on a run, unless a live process has it, or it has failed since `known` was seen."""
    claim = store.claims.take(run.key, describe(run))
    if claim is None or known is None:
        return claim
    now = failures_of(run.key, store)
    if now.deaths <= known.deaths and now.crash == known.crash:
        return claim
    with claim:
        return None


def _note_epochs(claim: Claim | None, run: Run) -> None:
    """Write into the claim how many steps an epoch has, for those who show progress."""
    if claim is not None:
        items = run.data.size("train")
        claim.content["epoch_steps"] = updates(items, run.cfg["optim"]["batch_size"], 1, None)


def attempt_together(
    runs: Sequence[Run],
    store: Store,
    progress: Callable[..., None] | None = None,
    execute: Execute | None = None,
    together: Together | None = None,
    failures: Mapping[str, Failures] | None = None,
) -> list[RunRecord | None]:
    """Do siblings as one, each under its claim; None for those that `attempt` would return it for.

    progress, execute  of a run that is alone, as `attempt` has them
    together           what does several; None: `bluestab.training.execute.execute`
    failures           key -> `attempt`'s

    Raises what `execute.execute` raises; DiskFull also as `attempt` does.
    """
    known = failures or {}
    if len(runs) == 1:
        return [attempt(runs[0], store, progress, execute, known.get(runs[0].key))]
    if together is None:
        from bluestab.training.execute import execute as of_several

        together = of_several
    try:
        with ExitStack() as stack:
            claims = {run.key: _take(run, store, known.get(run.key)) for run in runs}
            for claim in claims.values():
                if claim is not None:
                    stack.enter_context(claim)
            ours = [run for run in runs if claims[run.key] is not None and not is_done(run, store)]
            progresses = [claim.progress for run in ours if (claim := claims[run.key]) is not None]
            for run in ours:
                _note_epochs(claims[run.key], run)
            done = together(ours, store, progresses) if ours else []
    except OSError as error:
        if is_disk_full(error):
            raise disk_full_error(store, runs[0].key) from error
        raise
    found = {record.key: record for record in done}
    return [found.get(run.key) for run in runs]

"""A search from its first point to its report, as every launcher sees it through."""

from __future__ import annotations

from collections.abc import Sequence

from bluestab.core.errors import Interrupted, RunsCrashed
from bluestab.store.store import Store
from bluestab.sweeps.attempt import Execute
from bluestab.sweeps.lifecycle import make_ready
from bluestab.sweeps.search import spec
from bluestab.sweeps.search.confirm import Launch, confirm, findings, report
from bluestab.sweeps.search.entry import keep_entry
from bluestab.sweeps.search.plan import first_run
from bluestab.sweeps.search.pool import see_through
from bluestab.sweeps.search.saved import write_search_file
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.told import points
from bluestab.sweeps.search.trials import Trials


def run_search(
    search: Search,
    worker_devices: Sequence[str | None],
    launch: Launch,
    execute: Execute | None = None,
) -> None:
    """All of it: points, winner, confirmation on fresh seeds, report.

    worker_devices  the device of each worker
    launch          sees a sweep through, for the confirmation

    Raises Interrupted if a person stopped it, RunsCrashed at the end if points crashed.
    """
    trials = begin_search(search)
    stopped = see_through(search, worker_devices, execute)
    if stopped:
        keep_entry(findings(search, trials))
        n = len([t for t in points(trials.all()) if t.state.is_finished()])
        raise Interrupted(
            f"stopped: {n} of {search.n_trials} points are told; the same command goes on"
        )
    conclude(search, trials, launch)


def begin_search(search: Search, *, here: bool = True) -> Trials:
    """Open its study, or begin it, and write down what is asked for.

    here  its runs will be done on this machine; False: on others

    Raises ConfigError if the study was begun with something else, or runs cannot start.
    """
    run = first_run(search)
    make_ready([run], Store(search.root), here=here)
    trials = Trials.open(search, spec.identity(search, run.hashed))
    write_search_file(search)
    return trials


def conclude(search: Search, trials: Trials, launch: Launch) -> None:
    """Confirm the winner, and report. Raises RunsCrashed if points crashed."""
    arms = confirm(search, trials, launch)
    report(search, trials, arms)
    if crashed := trials.crashed():
        notes = [f"  {t.user_attrs.get('note', 'its process died')}" for t in crashed]
        raise RunsCrashed(
            f"{len(crashed)} of {search.n_trials} points crashed; the same command tries them "
            "again:\n" + "\n".join(dict.fromkeys(notes))
        )


def help_out(search: Search, device: str | None = None) -> None:
    """Be one worker of a search that was begun elsewhere, until all its points are told.

    This is what a task of a cluster does: it opens the study, asks when it is free, and needs
    nothing but the store and the storage. Winner and confirmation are left to the command.

    device  in place of the config's auto; None: as the config has it

    Raises ConfigError if the study was begun with something else.
    """
    run = first_run(search)
    make_ready([run], Store(search.root))
    Trials.open(search, spec.identity(search, run.hashed))
    if see_through(search, [device]):
        raise Interrupted("stopped; the same command goes on")

"""How a sweep begins and ends, whatever launcher does its runs: checks, manifest, table, report.

Nothing else prints results or writes the report: queue and engines do the runs between `begin` and
`close`, and say what ends to a display.
"""

from __future__ import annotations

from collections.abc import Iterable

from bluestab.core import devices
from bluestab.core.errors import Interrupted, RunsCrashed, StoreError
from bluestab.core.printable import counted
from bluestab.models.frozen_tower import tower_folder
from bluestab.models.vision_spec import FrozenSpec
from bluestab.report.words.phrases import reason
from bluestab.store.store import Store
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.stages import left_out
from bluestab.training.check import Run
from bluestab.training.execute import is_done


def make_ready(runs: Iterable[Run], store: Store, *, here: bool = True) -> None:
    """Check what a config alone cannot tell, before anything is written: devices and weights.

    here  runs will be done on this machine; False: on others, which have devices of their own

    Raises ConfigError if a run that is missing in the store cannot start on this machine.
    """
    missing = [run for run in runs if not is_done(run, store)]
    asked = ((run.cfg["device"], run.cfg["trainer"]["devices"]) for run in missing if here)
    for device, n in dict.fromkeys(asked):
        devices.of_ranks(devices.resolve(device), n)
    for run in {run.hashed["model"]: run for run in missing}.values():
        run.model.folder()
    for tower in {run.model.sees for run in missing}:
        if isinstance(tower, FrozenSpec):
            tower_folder(tower)
    store.make_writable()


def tell_damaged(store: Store, runs: Iterable[Run]) -> None:
    """Set damaged records aside, and print it: their runs will be done again."""
    for run in runs:
        aside = store.set_aside_damaged(run.key)
        if aside is not None:
            print(f"the record of run {run.key} was damaged: kept as {aside}, done again")


def begin(sweep: Sweep) -> None:
    """Check what must hold before the first run starts, then write the manifest.

    Raises ConfigError or StoreError if the sweep cannot start on this machine.
    """
    make_ready((planned.run for planned in sweep.runs), sweep.store)
    tell_damaged(sweep.store, (planned.run for planned in sweep.runs))
    sweep.store.write_manifest(sweep.name, sweep.manifest())


def close(sweep: Sweep, stopped: bool = False) -> None:
    """The closing table and files. Raises RunsCrashed naming every run that crashed.

    stopped  a person stopped the sweep: raises Interrupted instead if runs are missing
    """
    if not sweep.blind:
        _report(sweep)
    missing = [p for p in sweep.runs if not sweep.store.has(p.run.key)]
    if stopped and missing:
        raise Interrupted(
            f"stopped: {len(sweep.runs) - len(missing)} of {len(sweep.runs)} runs are finished and "
            "kept; the same command goes on"
        )
    ended = [
        (planned, record)
        for planned in missing
        if (record := sweep.store.crash(planned.run.key)) is not None
    ]
    early = left_out(sweep.runs, sweep.store)
    if early:
        print(
            f"{counted(len(early), 'stage was', 'stages were')} not started: one before crashed or "
            "diverged, and left no weights to go on from"
        )
    if ended:
        lines = [f"{len(ended)} of {len(sweep.runs)} runs crashed:"]
        for planned, record in ended:
            log = sweep.store.crash_folder(record.key) / "log.txt"
            lines.append(f"  {reason(record)[:200]}")
            lines.append(f"    again: {planned.command}")
            lines.append(f"    log:   {log}")
        never = len(missing) - len(ended) - len(early)
        if never:
            lines.append(f"{never} more were not started (on_crash=stop)")
        raise RunsCrashed("\n".join(lines))


def _report(sweep: Sweep) -> None:
    from bluestab.report.frames.results import read_results
    from bluestab.report.terminal.closing_table import print_outcome
    from bluestab.report.write import write_report

    manifest = sweep.manifest()
    results = read_results(sweep.store, manifest)
    print_outcome(results)
    try:
        written = write_report(results, store=sweep.store, manifest=manifest)
        print("wrote " + ", ".join(str(path) for path in written))
    except StoreError as error:  # the runs are safe, which is what counts
        print(f"no report: {error}")

"""The engine of every launcher: pull the next run, skip it if it is there, else run it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from bluestab.checks import CheckedRun
from bluestab.errors import BluestabError, StoreError
from bluestab.planning import PlannedRun, Sweep
from bluestab.report.progress import SweepBar
from bluestab.report.terminal import print_outcome, reason
from bluestab.report.write import write_report
from bluestab.store import Store


class RunsCrashed(BluestabError):
    """Something ran and crashed; what else ran is recorded."""

    exit_code = 1


def work(runs: Iterable[PlannedRun], store: Store, display: SweepBar) -> None:
    """Run what is missing, one after another."""
    from bluestab.run import execute

    for planned in runs:
        if store.has(planned.run.key):
            continue
        display.begin(planned)
        record = execute(planned.run, store, display.progress)
        display.end(record)


def make_ready(runs: Iterable[CheckedRun], store: Store) -> None:
    """What a check leaves out, before anything is written: the device, and weights that are here.

    Raises ConfigError if a run that is missing in the store cannot start on this machine.
    """
    missing = [run for run in runs if not store.has(run.key)]
    if missing:
        from bluestab.run import resolve_device
    for device in dict.fromkeys(run.cfg["device"] for run in missing):
        resolve_device(device)
    for run in {run.hashed["model"]: run for run in missing}.values():
        run.model.folder()
    store.make_writable()


@contextmanager
def open_sweep(sweep: Sweep) -> Iterator[SweepBar]:
    """Write the manifest, then show progress while the runs go on."""
    make_ready((planned.run for planned in sweep.runs), sweep.store)
    sweep.store.write_manifest(sweep.name, sweep.manifest())
    done = sum(sweep.store.has(planned.run.key) for planned in sweep.runs)
    with SweepBar(sweep.name, total=len(sweep.runs), done=done) as display:
        yield display


def close(sweep: Sweep) -> None:
    """The closing table and files. Raises RunsCrashed naming every run that crashed."""
    from bluestab.report.frame import read_results

    results = read_results(sweep.store, sweep.manifest())
    print_outcome(results)
    try:
        written = write_report(results)
        print("wrote " + ", ".join(str(path) for path in written))
    except StoreError as error:  # the runs are safe, which is what counts
        print(f"no report: {error}")
    crashed = [
        (planned, record)
        for planned in sweep.runs
        if (record := sweep.store.crash(planned.run.key)) is not None
    ]
    if crashed:
        lines = [f"{len(crashed)} of {len(sweep.runs)} runs crashed:"]
        for planned, record in crashed:
            log = sweep.store.crash_folder(record.key) / "log.txt"
            lines.append(f"  {reason(record)[:200]}")
            lines.append(f"    again: {planned.command}")
            lines.append(f"    log:   {log}")
        raise RunsCrashed("\n".join(lines))

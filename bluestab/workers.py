"""The engine of every launcher: pull the next run, skip it if it is there, else run it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from bluestab.errors import BluestabError
from bluestab.planning import PlannedRun, Sweep
from bluestab.report.terminal import Display, print_outcome
from bluestab.report.write import write_report
from bluestab.store import Store


class RunsCrashed(BluestabError):
    """Something ran and crashed; what else ran is recorded."""

    exit_code = 1


def work(runs: Iterable[PlannedRun], store: Store, display: Display) -> None:
    """Run what is missing, one after another."""
    from bluestab.run import execute

    for planned in runs:
        if store.has(planned.run.key):
            continue
        display.begin(planned)
        record = execute(planned.run, store, display.progress)
        display.end(planned, record)


@contextmanager
def open_sweep(sweep: Sweep) -> Iterator[Display]:
    """Write the manifest, then show progress while the runs go on."""
    sweep.store.make_writable()
    sweep.store.write_manifest(sweep.name, sweep.manifest())
    done = sum(sweep.store.has(planned.run.key) for planned in sweep.runs)
    with Display(sweep.name, total=len(sweep.runs), done=done) as display:
        yield display


def close(sweep: Sweep) -> None:
    """The closing table and files. Raises RunsCrashed naming every run that crashed."""
    print_outcome(sweep.store, sweep.manifest())
    written = write_report(sweep.store, sweep.manifest())
    print("wrote " + ", ".join(str(path) for path in written))
    crashed = [
        (planned, record)
        for planned in sweep.runs
        if (record := sweep.store.crash(planned.run.key)) is not None
    ]
    if crashed:
        lines = [f"{len(crashed)} of {len(sweep.runs)} runs crashed:"]
        for planned, record in crashed:
            error = record.result["error"]
            log = sweep.store.root / ".crashed" / record.key / "log.txt"
            lines.append(f"  {error['type']}: {error['message'].splitlines()[0][:200]}")
            lines.append(f"    again: {planned.command}")
            lines.append(f"    log:   {log}")
        raise RunsCrashed("\n".join(lines))

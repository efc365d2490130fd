"""The folder that `bluestab auto` delivers: page, tables, model with its card, methods, plan.

It follows from the plan's decisions and the finished runs alone, and can be written again.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from bluestab.core import devices
from bluestab.core.errors import BluestabError, StoreError
from bluestab.core.paths import real
from bluestab.core.plain_files import read_json
from bluestab.inference.export import export
from bluestab.inference.weights import MANIFEST, find_run
from bluestab.report.frames.results import read_results
from bluestab.report.write import write_report
from bluestab.store.files import write_text
from bluestab.sweeps.auto.answer import answer, methods, more_sentences
from bluestab.sweeps.auto.drive import AutoRun


def deliver(run: AutoRun, stopped: bool) -> None:
    """Write everything that can be said, and print the answer last.

    stopped  a person stopped it before its end: there is no model yet
    """
    manifest = run.store.manifest(run.plan.name) if run.raced else None
    said = answer(run, stopped=stopped)
    if manifest is not None:
        results = read_results(run.store, manifest)
        write_report(replace(results, answer=said), run.folder, store=run.store, manifest=manifest)
    try:
        write_text(run.folder / "methods.md", methods(run, said))
    except OSError as error:
        raise StoreError(f"{run.folder} cannot be written ({error.strerror})") from error
    if not stopped:
        for line in _model(run):
            print(f"  {line}")
    print(f"\n{said}")
    for sentence in more_sentences(run):
        print(sentence)
    names = ("report.html", "model", "methods.md", "auto.yaml", "summary.csv")
    there = [name for name in names if (run.folder / name).exists()]
    print(f"delivered in {run.folder}: {', '.join(there)}")


def _model(run: AutoRun) -> list[str]:
    """Write the model's folder, unless it is there; what is worth knowing of it."""
    chosen = run.plan.decided("deliver") or {}
    if not chosen.get("key"):
        return ["no model: no run of the arm to deliver has finished"]
    folder, ensemble = run.folder / "model", int(run.plan.asked["ensemble"])
    if folder.exists():
        if _holds(folder, chosen["key"], ensemble):
            return []
        shutil.rmtree(folder)
    device = next((o.partition("=")[2] for o in run.here if o.startswith("device=")), "auto")
    try:
        found = find_run(str(real(run.store.root) / chosen["key"]), run.store)
        return [*export(found, folder, devices.resolve(device), ensemble=ensemble).remarks]
    except BluestabError as error:
        return [f"no model: {line}" for line in str(error).splitlines()]


def _holds(folder: Path, key: str, n: int) -> bool:
    """Whether an earlier command delivered this very run, in so many seeds."""
    try:
        members: list[Any] = read_json(folder / MANIFEST)["members"]
        return members[0]["run"] == key and len(members) == n
    except (BluestabError, OSError, KeyError, TypeError, IndexError, ValueError):
        return False

"""What the engine itself costs: a sweep of runs that train for one millisecond.

    python benchmarks/many_runs.py [RUNS]

Planning, claims, folders, records, hand-over to workers, the closing table and the report are real;
the training is a sleep. Prints milliseconds per run and the memory of the parent on the way.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from bluestab.core.config import compose
from bluestab.core.provenance import memory_now_mb
from bluestab.core.types import RECORD_SCHEMA, RunRecord
from bluestab.store.store import Store
from bluestab.sweeps.lifecycle import begin, close
from bluestab.sweeps.local import run_here
from bluestab.sweeps.plan import plan_sweep
from bluestab.sweeps.pool import run_in_pool
from bluestab.training.recording import run_names


def fake(run: Any, store: Store, progress: Callable[..., None]) -> RunRecord:
    """A run of one millisecond, recorded as a real one."""
    time.sleep(0.001)
    progress(1, 1, 0.5, 0.5)
    metric = run.data.task.metric
    scores = {split: {metric: 0.5 + run.cfg["seed"] / 1e5} for split in ("validation", "test")}
    result = {
        "key": run.key, "cell": run.cell, "config": run.hashed, "status": "done",
        "metric": metric, "metrics": {"last": scores, "best": scores},
        "score": dict.fromkeys(("last", "best"), scores["test"][metric]),
        "degenerate": {"last": False, "best": False}, "failed_below": 0.0, "failure_score": 0.0,
        "steps": 1, "error": None,
    }  # fmt: skip
    measured = {
        "names": run_names(run), "seconds": {"total": 0.001}, "commit": None, "dirty": None,
        "peak_memory_mb": {"process": 0},
    }  # fmt: skip
    with store.building(run.key) as work:
        (work / "log.txt").write_text("one millisecond\n")
        return store.finish(work, RunRecord(RECORD_SCHEMA, result, measured))


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    launchers: dict[str, Callable[[Any], bool]] = {
        "local": lambda sweep: run_here(sweep, fake),
        "pool of 2": lambda sweep: run_in_pool(sweep, ["cpu", "cpu"], 1e6, fake),
    }
    for name, launch in launchers.items():
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            jobs = [
                (f"seed={seed}", f"technique={technique}")
                for seed in range(n // 2)
                for technique in ("none", "llrd")
            ]
            given = ["model=tiny", "device=cpu", f"store={folder}/runs"]
            start = time.perf_counter()
            sweep = plan_sweep(lambda some, given=given: compose([*given, *some]), jobs, "many")
            begin(sweep)
            planned, before = time.perf_counter(), memory_now_mb()
            with contextlib.redirect_stdout(Path(folder, "out").open("w")):
                launch(sweep)
                ran, after = time.perf_counter(), memory_now_mb()
                close(sweep)
            end = time.perf_counter()
            done = len(Store(f"{folder}/runs").keys())
            marks = (start, planned, ran, end)
            total, *parts = (1000 * (b - a) / n for a, b in [(start, end), *pairwise(marks)])
            print(f"{name}: {done} runs in {end - start:.1f} s, {total:.1f} ms each")
            print("  planning {:.1f}, running {:.1f}, table and report {:.1f}".format(*parts))
            print(f"  parent: {before} MiB before the first run, {after} MiB after the last")


if __name__ == "__main__":
    main()

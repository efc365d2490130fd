"""A search whose runs are stand-ins with a known optimum: hundreds of points a minute.

    python tests/support/simulated_search.py STORE STORAGE WORKERS [N_TRIALS]

That is a search as a command does it.

Everything around the training is real: study, claims, store, processes. The score of a run follows
from its config, see `score`; `acts.json` in the store may say otherwise, seed -> act: `crash`,
`diverge`, `undefined`, `segfault`, `await NAME` (see `simulated_runs`), or seconds to sleep.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from bluestab.core import preemption
from bluestab.core.types import RECORD_SCHEMA, RunRecord
from bluestab.store.store import Store
from bluestab.testing.simulated_runs import measured, wait_for_release

FIXED = {
    "task": "gad",
    "model": "tiny",
    "device": "cpu",
    "task.sha256.train": "null",
    "task.sha256.validation": "null",
    "task.sha256.test": "null",
}
CHOICES: dict[str, Any] = {
    "technique": ["none", "llrd"],
    "technique.llrd.decay": "interval(0.5, 1.0)",
    "optim.lr": "tag(log, interval(1e-5, 1e-3))",
}
BEST = {"technique": "llrd", "technique.llrd.decay": 0.8, "optim.lr": 1e-4}


def node(**given: Any) -> dict[str, Any]:
    """`search` of the config, with other values: `n_trials=5`, `race={"kind": "none"}`."""
    from bluestab.core.config import compose

    lines = ["search/sampler=" + given.pop("sampler", "tpe")]
    from omegaconf import OmegaConf

    found: Any = OmegaConf.to_container(compose(lines).search, resolve=True)
    for key, value in given.items():
        found[key] = {**found[key], **value} if isinstance(value, dict) else value
    return found


def plan(
    store: Path, *, name: str = "s", choices: Any = None, fixed: Any = None, **given: Any
) -> Any:
    """A search over `CHOICES`, its store at `store`."""
    from bluestab.sweeps.search.plan import plan_search

    fixed = {**FIXED, **(fixed or {}), "store": str(store)}
    return plan_search(
        node(**given), name=name, fixed=fixed, choices=CHOICES if choices is None else choices
    )


def begin(search: Any) -> Any:
    """The study of a search, begun as a command begins it."""
    from bluestab.sweeps.search import spec
    from bluestab.sweeps.search.plan import first_run
    from bluestab.sweeps.search.trials import Trials

    Store(search.root).make_writable()
    return Trials.open(search, spec.identity(search, first_run(search).hashed))


@cache
def _composed(lines: tuple[str, ...]) -> Any:
    from bluestab.core.config import compose

    return compose(lines)


def compose_once(lines: Any) -> Any:
    """`compose`, remembered: Hydra takes 40 ms, and these tests compose the same points often."""
    rest = tuple(line for line in lines if not line.startswith(("store=", "seed=")))
    cfg = _composed(rest)
    for line in lines:
        key, _, value = line.partition("=")
        if key in ("store", "seed"):
            cfg[key] = int(value) if key == "seed" else value.strip("'")
    return cfg


def truth(run: Any) -> float:
    """Expected score of a run: 0.9 at `BEST`."""
    lr = math.log10(run.cfg["optim"]["lr"]) + 4
    llrd = run.cfg["technique"].get("llrd")
    return 0.9 - 0.1 * lr**2 - (0.05 if llrd is None else (llrd["decay"] - 0.8) ** 2)


def score(run: Any) -> float:
    """`truth`, an effect of the seed, and noise that is a function of the run."""
    digest = hashlib.sha256(run.key.encode()).digest()
    noise = int.from_bytes(digest[:4], "big") / 2**32 - 0.5
    return truth(run) + 0.02 * math.sin(run.cfg["seed"]) + 0.02 * noise


def acts(store: Path, **by_seed: Any) -> None:
    """Say what runs do: `acts(store, s1="crash")`."""
    store.mkdir(parents=True, exist_ok=True)
    (store / "acts.json").write_text(
        json.dumps({k.removeprefix("s"): v for k, v in by_seed.items()})
    )


def attempts(store: Path) -> list[str]:
    """Keys of the runs that were started, in order."""
    file = store / "attempts"
    return [line.split()[0] for line in file.read_text().splitlines()] if file.is_file() else []


def execute(run: Any, store: Store, progress: Callable[..., None]) -> RunRecord:
    """Does what a run would, without training."""
    if store.has(run.key):
        return store.read(run.key)
    descriptor = os.open(store.root / "attempts", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{run.key} {os.getpid()}\n".encode())
    os.close(descriptor)
    written = store.root / "acts.json"
    script = json.loads(written.read_text()) if written.is_file() else {}
    act = script.get(str(run.cfg["seed"]), script.get("all", "done"))
    with store.building(run.key) as work:
        (work / "log.txt").write_text("no training\n")
        found = score(run)
        for step in (25, 50, 75, 100):
            progress(step, 100, 0.5, found * step / 100)
        if act == "segfault":
            ctypes.string_at(0)
        if str(act).startswith("await "):
            wait_for_release(act, store)
        if isinstance(act, int | float):
            end = time.monotonic() + act
            while time.monotonic() < end:
                if preemption.is_requested():
                    raise preemption.Preempted
                time.sleep(min(act, 0.05))
        record = RunRecord(
            RECORD_SCHEMA,
            result(run, str(act), found),
            measured(run, seconds=1.0 + run.cfg["seed"]),
        )
        if act == "crash":
            store.keep_crash(work, record)
        else:
            store.finish(work, record)
    return record


def result(run: Any, act: str, found: float) -> dict[str, Any]:
    metric, crash = run.data.task.metric, act == "crash"
    value = None if act in ("diverge", "undefined") else found
    scores = {at: {s: {metric: value} for s in ("validation", "test")} for at in ("last", "best")}
    failure = run.data.task.failure_score
    return {
        "key": run.key,
        "cell": run.cell,
        "config": run.hashed,
        "metric": metric,
        "failed_below": 0.5,
        "failure_score": failure,
        "status": {"crash": "crashed", "diverge": "diverged"}.get(act, "done"),
        "metrics": None if act in ("crash", "diverge") else scores,
        "score": None if crash else dict.fromkeys(("last", "best"), value or failure),
        "degenerate": None if crash else dict.fromkeys(("last", "best"), value is None),
        "steps": 100,
        "items": None,
        "error": {"type": "MemoryError", "message": "as told"} if crash else None,
    }


def main(store: str, storage: str, workers: str, n_trials: str = "20") -> None:
    from bluestab.sweeps.search.pool import see_through
    from tests.support import simulated_search  # a module that workers can import

    search = plan(Path(store), storage=storage, n_trials=int(n_trials), seeds=3)
    search = replace(search, sampler_seed=1)
    begin(search)
    stopped = see_through(search, [None] * int(workers), simulated_search.execute)
    print("stopped" if stopped else "finished", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main(*sys.argv[1:])

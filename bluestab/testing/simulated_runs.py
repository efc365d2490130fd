"""Stand-ins for training, so that launchers can be tried hundreds of times a minute.

What a run does is written in `<store>/acts.json`: seed -> list of acts, one per attempt (the last
one is repeated). Everything around the training is real: claims, folders, records, processes.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bluestab.core import preemption
from bluestab.core.errors import DiskFull, GroupTooLarge
from bluestab.core.types import RECORD_SCHEMA, RunRecord
from bluestab.store.store import Store


def acts(store: Store, **by_seed: list[str]) -> None:
    """Say what the runs of each seed do: `acts(store, s3=["segfault", "done"])`."""
    store.root.mkdir(parents=True, exist_ok=True)
    (store.root / "acts.json").write_text(json.dumps({k[1:]: v for k, v in by_seed.items()}))


def release(store: Store, name: str) -> None:
    """Let all runs go on whose act is `await NAME`: they need no guess of how long a test takes."""
    (store.root / f"released-{name}").touch()


def wait_for_release(act: str, store: Store) -> None:
    """As a run does it that can be given back. `act` is `await NAME`."""
    while not (store.root / f"released-{act.partition(' ')[2]}").exists():
        if preemption.is_requested():
            raise preemption.Preempted
        time.sleep(0.05)


def attempts(store: Store) -> dict[str, int]:
    """Seed -> how often a run of it was started."""
    found: dict[str, int] = {}
    written = store.root / "attempts"
    for line in written.read_text().splitlines() if written.exists() else []:
        found[line.split()[0]] = found.get(line.split()[0], 0) + 1
    return found


def workers(store: Store) -> list[int]:
    """The processes that did the attempts, in order."""
    return [int(line.split()[1]) for line in (store.root / "attempts").read_text().splitlines()]


def execute(run: Any, store: Store, progress: Callable[..., None]) -> RunRecord:
    """Does what `acts.json` says, and records it as a run would be."""
    if store.has(run.key):
        return store.read(run.key)
    seed = str(run.cfg["seed"])
    descriptor = os.open(store.root / "attempts", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{seed} {os.getpid()}\n".encode())
    os.close(descriptor)
    written = Path(store.root / "acts.json")
    script = (json.loads(written.read_text()) if written.is_file() else {}).get(seed, ["done"])
    act = script[min(attempts(store)[seed], len(script)) - 1]
    with store.building(run.key) as work:
        (work / "log.txt").write_text(f"attempt at seed {seed}\n")
        progress(1, 2, None, None)
        _act(act, store)
        progress(2, 2, 0.5, 0.25)
        record = RunRecord(RECORD_SCHEMA, result(run, act), measured(run))
        if act == "crash":
            store.keep_crash(work, record)
        else:
            store.finish(work, record)
    return record


def together(
    runs: Sequence[Any], store: Store, progress: Sequence[Callable[..., None]]
) -> list[RunRecord]:
    """Siblings as one; an act `large N`, of any of them, is an N over which memory is too small."""
    written = Path(store.root / "acts.json")
    script = json.loads(written.read_text()) if written.is_file() else {}
    for run in runs:
        name, _, most = script.get(str(run.cfg["seed"]), [""])[0].partition(" ")
        if name == "large" and len(runs) > int(most):
            raise GroupTooLarge(f"{len(runs)} runs at once: as told")
    with (store.root / "groups").open("a") as file:
        file.write(" ".join(str(run.cfg["seed"]) for run in runs) + "\n")
    return [execute(run, store, told) for run, told in zip(runs, progress, strict=True)]


def groups(store: Store) -> list[list[int]]:
    """The seeds of every group that began."""
    lines = (store.root / "groups").read_text().splitlines()
    return [[int(seed) for seed in line.split()] for line in lines]


def _act(act: str, store: Store) -> None:
    name, _, amount = act.partition(" ") if act != "kill parent" else (act, "", "")
    if name == "segfault":
        ctypes.string_at(0)
    elif name == "exit":
        os._exit(int(amount))
    elif name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "kill parent":  # the task of a cluster, with all that is in it
        os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)
    elif name == "train":  # in tenths of a second, as a run does that can be given back
        for _ in range(int(amount)):
            if preemption.is_requested():
                raise preemption.Preempted
            time.sleep(0.1)
    elif name == "await":
        wait_for_release(act, store)
    elif name == "sleep":
        time.sleep(float(amount))
    elif name == "fill":
        (store.root / "filled").touch()
        raise DiskFull("no room")
    elif name == "eat":
        keep.append(b"x" * (int(amount) * 2**20))
    elif name == "broken":
        raise OSError(errno.EIO, "Input/output error")


def abort(*_: Any, **__: Any) -> None:
    """A worker process that cannot even start."""
    os.abort()


keep: list[bytes] = []


def result(run: Any, act: str) -> dict[str, Any]:
    crash = act == "crash"
    score = run.cfg["seed"] / 1000
    return {
        "key": run.key,
        "cell": run.cell,
        "config": run.hashed,
        "metric": run.data.task.metric,
        "failed_below": 0.5,
        "failure_score": 0.0,
        "status": "crashed" if crash else "done",
        "metrics": None
        if crash
        else {
            at: {split: {run.data.task.metric: score} for split in ("validation", "test")}
            for at in ("last", "best")
        },
        "score": None if crash else {"last": score, "best": score},
        "degenerate": None if crash else {"last": False, "best": False},
        "steps": 2,
        "error": {"type": "ValueError", "message": "as told"} if crash else None,
    }


def measured(run: Any, seconds: float = 0.001) -> dict[str, Any]:
    return {
        "names": {
            "task": run.data.task.name,
            "model": run.model.name,
            "technique": list(run.techniques),
            "seed": run.cfg["seed"],
        },
        "seconds": {"total": seconds},
        "commit": None,
        "dirty": None,
    }

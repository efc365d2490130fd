"""A sweep of real runs whose processes say what they are doing, to be killed at will.

    python tests/support/killable_sweep.py STORE MARKS N_RUNS WORKERS

It runs in a pool, or with 0 workers one run after another.

Every process keeps its phase in `MARKS/<pid>`; every start and end of a run adds a line to
`MARKS/log`. With `DIE_AT=POINT` in the environment a process kills itself with SIGKILL at the first
write point of that name that nobody died at before.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bluestab.testing.corpora import ON_ANY_DEVICE

OVERRIDES = (
    "task=biosses",
    "model=tiny",
    "device=cpu",
    "task.max_length=64",  # `tiny` reads characters: whole pairs would take seconds a step
    "optim.steps=40",
    "trainer.eval_every=10",
    *ON_ANY_DEVICE,  # in every process the same runs
    "task.sha256.train=null",
    "task.sha256.validation=null",
    "task.sha256.test=null",
)
IN_SEQUENCE = "in sequence"
SEQUENCE = (
    "+sequence=disease_chemical",
    "sequence.tasks=[biosses,gad,ncbi_disease]",
    "sequence.orders=1",
)
ARMS = (
    ("technique=none",),
    ("technique=[ewc,refresh]",),
    ("technique=er",),
    ("technique=kfac_ewc",),
)
TECHNIQUES = (
    ("technique=none",),
    ("technique=llrd",),
    ("technique=reinit",),
    ("technique=freeze", "technique.freeze.depth=1"),
)


def sweep(store: Path, n: int, *more: str) -> Any:
    """A sweep of n runs over four techniques; the same one every time it is asked for.

    With `IN_SEQUENCE` among the others: of four arms over three tasks, one after another, which are
    nine runs for each seed, and two of the later tasks alone.
    """
    from bluestab.core.config import compose
    from bluestab.sweeps.plan import plan_sweep

    if IN_SEQUENCE in more:
        jobs = [(*ARMS[i % 4], *SEQUENCE, f"seed={i // 4}") for i in range(4 * (n // 11))]
        given = [*OVERRIDES[1:], f"store={store}", *(one for one in more if one != IN_SEQUENCE)]
    else:
        jobs = [(*TECHNIQUES[i % 4], f"seed={i // 4}") for i in range(n)]
        given = [*OVERRIDES, f"store={store}", *more]
    return plan_sweep(lambda some: compose([*given, *some]), jobs, "survive")


class Marks:
    """Where this process is. One small write per change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.pid = 0
        self.now = "start"

    def at(self, phase: str) -> None:
        if self.pid != os.getpid():
            self.pid = os.getpid()
            self.file = os.open(self.folder / str(self.pid), os.O_RDWR | os.O_CREAT)
        self.now = phase
        os.pwrite(self.file, phase.encode().ljust(80), 0)

    def log(self, *words: object) -> None:
        line = " ".join(map(str, words)) + "\n"
        file = os.open(self.folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line.encode())
        os.close(file)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        before = self.now
        self.at(phase)
        try:
            yield
        finally:
            self.at(before)

    def point(self, name: str) -> None:
        """A named write point is passed; die here if that is asked for, and only once."""
        self.at(name)
        if os.environ.get("COLLECT"):
            self.log("point", name)
        if os.environ.get("DIE_AT") == name:
            try:
                os.close(os.open(self.folder / "died", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


def named(path: Any) -> str:
    """What a path is, without keys, process numbers and host names."""
    parts = Path(path).parts
    for known in (".work", ".claims", ".crashed", ".resume", "sweeps", "report"):
        if known in parts:
            rest = parts[parts.index(known) + 1 :]
            inside = len(rest) > 1 or known in ("sweeps", "report")
            return f"{known} {rest[-1].strip('.').split('.')[0]}" if inside else f"{known} entry"
    return Path(path).name if Path(path).suffix else "run"


def instrument(marks: Marks) -> None:
    """Wrap what trains and what writes."""
    import pytorch_lightning as pl
    import torch

    from bluestab.store import artefacts, claims, files
    from bluestab.store import store as store_module
    from bluestab.training import execute as execute_module
    from bluestab.training import results
    from bluestab.training.loop import checkpoints

    def phase(owner: Any, name: str, label: str) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with marks.during(label):
                return real(*args, **kwargs)

        setattr(owner, name, wrapped)

    def point(owner: Any, name: str, label: Callable[..., str]) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            said, before = label(*args), marks.now
            marks.point(f"before {said}")
            result = real(*args, **kwargs)
            marks.point(f"after {said}")
            marks.at(before)
            return result

        setattr(owner, name, wrapped)

    phase(pl.Trainer, "fit", "fit")
    phase(pl.Trainer, "test", "score")
    phase(pl.Trainer, "validate", "score")
    phase(execute_module, "train_and_score", "prepare")
    for owner in (store_module, artefacts):
        point(owner, "write_text", lambda path, *_: f"write {path.name}")
    point(results, "write_predictions", lambda path, *_: f"write {path.name}")
    point(torch, "save", lambda *_: "write checkpoint")
    for owner in (files, store_module, checkpoints):
        point(owner, "flush", lambda path, *_: f"flush {named(path)}")
    point(Path, "rename", lambda path, *_: f"rename {named(path)}")
    point(Path, "replace", lambda path, *_: f"rename {named(path)}")
    point(os, "link", lambda path, *_: "rename claim")
    point(claims.Claim, "release", lambda *_: "release claim")
    point(shutil, "rmtree", lambda path, *_: f"remove {named(path)}")


ready: list[Marks] = []


def execute(run: Any, store: Any, progress: Callable[..., None]) -> Any:
    """The real thing, instrumented; for a worker process and for this one."""
    from bluestab.training.execute import execute_one as real

    if not ready:
        ready.append(Marks(Path(os.environ["MARKS"])))
        instrument(ready[0])
    marks = ready[0]
    if store.has(run.key):
        return store.read(run.key)
    marks.log("start", run.key, os.getpid())
    with marks.during("run"):
        record = real(run, store, progress)
    marks.log("end", run.key, os.getpid())
    return record


def main(store: str, marks: str, n: str, workers: str, *more: str) -> None:
    from bluestab.sweeps.lifecycle import begin, close
    from bluestab.sweeps.local import run_here
    from bluestab.sweeps.pool import run_in_pool

    os.environ["MARKS"] = marks
    own = Marks(Path(marks))
    own.at("plan")
    planned = sweep(Path(store), int(n), *more)
    own.at("begin")
    begin(planned)
    own.at("dispatch")
    if int(workers):
        stopped = run_in_pool(planned, ["cpu"] * int(workers), 1e6, execute)
    else:
        stopped = run_here(planned, execute)
    own.at("close")
    close(planned, stopped)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from bluestab.core.errors import BluestabError
    from tests.support import killable_sweep

    try:
        killable_sweep.main(*sys.argv[1:])
    except BluestabError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

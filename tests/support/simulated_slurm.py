"""SLURM's commands as tests answer them, and submissions that were never sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose
from bluestab.store.store import Store
from bluestab.sweeps.launchers import slurm
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.queue import SharedQueue
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.submission import Submission, write_orders

KNOBS = {
    "runs_per_task": 2,
    "workers_per_task": 1,
    "per_gpu": 1,
    "gpus": False,
    "signal_delay": 120,
}


OURS = "@the latest@"
"""In what squeue answers: the comment of the latest submission."""

latest = [""]


def submitted(sweep: Sweep, tasks: int = 2, **knobs: Any) -> Submission:
    one = write_orders(
        *(sweep.store, sweep.name, sweep.runs),
        tasks=tasks,
        launcher={**KNOBS, **knobs},
        command="bluestab run -m",
    )
    latest[0] = one.comment
    return one


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Command -> what it answers; an exception is raised. `asked` lists the calls."""
    answers: dict[str, Any] = {"asked": []}

    def ask(*command: str) -> str:
        answers["asked"].append(command)
        answer = answers.get(command[0], "")
        if isinstance(answer, Exception):
            raise answer
        if command[0] == "sbatch":
            latest[0] = str(Path(command[-1]).parent)
        return str(answer).replace(OURS, latest[0])

    monkeypatch.setattr(scheduler, "_HERE", {})
    monkeypatch.setattr(scheduler, "ask", ask)
    return answers


def squeue(*tasks: ArrayTask) -> str:
    """What squeue says of tasks; those without a comment are of the latest submission."""

    def line(t: ArrayTask) -> str:
        array, _, index = t.job.partition("_")
        code = int(t.exit.split(":")[0]) * 256 + int(t.exit.split(":")[1]) if t.exit else 0
        fields = [array, index, array, t.state, t.reason or "None", t.node, code, t.restarts]
        return "".join(f"{field!s:<12}|" for field in [*fields, t.comment or OURS])

    return "\n".join(map(line, tasks)) + "\n"


def launcher(**knobs: Any) -> slurm.Slurm:
    node = dict(compose(["hydra/launcher=slurm"]).hydra.launcher)
    return slurm.Slurm(**{k: v for k, v in {**node, **knobs}.items() if k not in HYDRAS})


HYDRAS = ("_target_", "backend")


@pytest.fixture
def site(said: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A SLURM that takes everything, and on which nothing moves."""
    monkeypatch.setattr(scheduler, "installed", lambda: True)
    said.update(sbatch="12;cluster\n", squeue=squeue(ArrayTask("12_0", "PENDING", "Priority")))
    return said


def calls(said: dict[str, Any], name: str) -> int:
    return sum(command[0] == name for command in said["asked"])


def queue_of(one: Submission, quota: int = 2, say: Callable[[str], None] = print) -> SharedQueue:
    return SharedQueue(one, Store(one.content["store"]), quota, say)

"""Why a task died, as the log of its start says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bluestab.sweeps.failures import NodeFailed, OutOfMemoryKilled, TimeLimitReached, WorkerDied
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import failures
from tests.support.simulated_slurm import submitted

MakeSweep = Callable[..., Sweep]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "slurmstepd: error: StepId=6.0 exceeded memory limit (2 > 1), being",
            OutOfMemoryKilled,
        ),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=6.0", OutOfMemoryKilled),
        (
            "slurmstepd: error: *** STEP 6.0 ON n1 CANCELLED DUE TO TIME LIMIT ***",
            TimeLimitReached,
        ),
        ("slurmstepd: error: *** JOB 6 ON n1 CANCELLED AT x DUE TO NODE FAILURE ***", NodeFailed),
        ("nothing of note", WorkerDied),
    ],
)
def test_causes_are_told_apart_by_the_log(
    make_sweep: MakeSweep, site: dict[str, Any], line: str, kind: type[WorkerDied]
) -> None:
    """Only by the part of the start that died; no accounting is needed."""
    one = submitted(make_sweep(seeds=1), tasks=1)
    starts = [
        f"bluestab task 12_0.{n} on n1, now\n{said}\n"
        for n, said in enumerate(("DUE TO TIME LIMIT", line, "exceeded memory limit"))
    ]
    one.log_of("12_0").write_text("".join(starts))
    site["squeue"] = site["sacct"] = ""
    found = failures.cause(one, [{"job": "12_0.1", "host": "h"}])
    assert type(found) is kind
    hint = "hydra.launcher.mem, which is not set, asks for more memory"
    assert (hint in str(found)) == (kind is OutOfMemoryKilled)


def test_the_knob_of_memory_is_named_with_its_value(make_sweep: MakeSweep) -> None:
    one = submitted(make_sweep(seeds=1), tasks=1, mem="2G")
    assert failures.more_memory(one).startswith("hydra.launcher.mem=2G asks for memory")
    assert failures.is_memory("Detected 1 oom_kill event in StepId=6.0")
    assert not failures.is_memory("DUE TO TIME LIMIT")

"""How many arrays a submission takes, and what becomes of it where SLURM takes less."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import BluestabError
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.arrays import hand_over, split
from bluestab.sweeps.slurm.submission import submissions
from tests.support.simulated_slurm import OURS, launcher, submitted

MakeSweep = Callable[..., Sweep]
REFUSED = (
    "sbatch says: sbatch: error: QOSMaxSubmitJobPerUserLimit sbatch: error: Batch job submission "
    "failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)


@pytest.mark.parametrize(
    ("tasks", "at_once", "sizes", "shares"),
    [
        (3, None, [3], [None]),
        (12, None, [5, 5, 2], [None] * 3),
        (12, 10, [5, 5, 2], [4, 3, 3]),
        (12, 2, [5, 5], [1, 1]),
        (4, 1, [4], [1]),
    ],
)
def test_no_more_tasks_at_once_than_asked_for_over_all_arrays(
    said: dict[str, Any], tasks: int, at_once: int | None, sizes: list[int], shares: list[int]
) -> None:
    said["scontrol"] = "MaxArraySize            = 6\n"
    found = split(tasks, at_once)
    assert [array.tasks for array in found] == sizes
    assert [array.at_once for array in found] == shares
    assert [array.first for array in found] == [5 * i for i in range(len(found))]


def limit_of(monkeypatch: pytest.MonkeyPatch, room: int) -> list[int]:
    """A SLURM with room for so many more tasks in its queue; the sizes that it was asked for."""
    asked: list[int] = []

    def submit(script: str) -> str:
        nonlocal room
        found = re.search(r"--array=0-(\d+)", Path(script).read_text())
        assert found is not None
        asked.append(int(found.group(1)) + 1)
        if asked[-1] > room:
            raise scheduler.SchedulerError(REFUSED)
        room -= asked[-1]
        return str(100 + len(asked))

    monkeypatch.setattr(scheduler, "submit", submit)
    return asked


@pytest.mark.parametrize(
    ("room", "asked", "taken"),
    [(5, [10, 5], 5), (4, [10, 5, 2], 2), (14, [10, 10, 5, 2], 12), (100, [10, 10], 20)],
)
def test_of_more_tasks_than_an_account_may_submit_some_do_the_work(
    make_sweep: MakeSweep,
    site: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    room: int,
    asked: list[int],
    taken: int,
) -> None:
    site["scontrol"] = "MaxArraySize            = 11\n"
    sizes = limit_of(monkeypatch, room)
    sweep = make_sweep(seeds=20)
    launcher(wait=False, runs_per_task=1).launch(sweep)
    out = capsys.readouterr().out
    assert sizes == asked
    assert (f"only {taken} of 20 tasks were taken: sbatch says" in out) == (taken < 20)
    assert f"({taken} tasks)" in out
    (one,) = submissions(sweep.store)
    assert sum(array.tasks for array in one.arrays()) == taken
    for index in range(taken):
        assert not one.all_have_begun()
        one.begin(index)
    assert one.all_have_begun(), "those that were taken wait for no other"
    assert len(one.arrays()) == len(list(one.folder.glob("script-*.sh")))


def test_a_queue_that_is_full_leaves_nothing_and_says_so(
    make_sweep: MakeSweep, site: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = limit_of(monkeypatch, 0)
    sweep = make_sweep(seeds=4)
    with pytest.raises(BluestabError, match="QOSMaxSubmitJobPerUserLimit") as caught:
        launcher(wait=False, runs_per_task=1).launch(sweep)
    assert asked == [4, 2, 1]
    assert "jobs that are in the queue already leave no room" in str(caught.value)
    assert submissions(sweep.store) == []


SILENT = scheduler.NoAnswerError("sbatch gave no answer in 60 seconds")


def test_a_job_that_sbatch_does_not_tell_of_is_found_by_its_comment(
    make_sweep: MakeSweep, site: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    site["scontrol"] = "MaxArraySize            = 3\n"
    looks = iter(["", f"7|another\n31|{OURS}\n", f"31|{OURS}\n", f"31|{OURS}\n32|{OURS}\n"])

    def slept(_: float) -> None:
        site["squeue"] = next(looks)

    monkeypatch.setattr("bluestab.sweeps.slurm.arrays.time.sleep", slept)
    site["sbatch"] = SILENT
    sweep = make_sweep(seeds=4)
    submission = submitted(sweep, tasks=4)
    hand_over(submission, split(4), lambda array: "")
    assert [(array.job, array.tasks) for array in submission.arrays()] == [("31", 2), ("32", 2)]


def test_orders_stay_where_nobody_knows_whether_slurm_took_them(
    make_sweep: MakeSweep, site: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluestab.sweeps.slurm.arrays.time.sleep", lambda _: None)
    site["sbatch"] = SILENT
    sweep = make_sweep(seeds=4)
    with pytest.raises(scheduler.NoAnswerError, match="60 seconds, and in 38 seconds more no job"):
        launcher(wait=False, runs_per_task=1).launch(sweep)
    assert len(submissions(sweep.store)) == 1


def test_an_id_below_what_a_site_has_to_say(said: dict[str, Any]) -> None:
    said["sbatch"] = "Welcome to the cluster\n--> 3 nodes are down\n 7\n12;alpha\n\n"
    assert scheduler.submit("script.sh") == "12;alpha"
    said["sbatch"] = "12 jobs are in the queue\n"
    with pytest.raises(scheduler.NoAnswerError, match="no job id but: 12 jobs are"):
        scheduler.submit("script.sh")


def test_a_controller_that_timed_out_may_have_taken_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "sbatch"
    fake.write_text(
        "#!/bin/sh\n"
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation'"
        " >&2; exit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(scheduler.NoAnswerError, match="Socket timed out on send/recv"):
        scheduler.submit("script.sh")

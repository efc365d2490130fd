"""Sweeps on a real SLURM: packed, shared, left, found again, cancelled, and what they say."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.submission import submissions
from bluestab.testing.simulated_runs import acts, attempts, release
from tests.slurm.conftest import Site, said_until, until

pytestmark = pytest.mark.slurm

MakeSite = Callable[..., Site]


def last_states(site: Site) -> dict[str, str]:
    """ArrayTask -> state, by accounting, which is a second or two behind."""
    jobs = [job for one in submissions(site.store) for job in one.jobs()]

    def told() -> dict[str, str]:
        return {task.job: task.state for task in scheduler.accounted(jobs)}

    until(lambda: told() and not set(told().values()) & scheduler.LIVE, "accounting is complete")
    return told()


def assert_tidy(site: Site) -> None:
    """No live job, no claim, no half work."""
    assert site.live() == []
    assert site.store.running() == {}
    half = [p.name for p in (site.store.root / ".work").iterdir()]
    assert [name for name in half if not name.startswith("worker-")] == []  # words of the killed


def test_many_runs_in_few_tasks(make_site: MakeSite) -> None:
    """One of them raises: its task alone FAILED, in SLURM's books too."""
    site = make_site("sweep.seeds=24")
    acts(site.store, s7=["crash"])
    said = site.run("hydra.launcher.runs_per_task=6", code=1)
    assert "submitted 24 runs, 6 per task" in said
    assert site.statuses() == {**dict.fromkeys(range(24), "done"), 7: "crashed"}
    assert attempts(site.store) == {str(seed): 1 for seed in range(24)}
    assert "1 of 24 runs crashed" in said
    assert sorted(last_states(site).values()) == ["COMPLETED"] * 3 + ["FAILED"]
    (failed,) = [job for job, state in last_states(site).items() if state == "FAILED"]
    assert "seed 7: crashed, ValueError: as told" in site.submission.log_of(failed).read_text()
    assert_tidy(site)
    assert site.run("sweep.seeds=23", code=1).count("submitted 1 run,") == 1  # the crash, again


def test_left_alone_found_again_and_cancelled(make_site: MakeSite) -> None:
    site = make_site("sweep.seeds=6")
    acts(site.store, **{f"s{seed}": ["await end"] for seed in range(6)})
    said = site.run("hydra.launcher.wait=false", "hydra.launcher.runs_per_task=3")
    (job,) = site.submission.jobs()
    assert f"as job {job} (2 tasks)" in said
    line = re.search(r"bluestab (status .*)", said)
    assert line is not None
    until(lambda: len(site.store.running()) == 2, "two tasks work")
    shown = site.verb(*line.group(1).split())
    assert "2 running" in shown
    assert re.search(r"SLURM: 2 running \(n\d", shown)
    claims = site.store.running().values()
    assert {claim["job"].partition(".")[0] for claim in claims} == {f"{job}_0", f"{job}_1"}

    again = site.start("hydra.launcher.runs_per_task=3")  # attaches
    until(lambda: len(site.live()) == 2, "still two tasks")
    first = said_until(again, "attached").splitlines()[-1]
    assert first == f"6 runs are with job {job} (2 tasks) already; attached"
    assert again.stdout is not None
    assert again.stdout.readline().endswith(": 6 runs\n")
    again.send_signal(signal.SIGINT)
    assert again.wait(timeout=60) == 130
    assert "the jobs go on" in again.stdout.read()
    assert len(site.live()) == 2

    assert f"cancelled: job {job}" in site.verb("cancel")
    assert_tidy(site)
    assert set(site.statuses().values()) == {"missing"}
    assert "nothing to cancel" in site.verb("cancel")
    acts(site.store)
    site.run("hydra.launcher.runs_per_task=3")
    assert set(site.statuses().values()) == {"done"}


def test_a_submitter_that_dies_before_it_knows_the_job(make_site: MakeSite) -> None:
    """Between sbatch and writing down its answer: the job is known by its comment."""
    site = make_site("sweep.seeds=2")
    acts(site.store, **{f"s{seed}": ["await end"] for seed in range(2)})
    site.run("hydra.launcher.wait=false", "hydra.launcher.runs_per_task=2")
    (job,) = site.submission.jobs()
    (site.submission.folder / "array-0.json").unlink()
    process = site.start("hydra.launcher.runs_per_task=2")
    assert f"with job {job} (1 task) already; attached" in said_until(process, "attached")
    release(site.store, "end")
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said + site.logs()
    assert len(submissions(site.store)) == 1
    assert set(site.statuses().values()) == {"done"}
    assert attempts(site.store) == {"0": 1, "1": 1}


def test_a_run_whose_process_dies_again_and_again(make_site: MakeSite) -> None:
    site = make_site("sweep.seeds=3")
    acts(site.store, s1=["kill"], s2=["kill", "done"])
    said = site.run("hydra.launcher.runs_per_task=3", code=1)
    assert site.statuses() == {0: "done", 1: "crashed", 2: "done"}
    assert attempts(site.store) == {"0": 1, "1": 3, "2": 2}
    assert re.search(r"WorkerDied: the worker process was killed by SIGKILL", said)
    assert list(last_states(site).values()) == ["FAILED"]
    assert_tidy(site)


def test_a_task_that_is_killed_whole(make_site: MakeSite) -> None:
    """SLURM does not requeue it; others take its run over, and end it after three deaths."""
    site = make_site("sweep.seeds=4")
    begun, end = ["await all have begun"], ["await three have died"]
    acts(site.store, s0=["kill parent"], s1=end, s2=begun, s3=begun)
    process = site.start("hydra.launcher.runs_per_task=1")
    until(lambda: site.store.running() and site.submission.all_have_begun(), "all have begun")
    release(site.store, "all have begun")  # those of seeds 2 and 3 go on with seed 0
    until(lambda: attempts(site.store).get("0") == 3, "three have died")
    release(site.store, "three have died")
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 1, said + site.logs()
    expected = {0: "crashed", 1: "done", 2: "done", 3: "done"}
    assert site.statuses() == expected, said + site.logs()
    assert attempts(site.store)["0"] == 3
    assert "the process that did it died 3 times: in task" in said
    assert_tidy(site)


def test_a_refused_option_submits_nothing(make_site: MakeSite) -> None:
    site = make_site("sweep.seeds=2")
    said = site.run("hydra.launcher.partition=nowhere", code=2)
    assert "invalid partition specified: nowhere" in said
    assert submissions(site.store) == []
    said = site.run("hydra.launcher.partitio=main", code=2)
    assert "did you mean 'hydra.launcher.partition'" in said


def test_questions_to_the_scheduler_are_few(make_site: MakeSite, tmp_path: Path) -> None:
    """Four a minute while it waits, however many tasks there are."""
    site = make_site("sweep.seeds=2")
    acts(site.store, **{f"s{seed}": ["await end"] for seed in range(2)})
    shims, count = tmp_path / "bin", tmp_path / "calls"
    shims.mkdir()
    for name in ("squeue", "sacct", "scontrol", "sbatch"):
        (shims / name).write_text(f'#!/bin/sh\necho {name} >> {count}\nexec /usr/bin/{name} "$@"\n')
        (shims / name).chmod(0o755)
    site.environment["PATH"] = f"{shims}:{os.environ['PATH']}"
    process = site.start("hydra.launcher.runs_per_task=1")
    until(lambda: len(site.store.running()) == 2, "two tasks work")
    before = count.read_text().split()
    time.sleep(16)
    after = count.read_text().split()[len(before) :]
    assert set(after) <= {"squeue", "sacct"}
    assert 1 <= len(after) <= 2
    print(f"questions in 16 seconds of waiting: {after}")
    process.kill()


@pytest.mark.slow
def test_on_crash_stop_is_heard_by_all_tasks(make_site: MakeSite) -> None:
    site = make_site("sweep.seeds=8", "on_crash=stop")
    acts(site.store, s0=["crash"], **{f"s{seed}": ["train 20"] for seed in range(1, 8)})
    site.run("hydra.launcher.runs_per_task=4", code=1)
    found = list(site.statuses().values())
    assert found.count("crashed") == 1
    assert found.count("missing") >= 5
    assert_tidy(site)

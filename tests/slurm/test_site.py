"""A real SLURM as its administrators and its users treat it: limits, drained nodes, scancel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bluestab.sweeps.slurm import scheduler
from bluestab.sweeps.slurm.submission import submissions
from bluestab.testing.simulated_runs import acts, attempts
from tests.slurm.conftest import Cluster, Site, until
from tests.slurm.test_slurm import assert_tidy

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

MakeSite = Callable[..., Site]


@contextmanager
def settings(cluster: Cluster, *lines: str) -> Iterator[None]:
    """Lines of slurm.conf for a while."""
    conf = cluster.folder / "slurm.conf"
    before = conf.read_text()

    def restart(text: str) -> None:
        cluster.do("stop-ctld")
        conf.write_text(text)
        cluster.do("start-ctld")
        scheduler.ask("scontrol", "reconfigure")

    restart(before + "\n".join(lines) + "\n")
    try:
        yield
    finally:
        restart(before)


def state(node: str, what: str) -> None:
    scheduler.ask("scontrol", "update", f"NodeName={node}", f"State={what}", "Reason=test")


def test_a_sweep_over_the_limits_of_arrays_and_of_tasks_at_once(
    make_site: MakeSite, cluster: Cluster
) -> None:
    """Three tasks to an array, two at once over all: two arrays, whose tasks do everything."""
    site = make_site("sweep.seeds=10", "hydra.launcher.array_parallelism=2")
    acts(site.store, **{f"s{seed}": ["train 10"] for seed in range(10)})
    with settings(cluster, "MaxArraySize=4"):
        process, most = site.start("hydra.launcher.runs_per_task=1"), 0
        while process.poll() is None:
            most = max(most, sum(t.state == "RUNNING" for t in site.tasks().values()))
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 0, said + site.logs()
    assert re.search(r"submitted 10 runs, 1 per task, as jobs \d+, \d+ \(6 tasks\)", said), said
    assert most == 2
    assert attempts(site.store) == {str(seed): 1 for seed in range(10)}
    assert_tidy(site)


def test_an_account_that_may_submit_few_jobs(make_site: MakeSite, cluster: Cluster) -> None:
    """As many tasks as it may do all the runs; where it may submit none more, it is said."""
    site = make_site("sweep.seeds=9")
    limit = ("sacctmgr", "-i", "modify", "user", "root", "set")
    with settings(cluster, "AccountingStorageEnforce=limits"):
        scheduler.ask(*limit, "MaxSubmitJobs=4")
        try:
            said = site.run("hydra.launcher.runs_per_task=1")
            assert "only 4 of 9 tasks were taken: sbatch says" in said
            assert "AssocMaxSubmitJobLimit" in said
            assert "(4 tasks)" in said
            assert attempts(site.store) == {str(seed): 1 for seed in range(9)}
            full = scheduler.ask(*("sbatch", "--parsable", "--array=0-3", "--wrap", "sleep 60"))
            said = site.run("sweep.seeds=10", code=2)
            scheduler.cancel([full.strip()])
            assert "leave no room for one more: `squeue --me` shows yours" in said
            assert len(submissions(site.store)) == 1
        finally:
            scheduler.ask(*limit, "MaxSubmitJobs=-1")
    assert_tidy(site)


def test_a_node_that_drains(make_site: MakeSite) -> None:
    """What runs on it goes on, the rest goes elsewhere; with all drained, the reason is shown."""
    site = make_site("sweep.seeds=4")
    acts(site.store, **{f"s{seed}": ["train 60"] for seed in range(4)})
    process = site.start("hydra.launcher.runs_per_task=1")
    until(lambda: any(t.node for t in site.live()), "a task runs")
    node = next(t.node for t in site.live() if t.node)
    state(node, "drain")
    try:
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said + site.logs()
        assert attempts(site.store) == {str(seed): 1 for seed in range(4)}
        state("n[1-3]", "drain")
        said = site.run("sweep.seeds=5", "hydra.launcher.wait=false")
        until(lambda: re.search(r"SLURM: 1 pending \(.*Node", site.verb("status")), "a reason")
    finally:
        state("n[1-3]", "resume")
    site.run("sweep.seeds=5")
    assert_tidy(site)


def test_a_task_and_then_all_are_cancelled_by_hand(make_site: MakeSite) -> None:
    """With scancel: the others do the run of the one; after all, the same command goes on."""
    site = make_site("sweep.seeds=3")
    acts(site.store, **{f"s{seed}": ["train 100"] for seed in range(3)})
    process = site.start("hydra.launcher.runs_per_task=1")
    until(lambda: len(site.store.running()) == 3, "three tasks work")
    (job,) = site.submission.jobs()
    scheduler.ask("scancel", f"{job}_1")
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said + site.logs()
    assert set(site.statuses().values()) == {"done"}
    process = site.start("sweep.seeds=5", "hydra.launcher.runs_per_task=1")
    acts(site.store, **{f"s{seed}": ["train 900"] for seed in range(5)})
    until(lambda: len(site.store.running()) == 2, "two tasks work")
    scheduler.ask("scancel", submissions(site.store)[-1].jobs()[0])
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "all tasks have ended, and 2 of 5 runs are missing; the same command goes on" in said
    assert re.search(r"task \d+_0: CANCELLED", said)
    assert_tidy(site)
    acts(site.store)
    site.run("sweep.seeds=5")
    assert set(site.statuses().values()) == {"done"}


def test_data_that_the_nodes_do_not_see(make_site: MakeSite, corpora: Path) -> None:
    """On a scratch disk of the machine that submits: that is what is said, and where."""
    site = make_site("sweep.seeds=2", "hydra.launcher.runs_per_task=1", stand_ins=False)
    data = site.folder / "scratch"
    data.mkdir()
    site.environment["BLUESTAB_DATA"] = str(data)
    said = site.refused_behind(f"mount -t tmpfs none {data} && cp -r {corpora}/. {data}")
    assert (
        "data, models and code must be on a disk that the nodes share; train.tsv: not found" in said
    )


def test_an_interpreter_that_the_nodes_do_not_have(make_site: MakeSite) -> None:
    site = make_site("sweep.seeds=1", stand_ins=False)
    said = site.run("hydra.launcher.python=/scratch/me/python", code=1)
    assert "/scratch/me/python: No such file or directory" in said
    assert "hydra.launcher.python" in said.partition("No such file")[2]

"""A search on a real SLURM: its tasks share one study, whatever becomes of them or the command."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from bluestab.store.claims import Claims
from bluestab.store.store import Store
from bluestab.sweeps.search.told import points, took
from bluestab.sweeps.slurm import scheduler
from bluestab.testing.simulated_runs import release
from tests.slurm.conftest import Cluster, Site, said_until, until
from tests.slurm.test_slurm import last_states
from tests.support import simulated_search

pytestmark = pytest.mark.slurm

SPACE = ("search.space=[llrd]", "optim.lr=tag(log, interval(1e-5, 1e-3))", "search.confirm=0")
SEARCH = ("hydra/sweeper=optuna", *SPACE, "search.seeds=2", "sweep.name=s")


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site(*SEARCH)


def trials(store: Store, storage: str | None = None) -> list[Any]:
    import optuna

    from bluestab.sweeps.search.storage import open_storage

    where = storage or str(store.root / "searches" / "s" / "study.journal")
    return optuna.load_study(study_name="s", storage=open_storage(where)).trials


def at_work(site: Site) -> set[str]:
    """Tasks that hold a point."""
    claims = Claims(site.store.root / "searches" / "s").live().values()
    return {str(claim["job"]).partition(".")[0] for claim in claims}


def assert_each_point_once(site: Site, n: int, storage: str | None = None) -> None:
    found = points(trials(site.store, storage))
    assert len(found) == n
    assert {t.state.name for t in found} <= {"COMPLETE", "PRUNED"}
    assert len({t.user_attrs["cell"] for t in found}) == n
    assert (site.live(), site.store.running(), at_work(site)) == ([], {}, set())


@pytest.mark.parametrize("kind", ["journal", pytest.param("postgres", marks=pytest.mark.slow)])
def test_four_tasks_one_study_and_a_node_that_dies(
    site: Site, cluster: Cluster, kind: str, request: pytest.FixtureRequest
) -> None:
    """The command leaves at once; whoever types it again waits, and gets the report."""
    storage = None if kind == "journal" else request.getfixturevalue(kind)
    simulated_search.acts(site.store.root, all="await end")
    shape = ["search.workers=4", "search.n_trials=8"]
    shape += [] if storage is None else [f"search.storage='{storage}'"]
    said = site.run(*shape, "hydra.launcher.wait=false")
    (job,) = site.submission.jobs()
    assert f"submitted as job {job} (4 tasks)" in said
    until(lambda: len(at_work(site)) == 4, "four tasks work")
    node = site.live()[0].node
    cluster.do("kill-node", node)
    try:
        process = site.start(*shape)
        until(lambda: len(at_work(site)) < 4, "some are dead")
        said_until(process, f"job {job} (4 tasks) works on it already; attached")
        until(lambda: len(at_work(site)) == 4, "they have come back")
        release(site.store, "end")
        said, _ = process.communicate(timeout=600)
    finally:
        cluster.do("start-node", node)
    assert process.returncode == 0, said + site.logs()
    assert "best" in said
    assert (site.folder / "report" / "s" / "search.html").is_file()
    assert_each_point_once(site, 8, storage)
    again = Counter(simulated_search.attempts(site.store.root))
    assert sum(n - 1 for n in again.values()) <= 2, "only what the node was doing is done again"
    at_it = {i for i in range(4) if any(took(f"{job}_{i}", t) for t in trials(site.store, storage))}
    assert len(at_it) == 4


@pytest.mark.slow
def test_requeued_and_cancelled_points_are_given_back(site: Site) -> None:
    simulated_search.acts(site.store.root, all=600)
    process = site.start("search.workers=2", "search.n_trials=4")
    until(lambda: len(at_work(site)) == 2, "two tasks work")
    first = sorted(at_work(site))[0]
    scheduler.requeue(first)
    until(
        lambda: any(t.user_attrs.get("why") == "interrupted" for t in trials(site.store)),
        "given back",
    )
    until(lambda: site.tasks()[first].restarts == 1, "it starts again")
    until(lambda: len(at_work(site)) == 2, "two tasks work again")
    assert [t.user_attrs.get("deaths", {}) for t in trials(site.store)] == [{}] * len(
        trials(site.store)
    )
    process.send_signal(signal.SIGKILL)
    assert "cancelled: job" in site.verb("cancel", "--sweep", "s")
    assert (site.live(), site.store.running(), at_work(site)) == ([], {}, set())
    simulated_search.acts(site.store.root)
    said = site.run("search.workers=2", "search.n_trials=4")
    assert "submitted as" in said
    assert_each_point_once(site, 4)


@pytest.mark.slow
def test_a_point_that_crashes_fails_its_task_alone(site: Site) -> None:
    simulated_search.acts(site.store.root, s1="crash")
    said = site.run("search.workers=2", "search.n_trials=3", "search.race.kind=none", code=1)
    assert "3 of 3 points crashed" in said
    assert set(last_states(site).values()) <= {"FAILED", "COMPLETED"}
    assert "FAILED" in last_states(site).values()
    simulated_search.acts(site.store.root)
    said = site.run("search.workers=2", "search.n_trials=3", "search.race.kind=none")
    assert "3 points that crashed are tried again" in said
    assert {t.state.name for t in points(trials(site.store))} == {"COMPLETE"}

"""Tasks one after another on a real SLURM: whatever happens between stages, the bytes are those of
`local`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bluestab.store.records import to_json
from bluestab.store.store import Store
from bluestab.testing.corpora import ANY_FILE, ON_ANY_DEVICE
from tests.slurm.conftest import Cluster, Site, until

pytestmark = pytest.mark.slurm

YAML = """\
# Three tasks of the tests.
tasks: [gad, ncbi_disease, biosses]
orders: 1
order_seed: 0
from: last
keep_data: true
"""
ASKED = (
    *("+sequence=three", *ANY_FILE, "model=tiny", "device=cpu", "task.max_length=32"),
    *ON_ANY_DEVICE,
    "technique=none,ewc",
)


@pytest.fixture
def make_sequence(make_site: Callable[..., Site]) -> Callable[..., Site]:
    def make(*overrides: str) -> Site:
        site = make_site(stand_ins=False)
        yaml = site.folder / "conf/sequence/three.yaml"
        yaml.parent.mkdir(parents=True)
        yaml.write_text(YAML, encoding="utf-8")
        site.common[:] = [*ASKED, *overrides]
        return site

    return make


def results(root: Path) -> dict[str, str]:
    store = Store(root)
    return {key: to_json(store.read(key).result) for key in list(store.keys())}


def assert_as_local(site: Site, n: int) -> None:
    """n: runs, where arms share their first stage."""
    site.verb("run", "-m", *site.common, "hydra/launcher=local", "store=alone")
    found = results(site.store.root)
    assert len(found) == n
    assert found == results(site.folder / "alone")


def test_stages_are_those_of_one_machine(make_sequence: Callable[..., Site]) -> None:
    site = make_sequence("optim.steps=2", "sweep.seeds=1")
    site.run("hydra.launcher.runs_per_task=2")
    assert_as_local(site, 5)


@pytest.mark.slow
def test_a_node_that_dies_between_stages(
    make_sequence: Callable[..., Site], cluster: Cluster
) -> None:
    site = make_sequence("optim.steps=60", "checkpoint_every=2", "sweep.seeds=2")
    process = site.start("hydra.launcher.runs_per_task=1")

    def nodes_at_later_stages() -> list[str]:
        begun = len(site.store.keys()) >= 2 and site.store.running()
        return [task.node for task in site.live() if begun and task.node]

    until(nodes_at_later_stages, "a later stage runs")
    (node, *_) = nodes_at_later_stages()
    cluster.do("kill-node", node)
    try:
        said, _ = process.communicate(timeout=900)
    finally:
        cluster.do("start-node", node)
    assert process.returncode == 0, said + site.logs()
    assert_as_local(site, 10)

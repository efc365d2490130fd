"""What a launch leaves in the manifest: which seeds were there when more were asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bluestab.core.errors import ConfigError, StoreError
from bluestab.store.store import Store
from bluestab.sweeps.launches import launches
from bluestab.sweeps.plan import _declared
from tests.report.test_report import LLRD, record

NONE = [record(0.5 + 0.01 * seed, seed=seed) for seed in range(9)]
WITH_LLRD = [record(0.6 + 0.01 * seed, LLRD, seed=seed) for seed in range(9)]


def launch(store: Store, name: str, *records: object) -> list[dict[str, object]]:
    """As `begin` does: the manifest is written, then runs are done."""
    runs = [(one.key, one.result["cell"]) for one in records]  # type: ignore[attr-defined]
    found = launches(store, runs, f"bluestab run -m {name}")
    listed = [{"key": key, "cell": cell, "overrides": []} for key, cell in runs]
    store.write_manifest(name, {"name": name, "command": "c", "runs": listed, "launches": found})
    return [dict(one) for one in found]


def do(store: Store, *records: object) -> None:
    for one in records:
        with store.building(one.key) as work:  # type: ignore[attr-defined]
            store.finish(work, one)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "runs")
    found.make_writable()
    return found


def test_seeds_that_are_added_to_results(store: Store) -> None:
    first = launch(store, "a", *NONE[:5])
    assert first == [{"asked": 5, "done": 0, "added_to": [], "command": "bluestab run -m a"}], (
        "there was nothing to see"
    )
    do(store, *NONE[:3])
    assert launch(store, "a", *NONE[:5]) == first, "going on asks for nothing new"
    do(store, *NONE[3:5])
    second = launch(store, "a", *NONE[:9])
    assert second[:1] == first
    assert second[1] == {
        "asked": 4, "done": 5, "added_to": [NONE[0].result["cell"]],
        "command": "bluestab run -m a",
    }  # fmt: skip
    assert launch(store, "a", *NONE[:9]) == second


def test_a_sweep_of_another_name_knows_of_it(store: Store) -> None:
    """Without `sweep.name` the number of seeds is part of the name."""
    launch(store, "five", *NONE[:5])
    do(store, *NONE[:5])
    (_, second) = launch(store, "nine", *NONE[:9])
    assert second["added_to"] == [NONE[0].result["cell"]]
    assert len(launch(store, "nine", *NONE[:9])) == 2


@pytest.mark.parametrize(
    ("command", "same", "more"),
    [("bluestab run task=biosses seed=1", True, True), ("bluestab run -m seed=1,2", False, True)],
)
def test_runs_that_no_sweep_asked_for(store: Store, command: str, same: bool, more: bool) -> None:
    """Seeds that commands of their own made are looks; those of a sweep whose manifest was taken
    away came at once."""
    cell = NONE[0].result["cell"]
    do(store, *(replace(o, measured={**o.measured, "command": command}) for o in NONE[:3]))
    for records, added in ((NONE[:1], False), (NONE[:3], same), (NONE[:9], more)):
        found = launch(store, "a", *records)[0]
        assert (found["added_to"], found["done"]) == ([cell] * added, min(3, len(records)))
        (store.root / "sweeps/a.json").unlink()


def test_another_arm_is_no_other_look(store: Store) -> None:
    launch(store, "a", *NONE[:5])
    do(store, *NONE[:5])
    found = launch(store, "a", *NONE[:5], *WITH_LLRD[:5])
    assert [one["added_to"] for one in found] == [[], []]
    assert launch(store, "b", record(0.5, seed=3, task="gad"))[0]["done"] == 0


def test_a_manifest_of_a_stranger_is_checked(store: Store) -> None:
    for wrong in ("x", [{"asked": 1}], [{"asked": 1, "done": 0, "added_to": "x", "command": ""}]):
        store.write_manifest("m", {"name": "m", "command": "", "runs": [], "launches": wrong})
        with pytest.raises(StoreError, match="launches"):
            store.manifest("m")
    store.write_manifest("m", {"name": "m", "command": "", "runs": [], "declared": 3})
    with pytest.raises(StoreError, match="declared is 3"):
        store.manifest("m")
    assert launches(store, [("a" * 16, "b" * 16)], "c")[0]["asked"] == 1, "a damaged one is no bar"


def test_what_is_declared() -> None:
    assert _declared({}) == {"baseline": "none", "difference": 0.01}
    assert _declared({"baseline": "llrd", "difference": 1}) == {
        "baseline": "llrd", "difference": 1.0,
    }  # fmt: skip
    for wrong in (0, -1, "x", None, True, float("inf")):
        with pytest.raises(ConfigError, match=r"sweep\.difference"):
            _declared({"difference": wrong})

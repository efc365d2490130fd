"""Two stores become one; conflicts are listed, and damage does not spread."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import StoreError
from bluestab.store.gc import orphans, remove
from bluestab.store.merge import differences, merge
from bluestab.store.store import Store
from bluestab.store.verify import problems
from tests.store.test_store import every_death
from tests.support.stored_runs import put, run, sweep, tree


def test_what_the_other_one_has_is_added(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    put(other, run(1))  # in both
    put(other, run(10))
    put(other, run(3))  # crashed in the first
    for seed in (11, 0):  # a crash nobody knows, and one of a run that is finished here
        put(other, run(seed, "crashed"))
    sweep(other, "t", run(10))
    before = tree(other.root)
    merged = merge(store, other)
    assert sorted(merged.runs) == sorted([run(10).key, run(3).key])
    assert merged.crashes == [run(11).key]
    assert (merged.sweeps, merged.present) == (["t"], 1)
    assert (merged.left_out, merged.replaced) == ([], [])
    assert tree(other.root) == before, "the source stays as it is"
    assert tree(store.folder(run(10).key)) == tree(other.folder(run(10).key))
    assert store.crash(run(3).key) is None
    assert list(problems(store)) == []
    whole = tree(store.root)
    again = merge(store, other)
    assert (again.runs, again.crashes, again.sweeps, again.present) == ([], [], [], 3)
    assert tree(store.root) == whole


def test_conflicts_are_all_listed_and_nothing_is_copied(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    put(other, run(10))
    put(other, run(0, steps=5))
    put(other, run(1, warmup_steps=0, best_step=2))
    before = tree(store.root)
    with pytest.raises(StoreError) as caught:
        merge(store, other)
    said = str(caught.value)
    for line in (
        f"{run(0).key}: steps is 4 and 5",
        f"{run(1).key}: warmup_steps is 1 and 0",
        f"{run(1).key}: best_step is 4 and 2",
    ):
        assert line in said
    assert tree(store.root) == before


def test_what_is_null_may_be_absent(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    put(other, run(0, censored=None, micro_batch=None))
    assert merge(store, other).present == 1
    third = Store(tmp_path / "third")
    put(third, run(0, micro_batch=4))
    with pytest.raises(StoreError, match="micro_batch is None and 4"):
        merge(store, third)


def test_differences() -> None:
    a = {"x": {"y": [1, 2], "z": None}, "same": 1}
    b = {"x": {"y": [1, 3]}, "same": 1, "more": "b"}
    assert differences(a, b) == {"x.y": ([1, 2], [1, 3]), "more": (None, "b")}
    assert differences(a, a) == {}


def test_manifests_of_one_name(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    sweep(other, "same", run(0))
    sweep(store, "same", run(0))
    sweep(other, "s", run(0))  # another sweep of that name
    file = other.root / "sweeps" / "s.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "written": "2001-01-01T00:00:00Z"}))
    assert merge(store, other).sweeps == ["s-2"]
    added = store.manifest("s-2")
    assert added is not None
    assert (added["name"], len(added["runs"])) == ("s-2", 1)
    assert next(iter(store.manifests())) == "s-2", "as old as it was"
    assert merge(store, other).sweeps == []
    sweep(other, "s", run(1))
    assert merge(store, other).sweeps == ["s-3"]


def test_names_that_differ_in_case_only_are_two(store: Store, tmp_path: Path) -> None:
    """Where a file system ignores case, one would replace the other."""
    sweep(store, "fine", run(0))
    with pytest.raises(StoreError, match="'fine', from which 'Fine' differs in case only"):
        sweep(store, "Fine", run(1))
    other = Store(tmp_path / "other")
    put(other, run(1))
    sweep(other, "FINE", run(1))
    assert merge(store, other).sweeps == ["FINE-2"]
    assert merge(store, other).sweeps == []
    sweep(store, "fine", run(0), run(2))


def test_damage_does_not_spread_and_is_healed(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    (put(other, run(10)) / "record.json").write_text("{")
    (put(other, run(11)) / "log.txt").write_text("changed")
    put(other, run(0))
    (other.root / "sweeps").mkdir()
    (other.root / "sweeps" / "bad.json").write_text("{")
    (store.folder(run(0).key) / "record.json").write_text("{")
    merged = merge(store, other)
    assert merged.runs == [run(0).key]
    assert [place.name for place in merged.replaced] == [f"{run(0).key}.1"]
    assert len(merged.left_out) == 3
    assert all(str(other.root) in sentence for sentence in merged.left_out)
    assert list(problems(store)) == []
    assert not store.has(run(11).key)


def test_killed_anywhere_and_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Store(tmp_path / "other")
    for seed in (0, 1):
        put(other, run(seed))
    put(other, run(2, "crashed"))
    sweep(other, "s", run(0))
    whole = tree(other.root)
    numbers = iter(range(1000))
    target = [Store(tmp_path)]

    def action() -> None:
        target[0] = Store(tmp_path / f"into{next(numbers)}")
        merge(target[0], other)

    for _ in every_death(monkeypatch, action):
        store = target[0]
        assert list(problems(store)) == [], "what is there is whole"
        merge(store, other)
        assert set(tree(store.root).items()) >= set(whole.items())
        for leftover in orphans(store):
            remove(leftover)
        assert set(store.keys()) == {run(0).key, run(1).key}
        assert store.crash(run(2).key) is not None
        assert list(store.manifests()) == ["s"]
        assert list(problems(store)) == []


def test_merge_on_the_command_line(cli: Callable[..., Any]) -> None:
    put(Store("a"), run(0))
    put(Store("b"), run(1))
    said = cli("store", "merge", "a", "b")
    assert (said.code, said.err) == (0, "")
    assert "a: added 1 run, 0 crashes, 0 sweeps" in said.out
    put(Store("c"), run(1, steps=9))
    said = cli("store", "merge", "a", "c")
    assert said.code == 2
    assert "disagree" in said.err
    assert "the same store" in cli("store", "merge", "a", "./a").err
    assert "there is no store 'x'" in cli("store", "merge", "a", "x").err
    (put(Store("d"), run(4)) / "log.txt").write_text("changed")
    said = cli("store", "merge", "a", "d")
    assert said.code == 1
    assert "not taken:" in said.out

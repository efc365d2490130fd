"""What may be removed from a store, what is found damaged in it, and taking in another store."""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bluestab.core.errors import StoreError
from bluestab.core.keys import cell_of, key_of
from bluestab.core.types import RunRecord
from bluestab.store.gc import orphans, remove
from bluestab.store.merge import differences, merge
from bluestab.store.records import to_json
from bluestab.store.store import Store, parse_record
from bluestab.store.verify import problems
from tests.conftest import DEAD
from tests.store.test_store import every_death

ASSETS = Path(__file__).parents[1] / "assets" / "records" / "schema2"
HERE = socket.gethostname()
DAY = 86400.0


def run(seed: int, status: str = "done", **changed: Any) -> RunRecord:
    """A real record, of another seed; of one seed they are the same run, whatever became of it."""
    found = parse_record(ASSETS / f"{status}.json")
    result = copy.deepcopy(dict(found.result))
    result["config"] = copy.deepcopy(parse_record(ASSETS / "done.json").result["config"])
    result["config"]["seeds"] = dict.fromkeys(("init", "order", "dropout"), seed) | {"split": 0}
    result |= {"key": key_of(result["config"]), "cell": cell_of(result["config"]), **changed}
    return RunRecord(found.schema, result, found.measured)


def put(store: Store, record: RunRecord, log: str = "a line\n") -> Path:
    """Write a run as `execute` does, predictions included."""
    with store.building(record.key) as work:
        (work / "log.txt").write_text(log)
        if record.status == "crashed":
            return store.keep_crash(work, record)
        n = 2 * record.result["items"]["test"] if record.status == "done" else 0
        pq.write_table(pa.table({"id": [str(i) for i in range(n)]}), work / "predictions.parquet")
        store.finish(work, record)
    return store.folder(record.key)


def sweep(store: Store, name: str, *records: RunRecord) -> None:
    runs = [{"key": one.key, "overrides": []} for one in records]
    store.write_manifest(name, {"name": name, "command": "bluestab run -m", "runs": runs})


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    for each in (*path.rglob("*"), path):
        os.utime(each, (then, then))


# --- gc --------------------------------------------------------------------------------------


@pytest.fixture
def dead() -> int:
    """A process that is gone."""
    return DEAD


def test_only_what_is_left_over_goes(tmp_path: Path, dead: int) -> None:
    store = Store(tmp_path)
    done, damaged, missing, unknown = (run(seed) for seed in range(4))
    crash, crash_then_done = run(5, "crashed"), run(6, "crashed")
    for record in (done, damaged, crash, crash_then_done):
        put(store, record)
    sweep(store, "s", done, missing)
    record_file = store.folder(damaged.key) / "record.json"
    record_file.write_text(record_file.read_text()[:-40])
    saved = tmp_path / "saved"
    shutil.copytree(store.crash_folder(crash_then_done.key), saved)
    put(store, run(6))
    saved.rename(store.crash_folder(crash_then_done.key))

    def make(name: str, days: float = 0.0, *, file: bool = False) -> str:
        path = tmp_path / name
        if file:
            path.write_text("x")
        else:
            (path / "inside").mkdir(parents=True)
            (path / "inside" / "weights").write_bytes(b"12345")
        age(path, days)
        return name

    key = run(8).key  # of no sweep, and in progress
    goes = {
        make(f".work/{key}.{HERE}.{dead}"),
        make(f".work/{key}.node-7.cluster.org.12", 8),
        make(f".work/incomplete.{key}.{os.getpid()}"),
        make(f".work/.probe.{HERE}.{dead}", file=True),
        make(f"sweeps/.s.json.{HERE}.{dead}", file=True),
        make(f"sweeps/.s.json.{os.getpid()}", 0.1, file=True),
        make(f"..index.parquet.node-7.cluster.org.{dead}", 0.1, file=True),
        make(f".resume/{done.key}"),
        make(f".resume/{unknown.key}", 8),
        f".crashed/{crash_then_done.key}",
    }
    stays = {
        make(f".work/{key}.{HERE}.{os.getpid()}", 100),
        make(f".work/{key}.node-7.cluster.org.{dead}", 6),
        make(f".work/.probe.node-7.{dead}", file=True),
        make(".work/something else", 100),
        make(f"sweeps/.s.json.{HERE}.{os.getpid()}", 100, file=True),
        make(f"sweeps/.s.json.node-7.{dead}", file=True),
        make(f".resume/{damaged.key}"),
        make(f".resume/{missing.key}", 100),
        make(f".resume/{run(7).key}", 6),
        f".crashed/{crash.key}",
        done.key,
        damaged.key,
        "sweeps/s.json",
    }
    found = {str(left.path.relative_to(tmp_path)): left for left in orphans(store)}
    assert set(found) == goes
    assert found[f".resume/{unknown.key}"].bytes == 5
    before = tree(tmp_path)
    assert [remove(left) for left in found.values()] == [None] * len(goes)
    assert [remove(left) for left in found.values()] == [None] * len(goes), "already gone"
    kept = {
        name: data
        for name, data in before.items()
        if not any(name == one or name.startswith(f"{one}/") for one in goes)
    }
    assert tree(tmp_path) == kept
    assert all((tmp_path / name).exists() for name in stays)
    assert orphans(store) == []


def test_work_of_a_live_process_is_not_touched(tmp_path: Path) -> None:
    """Not even what would go, were nobody at it."""
    store = Store(tmp_path)
    record = run(0)
    (tmp_path / ".resume" / record.key).mkdir(parents=True)
    age(tmp_path / ".resume" / record.key, 100)
    put(store, run(1))
    (tmp_path / ".crashed" / run(1).key).mkdir(parents=True)
    first, second = store.claims.take(record.key), store.claims.take(run(1).key)
    assert first is not None
    assert second is not None
    with first, second:
        assert orphans(store, older_days=0) == []
    assert [left.path.name for left in orphans(store)] == [run(1).key, record.key]


def test_claims_and_workers_of_dead_processes(tmp_path: Path, dead: int) -> None:
    store = Store(tmp_path)
    for number, changes in enumerate(({"process_start": "1"}, {"machine": "gone//"}, {})):
        claim = store.claims.take(f"{number:016x}")
        assert claim is not None
        content = json.loads(claim.path.read_text())
        claim.path.write_text(json.dumps({**content, **changes}))
    (tmp_path / ".work").mkdir()
    for pid in (dead, os.getpid()):
        (tmp_path / ".work" / f"worker-12.{HERE}.{pid}").write_text("")
    names = [left.path.name for left in orphans(store)]
    assert names == [f"worker-12.{HERE}.{dead}", f"{0:016x}"]
    age(tmp_path / ".claims", 100)
    names = [left.path.name for left in orphans(store)]
    assert names == [f"worker-12.{HERE}.{dead}", f"{0:016x}", f"{1:016x}"]


def test_a_damaged_manifest_makes_no_orphans(tmp_path: Path) -> None:
    """What cannot be read may name the run."""
    store = Store(tmp_path)
    (tmp_path / ".resume" / run(0).key).mkdir(parents=True)
    age(tmp_path / ".resume", 100)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "s.json").write_text("{")
    assert orphans(store) == []


def test_gc_says_what_it_does(cli: Callable[..., Any], dead: int) -> None:
    store = Store("runs")
    put(store, run(0))
    path = Path(f"runs/.work/{run(1).key}.{HERE}.{dead}")
    path.mkdir()
    (path / "weights").write_bytes(b"x" * 1500)
    said = cli("store", "gc", "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert f"{path}  1.5 kB" in said.out
    assert "1 leftovers would be removed, 1.5 kB" in said.out
    assert path.exists()
    assert "1 leftovers removed, 1.5 kB" in cli("store", "gc").out
    assert not path.exists()
    assert "0 leftovers removed, 0 B" in cli("store", "gc", "runs").out
    assert cli("store", "gc", "--older", "-1").code == 2
    assert cli("store", "gc", "nowhere").code == 2


def test_what_cannot_be_removed_is_said(
    cli: Callable[..., Any], dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(f"runs/.work/{run(1).key}.{HERE}.{dead}").mkdir(parents=True)

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refused)
    said = cli("store", "gc")
    assert said.code == 1
    assert "0 leftovers removed" in said.out
    assert "cannot be removed (Permission denied)" in said.out


# --- verify ----------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two finished runs, a diverged one, a crash, a sweep."""
    store = Store(tmp_path / "store")
    records = [run(0), run(1), run(2, "diverged"), run(3, "crashed")]
    for record in records:
        put(store, record)
    sweep(store, "s", *records)
    return store


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(to_json(content))


def test_nothing_is_wrong_with_a_whole_store(store: Store) -> None:
    assert list(problems(store)) == []


def schema_1(content: dict[str, Any]) -> None:
    content["schema"] = 1
    del content["checksum"]
    del content["measured"]["files"]


DAMAGE: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda f: (f / "record.json").write_text("{"), "is damaged"),
    "edited": (
        lambda f: rewrite(f / "record.json", lambda c: c["result"].update(steps=99)),
        "checksum does not fit",
    ),
    "newer": (
        lambda f: rewrite(f / "record.json", lambda c: c.update(schema=99)),
        "schema 99",
    ),
    "no record": (lambda f: (f / "record.json").unlink(), "holds no record"),
    "renamed": (lambda f: f.rename(f.parent / "0123456789abcdef"), "it is the record of run"),
    "log": (lambda f: (f / "log.txt").write_text("b line\n"), "log.txt is not what was written"),
    "no log": (lambda f: (f / "log.txt").unlink(), "log.txt cannot be read .*record.json lists"),
    "predictions": (
        lambda f: pq.write_table(pa.table({"id": ["1"]}), f / "predictions.parquet"),
        "predictions.parquet is not what was written.*has 1 rows, expected 40",
    ),
    "old, edited": (
        lambda f: rewrite(
            f / "record.json",
            lambda c: (schema_1(c), c["result"]["config"]["optim"].update(lr=1)),
        ),
        "its config was changed",
    ),
    "old, predictions": (
        lambda f: (
            rewrite(f / "record.json", schema_1),
            (f / "predictions.parquet").write_bytes(b"PAR1"),
        ),
        "predictions.parquet cannot be read",
    ),
    "manifest": (lambda f: (f.parent / "sweeps/s.json").write_text("[]"), "s.json is damaged"),
    "crash": (
        lambda f: next((f.parent / ".crashed").glob("*/record.json")).write_text(""),
        "is damaged",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found(store: Store, kind: str) -> None:
    import re

    do, said = DAMAGE[kind]
    do(store.folder(run(0).key))
    found = " ".join(problems(store))
    assert re.search(said, found), found
    assert len(list(problems(store))) == (2 if kind == "predictions" else 1)


def test_a_run_without_files_of_schema_1_is_whole(store: Store) -> None:
    rewrite(store.folder(run(0).key) / "record.json", schema_1)
    assert list(problems(store)) == []


def test_one_flipped_bit_anywhere_is_found(store: Store) -> None:
    for file in sorted(store.folder(run(0).key).iterdir()):
        whole = file.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1}:
            flipped = bytearray(whole)
            flipped[at] ^= 4
            file.write_bytes(flipped)
            assert list(problems(store)), (file.name, at)
        file.write_bytes(whole)
    assert list(problems(store)) == []


def test_verify_exits_1_and_says_what_to_do(cli: Callable[..., Any]) -> None:
    store = Store("runs")
    folder = put(store, run(0))
    said = cli("store", "verify")
    assert (said.code, said.err) == (0, "")
    assert "1 finished runs, 0 sweeps, 0 problems" in said.out
    (folder / "log.txt").write_text("")
    said = cli("store", "verify")
    assert said.code == 1
    assert "1 problems" in said.out
    assert "what to do: " in said.out
    (folder / "record.json").write_text("")
    store.set_aside_damaged(run(0).key)
    assert "0 problems; 1 set aside in .damaged" in cli("store", "verify").out


# --- merge -----------------------------------------------------------------------------------


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
    then = 10**18
    os.utime(other.root / "sweeps" / "s.json", ns=(then, then))
    assert merge(store, other).sweeps == ["s-2"]
    added = store.manifest("s-2")
    assert added is not None
    assert (added["name"], len(added["runs"])) == ("s-2", 1)
    assert next(iter(store.manifests())) == "s-2", "as old as it was"
    assert merge(store, other).sweeps == []
    sweep(other, "s", run(1))
    assert merge(store, other).sweeps == ["s-3"]


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
    assert "a: added 1 runs, 0 crashes, 0 sweeps" in said.out
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

"""What is left over is removed, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.store import claims
from bluestab.store.gc import orphans, remove
from bluestab.store.processes import owner
from bluestab.store.store import Store
from tests.conftest import DEAD
from tests.support.stored_runs import put, run, sweep, tree

HERE = owner().rpartition(".")[0]
DAY = 86400.0


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    for each in (*path.rglob("*"), path):
        os.utime(each, (then, then))


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
        make(f".deaths/{done.key}"),
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
        make(f".deaths/{missing.key}", 100),
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


IN_ANOTHER_NAMESPACE = """
import sys, time
from bluestab.store.store import Store
store = Store(sys.argv[1])
with store.claims.take(sys.argv[2]), store.building(sys.argv[2]) as work:
    (work / "log.txt").write_text("at work")
    print("ready", flush=True)
    sys.stdin.read()
    print(work.is_dir())
"""


@pytest.mark.parametrize("claimed", [True, False])
def test_work_in_another_container_with_this_host_name(tmp_path: Path, claimed: bool) -> None:
    """The same host name, another PID namespace: its number is a dead process's here."""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespaces here")
    key = run(8).key
    there = subprocess.Popen(
        [*command, sys.executable, "-c", IN_ANOTHER_NAMESPACE, str(tmp_path), key],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert there.stdout is not None
    assert there.stdout.readline() == "ready\n"
    store = Store(tmp_path)
    if not claimed:
        (tmp_path / ".claims" / key).unlink()
    assert orphans(store) == []
    assert store.abandoned() == []
    with store.building(key):
        said, _ = there.communicate()
    assert said == "True\n", "its folder was still there"


def test_work_out_of_sight_stays_as_long_as_its_claim_beats(tmp_path: Path) -> None:
    store, key = Store(tmp_path), run(8).key
    work = tmp_path / ".work" / f"{key}.node-7.00000000.12"
    (work / "inside").mkdir(parents=True)
    age(work, 100)
    claim = store.claims.take(key)
    assert claim is not None
    claim.path.write_text(json.dumps({**claim.content, "machine": "node-7//"}))
    assert orphans(store) == []
    age(claim.path, 100)
    assert {left.path for left in orphans(store)} == {work, claim.path}


def test_old_names_say_too_little_to_know_the_process(tmp_path: Path, dead: int) -> None:
    """`<host>.<pid>` of this host: it may live in a container; it goes when long untouched."""
    work = tmp_path / ".work" / f"{run(8).key}.{socket.gethostname()}.{dead}"
    work.mkdir(parents=True)
    assert orphans(Store(tmp_path)) == []
    age(work, 8)
    assert [left.path for left in orphans(Store(tmp_path))] == [work]


def test_a_claim_that_beats_is_alive_whatever_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of this machine is a month ahead of that of the machine that works."""
    monkeypatch.setattr(claims, "BEAT", 0.05)
    store, key = Store(tmp_path), run(0).key
    claim = store.claims.take(key)
    assert claim is not None
    claim.content["machine"] = "elsewhere//"
    work = tmp_path / ".work" / f"{key}.node-7.cluster.org.12"
    work.mkdir(parents=True)
    (tmp_path / ".resume" / key).mkdir(parents=True)
    ahead = time.time() + 30 * DAY
    monkeypatch.setattr(time, "time", lambda: ahead)
    with claim:
        time.sleep(0.2)
        assert orphans(Store(tmp_path)) == []
        claim.content["beat"] = -1
        monkeypatch.setattr(claims.Claim, "beat", lambda self: None)
        time.sleep(0.2)
        assert {left.path.name for left in orphans(Store(tmp_path))} == {key, work.name}


def test_weights_that_were_lent_go_when_all_stages_are_done(tmp_path: Path) -> None:
    """Not before the last of them is done; not where a person asked for them; the rest stays."""
    from bluestab.store.verify import problems

    store = Store(tmp_path)
    first, second, third, other = (run(seed) for seed in range(4))
    for record in (first, second):
        with store.building(record.key) as work:
            (work / "checkpoint" / "last").mkdir(parents=True)
            (work / "checkpoint" / "last" / "model.safetensors").write_bytes(b"x" * 5000)
            store.finish(work, record)

    def planned(*, asked: bool = False) -> None:
        def entry(record: Any, before: Any = None, lends: bool = False) -> dict[str, Any]:
            link = [] if before is None else [f"model.init_from=stage:{before.key}:last"]
            mark = {"lends": True} if lends else {}
            return {"key": record.key, "cell": "0" * 16, "overrides": ["seed=0", *link], **mark}

        runs = [
            entry(first, lends=True),
            entry(second, first, lends=True),
            entry(third, second),
            *([entry(first)] if asked else []),
            *([{**entry(other), "overrides": [f"model.init_from={first.key[:6]}"]}] * asked),
        ]
        store.write_manifest("s", {"name": "s", "command": "bluestab run -m", "runs": runs})

    planned()
    assert not orphans(store), "the third stage may hold on to the first task, too"
    put(store, third)
    assert [one.path for one in orphans(store)] == [
        store.folder(key) / "checkpoint" for key in sorted((first.key, second.key))
    ]
    planned(asked=True)
    assert [one.path for one in orphans(store)] == [store.folder(second.key) / "checkpoint"]
    planned()
    before = list(problems(store))
    for one in orphans(store):
        assert remove(one) is None
    assert sorted(store.keys()) == sorted(r.key for r in (first, second, third))
    assert list(problems(store)) == before, "weights that are gone as a whole are no damage"

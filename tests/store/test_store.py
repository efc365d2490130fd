"""Whatever instruction a process dies at, the store holds whole runs or none; and never any text.

A kill is simulated at every file operation in turn: the operation raises, and nothing that a dead
process could not do (clean up) is done afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import StoreError
from bluestab.core.keys import cell_of, key_of
from bluestab.core.types import RECORD_SCHEMA, RunRecord
from bluestab.store import store as store_module
from bluestab.store.files import write_text
from bluestab.store.processes import owner
from bluestab.store.records import DamagedRecord, from_text, to_json, to_text
from bluestab.store.store import Store, parse_record
from tests.conftest import DEAD

KEY = "0123456789abcdef"
OTHER = "fedcba9876543210"


def record(key: str = KEY, status: str = "done", **measured: Any) -> RunRecord:
    error = {"type": "RuntimeError", "message": "boom"} if status == "crashed" else None
    result = {
        "key": key,
        "cell": "c" * 16,
        "config": {"seeds": {}},
        "status": status,
        "metric": "accuracy",
        "error": error,
    }
    names = {"task": "gad", "model": "tiny", "technique": [], "seed": 0}
    return RunRecord(RECORD_SCHEMA, result, {"names": names, "seconds": {"total": 1.0}, **measured})


def build(store: Store, key: str = KEY, **measured: Any) -> None:
    """A finished run with one file beside its record."""
    with store.building(key) as work:
        (work / "curve.csv").write_text("step\n1\n")
        store.finish(work, record(key, **measured))


def stored(store: Store, key: str = KEY) -> RunRecord:
    """What `build` wrote, without the list of files that the store adds."""
    found = store.read(key)
    measured = dict(found.measured)
    assert set(measured.pop("files")) == {"curve.csv"}
    return RunRecord(found.schema, found.result, measured)


class Killed(BaseException):
    """The process is gone."""


OPERATIONS = [
    (Path, "mkdir"),
    (Path, "write_text"),
    (Path, "rename"),
    (Path, "replace"),
    (os, "fsync"),
    (shutil, "rmtree"),
]


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, after: int, *, done: bool) -> Iterator[list[str]]:
    """The process dies at file operation number `after`: before it (half-way through, where it
    writes), or when it is `done`.

    From then on every operation raises: a dead process cleans nothing up.
    """
    names: list[str] = []

    def doomed(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            if len(names) > after:
                raise Killed
            names.append(name)
            if len(names) > after and not done:
                if name == "write_text":
                    real(args[0], args[1][: len(args[1]) // 2], **kwargs)
                raise Killed
            result = real(*args, **kwargs)
            if len(names) > after:
                raise Killed
            return result

        return operation

    with monkeypatch.context() as patch:
        for owner, name in OPERATIONS:
            patch.setattr(owner, name, doomed(name, getattr(owner, name)))
        yield names


def every_death(monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any]) -> Iterator[str]:
    """Do `action` again and again, killed at each of its operations; after each, yield."""
    for done in (False, True):
        after = 0
        while True:
            with dying(monkeypatch, after, done=done) as names:
                try:
                    action()
                except Killed:
                    killed = True
                else:
                    killed = False
            if not killed:
                break
            yield names[-1]
            after += 1
        assert after >= 5, "the operations must be the ones that are used"


def test_a_run_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    published = 0
    numbers = iter(range(1000))
    folder = [tmp_path / "store"]

    def action() -> None:
        folder[0] = tmp_path / f"store{next(numbers)}"
        store = Store(folder[0])
        build(store)

    for operation in every_death(monkeypatch, action):
        store = Store(folder[0])
        seen.append(operation)
        if store.has(KEY):
            published += 1
            assert stored(store) == record()
            assert (store.folder(KEY) / "curve.csv").read_text() == "step\n1\n"
            assert store.keys() == [KEY]
        else:
            assert not store.folder(KEY).exists()
            assert store.keys() == []
        # the next process sees the work of a dead one as nothing, and finishes
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 4_000_001)
            build(store)
        assert store.keys() == [KEY]
        assert stored(store) == record()
    assert {"mkdir", "write_text", "fsync", "replace", "rename"} <= set(seen)
    assert 0 < published < len(seen)


def test_nothing_is_renamed_before_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the rename would leave an empty file under the final name."""
    safe: set[int] = set()
    renamed: list[str] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        safe.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def checked(real: Callable[..., Any]) -> Callable[..., Any]:
        def rename(path: Path, target: Path) -> Any:
            for each in (path, *path.rglob("*")):
                assert each.stat().st_ino in safe, f"{each} is renamed to {target} unsafe"
            renamed.append(Path(target).name)
            return real(path, target)

        return rename

    monkeypatch.setattr(os, "fsync", seen)
    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, checked(getattr(Path, name)))
    store = Store(tmp_path)
    build(store)
    store.write_manifest("s", {"name": "s", "command": "c", "runs": []})
    assert renamed == ["record.json", KEY, "s.json"]


def test_a_manifest_is_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    old = {"name": "s", "command": "old", "runs": []}
    new = {"name": "s", "command": "new", "runs": [{"key": KEY, "overrides": []}]}
    found = set()

    def action() -> None:
        write_text(tmp_path / "sweeps" / "s.json", to_json(old))
        store.write_manifest("s", new)

    action()
    for _ in every_death(monkeypatch, action):
        manifest = store.manifest("s")
        assert manifest is not None
        found.add(manifest["command"])
        assert manifest["runs"] == (new if manifest["command"] == "new" else old)["runs"]
        assert list(store.manifests()) == ["s"]
    assert found == {"old", "new"}


def test_two_processes_that_finish_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They agree, because a run is a function of its config; the first one's record stays."""
    store = Store(tmp_path)
    with store.building(KEY) as first:
        monkeypatch.setattr(os, "getpid", lambda: 4_000_001)
        with store.building(KEY) as second:
            assert first != second
            store.finish(second, record(host="second"))
            store.finish(first, record(host="first"))
    assert store.read(KEY).measured["host"] == "second"
    assert list((tmp_path / ".work").iterdir()) == []


def test_a_folder_without_a_record_is_in_nobodys_way(tmp_path: Path) -> None:
    """An interrupted copy of a store leaves such a folder; the run must not be lost to it."""
    store = Store(tmp_path)
    (tmp_path / KEY).mkdir()
    (tmp_path / KEY / "curve.csv").write_text("half")
    assert not store.has(KEY)
    assert store.keys() == []
    build(store)
    assert stored(store) == record()
    assert (tmp_path / KEY / "curve.csv").read_text() == "step\n1\n"
    assert store.running() == {}


def test_crashes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.crash(KEY) is None
    for host in ("a", "b"):
        with store.building(KEY) as work:
            (work / "log.txt").write_text(f"Traceback of {host}")
            kept = store.keep_crash(work, record(status="crashed", host=host))
        assert not store.has(KEY)
        assert store.keys() == []
        crash = store.crash(KEY)
        assert crash is not None
        assert (crash.status, crash.measured["host"]) == ("crashed", host)
        assert (kept / "log.txt").read_text() == f"Traceback of {host}"
    build(store)
    assert store.crash(KEY) is None
    assert not kept.exists()
    assert store.keys() == [KEY]


def test_what_is_left_undone_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def interrupted() -> None:
        with store.building(KEY) as work:
            (work / "log.txt").write_text("started")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / ".work").iterdir()) == []
    assert store.keys() == []


def test_work_of_dead_processes_is_abandoned(tmp_path: Path) -> None:
    """Only what belongs to a dead process of this machine; others cannot be seen from here."""
    store = Store(tmp_path)
    here = owner().rpartition(".")[0]
    names = (
        f"{OTHER}.{here}.{DEAD}",
        f"{OTHER}.{here}.{os.getpid()}",
        f"{OTHER}.{here}.not-a-number",
        f"{OTHER}.node-7.cluster.org.12",
        f"incomplete.{OTHER}.{os.getpid()}",
        ".probe.x.1",
        "stray",
    )
    for name in names:
        (tmp_path / ".work" / name).mkdir(parents=True)
    assert [folder.name for folder in store.abandoned()] == [names[0]]
    assert store.abandoned(KEY) == []
    with store.building(OTHER):
        assert store.abandoned() == []
        assert (tmp_path / ".work" / names[3]).is_dir()


def test_the_latest_manifest_is_the_one_written_last(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.manifest(None) is None
    for tick, name in enumerate(["b", "a", "c", "b"]):
        path = store.write_manifest(name, {"name": name, "command": str(tick), "runs": []})
        os.utime(path, ns=((9 - tick) * 10**9, (9 - tick) * 10**9))  # as a copy may leave it
    assert list(store.manifests()) == ["a", "c", "b"]
    (tmp_path / "sweeps" / "old.json").write_text("{}")  # says nothing: the time of its file
    os.utime(tmp_path / "sweeps" / "old.json", (2, 2))
    assert list(store.manifests()) == ["old", "a", "c", "b"]
    (tmp_path / "sweeps" / "old.json").unlink()
    latest, named = store.manifest(None), store.manifest("a")
    assert latest is not None
    assert named is not None
    assert (latest["name"], latest["command"]) == ("b", "3")
    assert named["command"] == "1"
    with pytest.raises(StoreError, match=r"has no sweep 'd'; it has: a, c, b"):
        store.manifest("d")


RECORDS = sorted(Path(__file__).parents[1].glob("assets/records/*/*.json"))


def test_there_are_records_of_every_schema_and_kind() -> None:
    kinds = {"crashed", "diverged", "done"}
    found = {(path.parent.name, path.stem) for path in RECORDS}
    assert found == {(f"schema{n}", k) for n in range(1, RECORD_SCHEMA + 1) for k in kinds}


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_records_stay_readable(path: Path) -> None:
    """Written by real runs of the version that had this schema; never edited."""
    text = json.loads(path.read_text())
    assert path.parent.name == f"schema{text['schema']}"
    found = parse_record(path)
    assert found.schema == RECORD_SCHEMA
    assert found.status == path.stem
    assert found.key == key_of(found.result["config"]), "keys are for ever, too"
    assert found.result["cell"] == cell_of(found.result["config"])
    assert {k: v for k, v in found.result.items() if v is not None or k in text["result"]} == (
        text["result"]
    )
    assert found.result.get("censored") is None
    files = found.measured["files"]
    assert files is None if text["schema"] == 1 else "config.yaml" in files
    # and written again it is a record of today
    again = from_text(to_text(found), path, found.key)
    assert again == found


def test_a_record_that_was_changed_is_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    build(store)
    path = tmp_path / KEY / "record.json"
    text = path.read_text()
    for old, new in [
        ("accuracy", "accurccy"),
        ('"total": 1.0', '"total": 1.5'),
        ('"cccc', '"ccdc'),
    ]:
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(DamagedRecord, match=r"checksum does not fit.*store verify"):
            store.read(KEY)
    path.write_text(text)
    assert stored(store) == record()
    (tmp_path / KEY).rename(tmp_path / OTHER)
    with pytest.raises(DamagedRecord, match=f"it is the record of run {KEY}"):
        store.read(OTHER)


def test_a_record_lists_the_files_beside_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.building(KEY) as work:
        (work / "curve.csv").write_text("step\n1\n")
        (work / "checkpoint" / "last").mkdir(parents=True)
        (work / "checkpoint" / "last" / "model.safetensors").write_bytes(b"weights")
        store.finish(work, record())
    assert store.read(KEY).measured["files"] == {
        "curve.csv": hashlib.sha256(b"step\n1\n").hexdigest(),
        "checkpoint/last/model.safetensors": hashlib.sha256(b"weights").hexdigest(),
    }


def test_damaged_runs_are_set_aside(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.set_aside_damaged(KEY) is None, "there is nothing"
    for n in (1, 2):
        build(store)
        assert store.set_aside_damaged(KEY) is None, "it is whole"
        path = tmp_path / KEY / "record.json"
        path.write_text(path.read_text()[:100])
        assert store.set_aside_damaged(KEY) == tmp_path / ".damaged" / f"{KEY}.{n}"
        assert not store.has(KEY)
        assert (tmp_path / ".damaged" / f"{KEY}.{n}" / "curve.csv").read_text() == "step\n1\n"
    with store.building(KEY) as work:
        kept = store.keep_crash(work, record(status="crashed"))
    assert store.set_aside_damaged(KEY) is None
    (kept / "record.json").write_text("")
    assert store.set_aside_damaged(KEY) == tmp_path / ".damaged" / f"{KEY}.3"
    assert store.crash(KEY) is None
    build(store)
    assert store.keys() == [KEY]


def test_what_cannot_be_read_now_is_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file server that does not answer says nothing about a record."""
    store = Store(tmp_path)
    build(store)

    def unreadable(*_: Any, **__: Any) -> str:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "read_text", unreadable)
        with pytest.raises(DamagedRecord, match="Input/output error"):
            store.read(KEY)
        assert store.set_aside_damaged(KEY) is None
    assert store.has(KEY)


def test_two_processes_that_set_the_same_run_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    build(store)
    (tmp_path / KEY / "record.json").write_text("")
    real = Path.mkdir

    def faster(self: Path, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        if self.name == f"{KEY}.1":  # the other one moves it just now
            (tmp_path / KEY).rename(tmp_path / ".damaged" / "theirs")

    monkeypatch.setattr(Path, "mkdir", faster)
    assert store.set_aside_damaged(KEY) is None
    assert [path.name for path in (tmp_path / ".damaged").iterdir()] == ["theirs"]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"schema": 1}', '{"schema": "x", "result": {}, "measured": {}}']
    + ['{"schema": 0, "result": {}, "measured": {}}', '{"schema": 1, "result": 1, "measured": 2}']
    + [
        json.dumps({"schema": 1, "result": {**record().result, lost: None}, "measured": {}})
        for lost in ("key", "status")
    ],
)
def test_damaged_records(tmp_path: Path, content: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(StoreError, match=r"record\.json is damaged .*command sets it aside"):
        parse_record(path)


def test_records_of_the_future(tmp_path: Path) -> None:
    store = Store(tmp_path)
    build(store)
    path = tmp_path / KEY / "record.json"
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 3'))
    with pytest.raises(StoreError, match=r"schema 3, .* reads up to 2; update") as caught:
        store.read(KEY)
    assert not isinstance(caught.value, DamagedRecord)
    with pytest.raises(StoreError, match="update"):
        store.set_aside_damaged(KEY)
    assert store.has(KEY)


def test_json_is_canonical() -> None:
    assert to_json({"b": 1, "a": {"d": [1.5, None], "c": "ä"}}) == (
        '{\n "a": {\n  "c": "ä",\n  "d": [\n   1.5,\n   null\n  ]\n },\n "b": 1\n}\n'
    )
    assert to_json({"x": 1, "y": 2}) == to_json({"y": 2, "x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": float("nan")})


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written \(Not a directory\).*store=FOLDER"):
        Store(tmp_path / "file").make_writable()
    store = Store(tmp_path / "new" / "store")
    store.make_writable()
    assert list((store.root / ".work").iterdir()) == []
    (store.root / "sweeps").write_text("")
    with pytest.raises(StoreError, match=r"s\.json cannot be written"):
        store.write_manifest("s", {})


WORDS = ("TP53", "patients", "colon", "cancer", "diabetes", "mellitus")
"""Words of the small corpora that no file of ours has another reason to hold."""


def test_no_file_of_a_run_holds_text(cli: Callable[..., Any], small: Path) -> None:
    """Corpora may be confidential: ids, labels and scores are kept, sentences never."""
    import pyarrow.parquet as pq

    everything = "".join(path.read_text() for path in small.rglob("*.tsv"))
    assert all(word in everything for word in WORDS)
    anything = [f"task.sha256.{split}=null" for split in ("train", "validation", "test")]
    for task in ("gad", "biosses", "ncbi_disease"):
        said = cli("run", f"task={task}", "model=tiny", *anything, "optim.steps=2", "device=cpu")
        assert said.code == 0, said.err
        assert not any(word in said.out for word in WORDS)
    files = [path for path in Path("runs").glob("*/*") if path.name != ".lock"]
    assert {path.name for path in files} == {
        "record.json",
        "config.yaml",
        "curve.csv",
        "log.txt",
        "predictions.parquet",
    }
    assert len(files) == 15
    ids = set()
    for path in files:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            ids |= set(table["id"].to_pylist())
            text = str(table.to_pylist())
        else:
            text = path.read_text()
        assert text.strip()
        assert not [word for word in WORDS if word in text], path
    assert {"34", "line 1"} <= ids

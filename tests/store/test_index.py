"""The index makes reading fast and is never believed against the files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bluestab.core.errors import StoreError
from bluestab.store import index
from bluestab.store.index import contents
from bluestab.store.store import Store
from tests.report.test_report import record, stored
from tests.support import forked_processes

N = 30


@pytest.fixture(autouse=True)
def _small_stores_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "WORTH", 10)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Thirty finished runs, every tenth diverged, and two crashes."""
    records = [
        record(0.5 + seed / 100, seed=seed, status="done" if seed % 10 else "diverged")
        for seed in range(N)
    ]
    crashes = [record(None, seed=seed, status="crashed") for seed in (N, N + 1)]
    return stored(tmp_path / "runs", [*records, *crashes])


def keys(store: Store) -> list[str]:
    manifest = store.manifest(None)
    assert manifest is not None
    return [run["key"] for run in manifest["runs"]]


def truth(store: Store) -> dict[str, Any]:
    """What the files say, read one by one."""
    found = {key: store.read(key) if store.has(key) else store.crash(key) for key in keys(store)}
    return {key: one for key, one in found.items() if one is not None}


def seen(store: Store) -> dict[str, Any]:
    found = contents(store, keys(store))
    records = dict(zip(found.statuses, found.records(), strict=True))
    assert {key: one.status for key, one in records.items()} == found.statuses
    return records


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files of records that are read."""
    paths: list[Path] = []
    real = index.record_text

    def noted(path: Path) -> str:
        paths.append(path)
        return real(path)

    monkeypatch.setattr(index, "record_text", noted)
    return paths


def test_only_new_records_are_read(store: Store, read: list[Path]) -> None:
    assert seen(store) == truth(store)
    assert len(read) == N + 2
    read.clear()
    assert seen(store) == truth(store)
    assert len(read) == 2, "crashes are few, and not in the index"
    stored(store.root, [record(0.5, seed=seed) for seed in (100, 101)], name="more")
    read.clear()
    found = contents(store)
    assert len(found.statuses) == N + 2
    assert len(read) == 2
    assert list(found.statuses) == store.keys(), "all finished runs"


def test_the_order_is_that_of_the_keys(store: Store) -> None:
    for _ in range(2):
        wanted = keys(store)[::-1]
        assert list(contents(store, wanted).statuses) == wanted


def test_a_small_store_has_no_index(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "WORTH", N + 3)
    assert seen(store) == truth(store)
    assert not (store.root / ".index.parquet").exists()


def test_a_file_that_was_changed_is_read(store: Store) -> None:
    before = seen(store)
    key = next(iter(before))
    file = store.folder(key) / "record.json"
    times = file.stat()
    text = file.read_text()
    file.write_text(text.replace('"steps": 7', '"steps": 8'))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    found = contents(store, keys(store))
    assert "checksum does not fit" in found.damaged[key]
    assert key not in found.statuses
    file.write_text(text)
    assert seen(store) == before


def test_runs_that_are_gone_are_gone(store: Store) -> None:
    before = seen(store)
    gone = list(before)[:15]
    for key in gone:
        shutil.rmtree(store.folder(key))
    assert set(seen(store)) == set(before) - set(gone)
    stored(store.root, [record(0.5, seed=seed) for seed in range(200, 212)], name="more")
    contents(store)
    table = pq.read_table(store.root / ".index.parquet")
    assert sorted(table["key"].to_pylist()) == store.keys(), "written anew, without them"


def test_part_of_the_runs_leaves_the_others_in_the_index(store: Store, read: list[Path]) -> None:
    everything = keys(store)
    contents(store, everything[:12])
    contents(store, everything[12:])
    read.clear()
    assert seen(store) == truth(store)
    assert len(read) == 2


def other_version(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"bluestab_index": b"0"}), path)


def lying(path: Path) -> None:
    """An index of another make: every text is that of one run."""
    table = pq.read_table(path)
    texts = pa.array([table["text"][0].as_py()] * len(table), pa.large_string())
    table = table.set_column(5, pa.field("text", pa.large_string()), texts)
    pq.write_table(table.replace_schema_metadata({b"bluestab_index": b"x"}), path)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda p: p.write_bytes(b""),
    "truncated": lambda p: os.truncate(p, p.stat().st_size // 2),
    "text": lambda p: p.write_text("PAR1 PAR1"),
    "a folder": lambda p: (p.unlink(), p.mkdir()),
    "other columns": lambda p: pq.write_table(pa.table({"key": ["a"]}), p),
    "other version": other_version,
    "lying": lying,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_index_is_ignored_and_replaced(store: Store, kind: str, read: list[Path]) -> None:
    expected = seen(store)
    DAMAGE[kind](store.root / ".index.parquet")
    assert seen(store) == expected
    if kind != "a folder":  # in the way of a new one: slow, but right
        read.clear()
        assert seen(store) == expected
        assert len(read) == 2, "written anew"


def test_any_flipped_byte_changes_nothing(store: Store) -> None:
    expected = seen(store)
    path = store.root / ".index.parquet"
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        flipped = bytearray(whole)
        flipped[at] ^= 0x15
        path.write_bytes(flipped)
        assert seen(store) == expected, at


def test_fewer_texts_than_records_are_no_index(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a flipped byte in the footer can do: a column that reads well and is too short."""
    expected = seen(store)
    read = pq.ParquetFile.read

    def short(self: Any, columns: list[str], **options: Any) -> Any:
        table = read(self, columns, **options)
        return table.slice(1) if columns == ["text"] else table

    monkeypatch.setattr(pq.ParquetFile, "read", short)
    assert seen(store) == expected


def test_where_it_cannot_be_written_everything_works(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    for owner, name in ((pq, "write_table"), (Path, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, refused)
            assert seen(store) == truth(store)
        assert not [path for path in store.root.iterdir() if "index" in path.name]


PROCESS = """
import sys
from bluestab.store import index
from bluestab.store.store import Store
index.WORTH = 10
found = index.contents(Store(sys.argv[1]))
print(len(list(found.records())), len(found.damaged))
"""


@pytest.mark.slow
def test_readers_at_once(store: Store) -> None:
    crowd = [
        forked_processes.start_python(PROCESS, str(store.root.absolute()), cwd=store.root.parent)
        for _ in range(4)
    ]
    assert [process.wait().stdout for process in crowd] == [f"{N} 0\n"] * 4
    names = [path.name for path in store.root.iterdir() if "index" in path.name]
    assert names == [".index.parquet"]
    assert seen(store) == truth(store)


def test_damaged_records_take_nobody_with_them(store: Store) -> None:
    everything = keys(store)
    for key in (everything[0], everything[5]):
        (store.folder(key) / "record.json").write_text("{")
    (store.crash_folder(everything[-1]) / "record.json").write_text("")
    for _ in range(2):
        found = contents(store, everything)
        assert set(found.damaged) == {everything[0], everything[5], everything[-1]}
        assert len(found.statuses) == N + 2 - 3


def test_a_newer_record_is_an_error(store: Store) -> None:
    file = store.folder(keys(store)[0]) / "record.json"
    file.write_text(file.read_text().replace('"schema": 2', '"schema": 99'))
    with pytest.raises(StoreError, match="update bluestab"):
        contents(store)

"""Records and manifests of strangers: whatever they hold, one sentence each, the rest is read."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import StoreError
from bluestab.store.index import contents
from bluestab.store.merge import merge
from bluestab.store.records import DamagedRecord, checksum, from_text, to_json
from bluestab.store.schema import MEASURED, RESULT, SEGMENT, is_segment, segment
from bluestab.store.store import Store, parse_manifest
from bluestab.store.verify import problems
from tests.conftest import Say
from tests.support.stored_runs import ASSETS, put, run, sweep

WRONG: dict[str, Any] = {
    "a number": 1e9,
    "a text": "\x1b[31mred",
    "a list": [[1], {"a": None}],
    "a map": {"last": [], "best": {"test": 3}},
    "true": True,
    "null": None,
}
MANIFEST: dict[str, Any] = {
    "name": "s",
    "command": "bluestab run -m",
    "runs": [{"key": "0" * 16, "overrides": ["seed=0"], "seed": 0, "cell": "1" * 16}],
}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def sealed(content: dict[str, Any]) -> str:
    """The text of a record with the checksum that fits, as a stranger can write it."""
    content = {**content, "checksum": ""}
    blank = to_json(content)
    return blank.replace('"checksum": ""', f'"checksum": "{checksum(blank, "")}"', 1)


def fields() -> Iterator[tuple[str, str, str]]:
    for part, known in (("result", RESULT), ("measured", MEASURED)):
        for name in known:
            for wrong in WRONG:
                yield part, name, wrong


CONTRADICTS = {("result", name, "null") for name in ("metrics", "score")}
"""Of a run that is done."""


@pytest.mark.parametrize(("part", "name", "wrong"), [*fields()])
def test_wrong_types_are_taken_as_they_are_or_named(part: str, name: str, wrong: str) -> None:
    content = json.loads((ASSETS / "done.json").read_text())
    content[part][name] = copy.deepcopy(WRONG[wrong])
    known = {"result": RESULT, "measured": MEASURED}[part]
    where = Path("store/key/record.json")
    if known[name][0](WRONG[wrong]) and (part, name, wrong) not in CONTRADICTS:
        from_text(sealed(content), where)
        return
    with pytest.raises(DamagedRecord, match=f"is damaged.*{name}") as caught:
        from_text(sealed(content), where)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("status", ["done", "diverged", "crashed"])
def test_what_is_written_passes(status: str) -> None:
    for schema in ("schema1", "schema2"):
        file = ASSETS.parent / schema / f"{status}.json"
        assert from_text(file.read_text(), file).status == status


HOSTILE: dict[str, str] = {
    "nested": sealed(
        {**json.loads((ASSETS / "done.json").read_text()), "measured": {"names": deep(60)}}
    ),
    "nested without end": "[" * 200_000,
    "maps without end": '{"a":' * 200_000,
    "a list": "[]",
    "null": "null",
    "a number of a million digits": "1" * 1_000_000,
    "result is a list": sealed({"schema": 2, "result": [], "measured": {}}),
    "schema is true": sealed({"schema": True, "result": {}, "measured": {}}),
    "checksum is a list": json.dumps({"schema": 2, "checksum": [], "result": {}, "measured": {}}),
    "old, upgraded from a list": json.dumps({"schema": 1, "result": [1], "measured": 3}),
    "not finite": '{"schema": NaN}',
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if i % 6 == 0 else pytest.mark.more)
        for i, kind in enumerate(HOSTILE)
    ],
)
def test_one_hostile_record_is_one_line(store: Store, cli: Say, kind: str) -> None:
    (store.folder(run(0).key) / "record.json").write_text(HOSTILE[kind])
    found = contents(store)
    assert list(found.damaged) == [run(0).key]
    assert set(found.statuses) == {run(1).key, run(2).key}
    assert len(list(problems(store))) == 1
    for verb in (["status"], ["report"], ["report", "--all"], ["store", "gc"]):
        said = cli(*verb, str(store.root))
        assert (said.code, said.err) == (0, ""), (verb, said)
    said = cli("store", "merge", "other", str(store.root))
    assert "added 2 runs" in said.out
    assert said.out.count("is damaged") == 1


MANIFESTS: dict[str, Any] = {
    **{
        f"{name}: {wrong}": {**MANIFEST, name: value}
        for name in MANIFEST
        for wrong, value in WRONG.items()
        if not (name == "command" and wrong == "a text")
    },
    **{
        f"run {name}: {wrong}": {**MANIFEST, "runs": [{**MANIFEST["runs"][0], name: value}]}
        for name in ("key", "overrides")
        for wrong, value in WRONG.items()
    },
    "deep": {**MANIFEST, "more": deep(100)},
    "run is a text": {**MANIFEST, "runs": ["x"]},
    **{
        f"named {n!r}": {**MANIFEST, "name": n} for n in ("../../X", "/tmp/x", "a/b", "", ".", "..")
    },
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_hostile_manifests_are_a_sentence(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "s.json"
    file.write_text(json.dumps(MANIFESTS[kind]))
    with pytest.raises(StoreError, match=r"s\.json is damaged") as caught:
        parse_manifest(file)
    assert len(str(caught.value)) < 600


def test_a_manifest_of_too_many_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bluestab.store.schema.MOST_RUNS", 2)
    file = tmp_path / "s.json"
    file.write_text(json.dumps({**MANIFEST, "runs": MANIFEST["runs"] * 2}))
    assert len(parse_manifest(file)["runs"]) == 2
    file.write_text(json.dumps({**MANIFEST, "runs": MANIFEST["runs"] * 3}))
    with pytest.raises(StoreError, match="it lists 3 runs; at most 2 are read"):
        parse_manifest(file)


def test_a_manifest_without_end_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("[" * 200_000)
    with pytest.raises(StoreError, match="is damaged"):
        parse_manifest(tmp_path / "s.json")


@pytest.mark.parametrize(
    "name", ["../../X", "/etc/passwd", "a/b", "", ".", "..", "\x1b[2J", "a\0b", "-x", "ä" * 300]
)
def test_any_name_becomes_one_safe_segment(name: str) -> None:
    safe = segment(name)
    assert SEGMENT.fullmatch(safe), safe
    assert segment(safe) == safe
    assert not is_segment(name)


def test_a_good_name_is_its_own_segment() -> None:
    assert segment("biosses-1a2b.x+y_z") == "biosses-1a2b.x+y_z"


Poison = Callable[[Path, Path], object]


def link_folder(name: str) -> Poison:
    """The stranger's folder `name` is a link to the finished runs of somebody else."""
    return lambda root, victim: (root / name).symlink_to(victim)


@pytest.mark.parametrize(
    "name", [".work", ".claims", ".deaths", ".resume", ".crashed", ".damaged", "sweeps"]
)
def test_nothing_behind_a_link_is_touched(tmp_path: Path, cli: Say, name: str) -> None:
    mine, theirs = Store(tmp_path / "mine"), Store(tmp_path / "theirs")
    for seed in range(3):
        put(mine, run(seed))
        put(theirs, run(seed))
    sweep(mine, "s", run(0), run(1), run(2))
    folder = theirs.root / name
    if folder.is_dir():
        folder.rmdir()
    link_folder(name)(theirs.root, mine.root / "sweeps" if name == "sweeps" else mine.root)
    before = {p: p.stat().st_mtime_ns for p in mine.root.rglob("*")}
    cli("store", "gc", str(theirs.root), "--older", "0")
    said = cli("store", "verify", str(theirs.root))
    assert said.code == 1
    assert f"{name} is a link" in said.out
    cli("report", "--all", str(theirs.root))
    cli("status", str(theirs.root))
    with pytest.raises(StoreError, match="is a link"):
        theirs.make_writable()
    said = cli("store", "merge", str(theirs.root), str(mine.root))
    assert (said.code, "is a link" in said.err) == (2, True)
    merge(Store(tmp_path / "third"), theirs)
    assert {p: p.stat().st_mtime_ns for p in mine.root.rglob("*")} == before


@pytest.mark.parametrize("name", [".resume", ".deaths", ".crashed", "searches"])
def test_nothing_behind_a_link_in_an_own_folder_is_touched(
    tmp_path: Path, store: Store, cli: Say, name: str
) -> None:
    """As a checkpoint would be written, and older ones be deleted, in `.resume/KEY`."""
    mine, link = tmp_path / "mine", store.root / name / ("s" if name == "searches" else run(7).key)
    mine.mkdir()
    (mine / "step-00000002-0123456789abcdef.ckpt").write_text("mine")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(mine)
    with pytest.raises(StoreError, match="is a link"):
        store.make_writable()
    if name != "searches":
        with pytest.raises(StoreError, match="is a link"), store.building(run(7).key):
            raise AssertionError("nothing is built")
    assert f"{link.name} is a link" in cli("store", "verify", str(store.root)).out
    cli("store", "gc", str(store.root), "--older", "0")
    assert [path.name for path in mine.iterdir()] == ["step-00000002-0123456789abcdef.ckpt"]


def test_a_journal_that_is_a_link(store: Store, tmp_path: Path) -> None:
    """A search that goes on would append to a file of somebody else's."""
    (store.root / "searches" / "s").mkdir(parents=True)
    (store.root / "searches" / "s" / "study.journal").symlink_to(tmp_path / "mine")
    with pytest.raises(StoreError, match=r"study\.journal is a link"):
        store.make_writable()


def test_hard_links_are_never_written_through(tmp_path: Path, cli: Say) -> None:
    """Every file of a store is another name of one of mine; new content gets a new file."""
    mine, theirs = tmp_path / "mine", Store(tmp_path / "theirs")
    for seed in (0, 1):
        put(theirs, run(seed))
    put(theirs, run(5, "crashed"))
    sweep(theirs, "s", run(0), run(1))
    other = Store(tmp_path / "other")
    put(other, run(2))
    put(other, run(5))
    sweep(other, "t", run(2))
    log = theirs.folder(run(0).key) / "log.txt"
    log.write_text("from http://bob:planted@host/\n")
    claim = theirs.root / ".claims" / run(9).key
    claim.parent.mkdir(exist_ok=True)
    claim.write_text("{}")
    for n, path in enumerate(p for p in sorted(theirs.root.rglob("*")) if p.is_file()):
        mine.mkdir(exist_ok=True)
        os.link(path, mine / str(n))
    before = {p: (p.read_bytes(), p.stat().st_mode) for p in mine.iterdir()}
    for words in (
        ("store", "gc", "--older", "0"),
        ("store", "gc", "--secrets"),
        ("report", "--all"),
        ("status",),
        ("store", "verify"),
    ):
        assert cli(*words, str(theirs.root)).code in (0, 1)
    assert "planted" not in log.read_text()
    assert cli("store", "merge", str(theirs.root), str(other.root)).code == 0
    sweep(theirs, "s", run(0), run(1), run(2))
    assert {p: (p.read_bytes(), p.stat().st_mode) for p in mine.iterdir()} == before


def test_a_run_that_is_a_link_is_one_line(store: Store, tmp_path: Path, cli: Say) -> None:
    other = Store(tmp_path / "other")
    put(other, run(7))
    (store.root / run(7).key).symlink_to(other.folder(run(7).key))
    (store.root / ("0" * 16)).symlink_to(store.root / ("0" * 16))  # a loop
    said = cli("store", "verify", str(store.root))
    assert said.out.count("is a link") == 2
    assert list(contents(store).damaged) == [run(7).key]
    assert cli("report", "--all", str(store.root)).code == 0
    aside = store.set_aside_damaged(run(7).key)
    assert aside is not None
    assert aside.is_symlink()
    assert other.has(run(7).key)


def test_a_merged_run_brings_no_links(store: Store, tmp_path: Path) -> None:
    (store.folder(run(0).key) / "extra").symlink_to("/etc/hostname")
    merged = merge(Store(tmp_path / "into"), store)
    assert run(0).key not in merged.runs
    assert "extra is a link" in " ".join(merged.left_out)


def test_a_file_that_cannot_be_copied_costs_its_run_alone(store: Store, tmp_path: Path) -> None:
    """A terabyte of nothing filled the disk; a pipe ended the whole merge."""
    os.mkfifo(store.folder(run(0).key) / "extra")
    hole = store.folder(run(1).key) / "log.txt"
    os.truncate(hole, 2**33)
    merged = merge(Store(tmp_path / "into"), store)
    assert merged.runs == [run(2).key]
    pipe, terabyte = sorted(merged.left_out, key=lambda said: "hole" in said)
    assert "extra cannot be read (it is a pipe" in pipe
    assert "log.txt is not what was written: most of it is a hole" in terabyte

"""Damage to a store is found, whatever it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bluestab.store.records import to_json, to_text
from bluestab.store.store import Store
from bluestab.store.verify import problems
from tests.support.stored_runs import put, run, sweep


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


def test_what_it_says_mends_a_file_that_is_no_record(cli: Callable[..., Any]) -> None:
    """A run with a whole record is taken for done and for present, so its folder must go first."""
    store = Store("runs")
    folder = put(store, run(0))
    shutil.copytree("runs", "copy")
    (folder / "log.txt").write_text("")
    said = cli("store", "verify").out
    assert said.index(str(folder)) < said.index("what to do: delete the folders of runs named here")
    assert "0 runs" in cli("store", "merge", "runs", "copy").out
    assert cli("store", "verify").code == 1
    shutil.rmtree(folder)
    assert cli("store", "merge", "runs", "copy").code == 0
    assert cli("store", "verify").code == 0


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "a/b", "..", "a\x1b[31m", ""])
def test_names_that_are_no_file_names_stay_inside_the_report(
    cli: Callable[..., Any], name: str
) -> None:
    """Before, they led the tables of a report out of its folder."""
    store, records = Store("runs"), [run(0), run(1)]
    sweep(store, "s", *records)
    for record in records:
        named = {**record.measured["names"], "task": name, "model": name}
        put(store, replace(record, measured={**record.measured, "names": named}))
    found = [one for one in problems(store) if "which is no file name" in one]
    assert len(found) == 4, "task and model of both runs"
    before = files_of(Path.cwd().parent)
    said = cli("report", "--out", "out")
    assert said.code == 0, said.err
    assert len(list(Path("out/tables").glob("*.tex"))) == 1
    new = files_of(Path.cwd().parent) - before
    assert all(path.is_relative_to(Path.cwd() / "out") for path in new), new


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_record_without_its_number_of_items(tmp_path: Path) -> None:
    """Records of strangers may lack it; what can be checked is."""
    store = Store(tmp_path)
    for items in (None, {}):
        record = run(0)
        put(store, run(0, items={"test": 3}))
        file = store.folder(record.key) / "record.json"
        record = store.read(record.key)
        file.write_text(to_text(replace(record, result={**record.result, "items": items})))
        assert list(problems(store)) == []
        shutil.rmtree(store.folder(record.key))

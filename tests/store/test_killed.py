"""Verbs that write, killed by SIGKILL before every single write, then repeated: nothing is lost,
and what there is equals what a verb leaves that nobody disturbed.

How many kills that were is printed (`make test-slow PYTEST_ARGS=-s`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bluestab.core.errors import ConfigError
from bluestab.inference import stream
from bluestab.store import cleaning, index
from bluestab.store.gc import orphans, remove
from bluestab.store.merge import merge
from bluestab.store.processes import owner
from bluestab.store.store import Store
from bluestab.store.verify import problems
from tests.conftest import DEAD
from tests.inference.formats.test_formats import capitals, tagger
from tests.store.test_cleaning import old_store
from tests.support.killed_anywhere import killed_before
from tests.support.stored_runs import put, run, sweep, tree

Make = Callable[[Path], Path]
Do = Callable[[Path], object]


def two_stores(folder: Path) -> Path:
    into, source = Store(folder / "into"), Store(folder / "source")
    put(into, run(0))
    put(into, run(3, "crashed"))
    sweep(into, "s", run(0))
    damaged = put(into, run(4))
    (damaged / "record.json").write_text("{")
    for record in (run(0), run(1), run(3), run(4), run(5, "crashed")):
        put(source, record)
    sweep(source, "t", run(1), run(3))
    sweep(source, "s", run(0), run(1))
    return folder


def merged(folder: Path) -> None:
    merge(Store(folder / "into"), Store(folder / "source"))


def leftovers(folder: Path) -> Path:
    store = Store(folder / "runs")
    put(store, run(0))
    put(store, run(1, "crashed"))
    shutil.copytree(store.crash_folder(run(1).key), folder / "saved")
    put(store, run(1))
    (folder / "saved").rename(store.crash_folder(run(1).key))
    sweep(store, "s", run(0), run(1))
    gone = f"{owner().rpartition('.')[0]}.{DEAD}"
    for name in (f".work/{run(2).key}.{gone}", f".resume/{run(0).key}"):
        (store.root / name / "inside").mkdir(parents=True)
        (store.root / name / "inside" / "weights").write_bytes(b"12345")
    (store.root / "sweeps" / f".s.json.{gone}").write_text("x")
    return folder


def collected(folder: Path) -> None:
    for orphan in orphans(Store(folder / "runs")):
        assert remove(orphan) is None


def secrets(folder: Path) -> Path:
    old_store(folder / "runs")
    return folder


def cleaned(folder: Path) -> None:
    assert all(said is None for _, said in cleaning.clean(Store(folder / "runs")))


def runs_alone(folder: Path) -> Path:
    for seed in range(3):
        put(Store(folder / "runs"), run(seed))
    return folder


def indexed(folder: Path) -> None:
    index.WORTH = 1
    assert len(index.contents(Store(folder / "runs")).statuses) == 3


def text(folder: Path) -> Path:
    (folder / "in.txt").write_text("".join(f"The Gene{i} and more\n" for i in range(9)))
    return folder


def predicted(folder: Path) -> None:
    stream.CHUNK_ITEMS = 2
    try:
        form = tagger(folder / "in.txt", "text")
        stream.predict_file(form, capitals, folder / "out.txt", {})
    except ConfigError as error:
        if "is there already" not in str(error):
            raise


def a_record(folder: Path) -> Path:
    put(Store(folder / "runs"), run(1, "crashed"))
    return folder


def recorded(folder: Path) -> None:
    store = Store(folder / "runs")
    if not store.has(run(1).key):
        put(store, run(1))
    if store.manifest(None) is None:
        sweep(store, "s", run(1))


VERBS: Mapping[str, tuple[Make, Do]] = {
    "merge": (two_stores, merged),
    "gc": (leftovers, collected),
    "gc --secrets": (secrets, cleaned),
    "index": (runs_alone, indexed),
    "predict": (text, predicted),
    "record": (a_record, recorded),
}
DERIVED = (".index.parquet", ".lock")
NUMBER = re.compile(r"\.damaged/\w+\.\d+/")
TIME = re.compile(rb'"written": "[^"]*"')


def kept(folder: Path) -> dict[str, bytes]:
    """Every file, without what varies and what gc takes away."""
    for name in ("runs", "into"):
        if (folder / name).is_dir():
            for orphan in orphans(Store(folder / name)):
                remove(orphan)
    found = tree(folder)
    return {
        NUMBER.sub(".damaged/", name): TIME.sub(b"", data)
        for name, data in found.items()
        if not name.endswith(DERIVED)
    }


@pytest.mark.parametrize(
    ("verb", "step"),
    [("merge", 9), ("predict", 5), *(pytest.param(v, 1, marks=pytest.mark.slow) for v in VERBS)],
)
def test_killed_before_every_write_and_repeated(tmp_path: Path, verb: str, step: int) -> None:
    make, do = VERBS[verb]
    whole, pristine = tmp_path / "whole", tmp_path / "pristine"
    pristine.mkdir()
    make(pristine)
    shutil.copytree(pristine, whole)
    do(whole)
    expected, kills = kept(whole), 0
    for n in range(0, 10_000, step):
        folder = tmp_path / f"{n}"
        shutil.copytree(pristine, folder)
        if not killed_before(lambda folder=folder: do(folder), n):  # type: ignore[misc]
            break
        kills += 1
        do(folder)
        assert kept(folder) == expected, n
        for name in ("runs", "into"):
            if (folder / name).is_dir():
                assert list(problems(Store(folder / name))) == [], n
        shutil.rmtree(folder)
    print(f"{verb}: {kills} kills, 0 lost, 0 different")
    assert kills > 0

"""Real records put into a store as runs put them, and what lies in it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bluestab.core.keys import cell_of, key_of
from bluestab.core.types import RunRecord
from bluestab.store.store import Store, parse_record

ASSETS = Path(__file__).parents[1] / "assets" / "records" / "schema2"


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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two finished runs, a diverged one, a crash, a sweep."""
    store = Store(tmp_path / "store")
    records = [run(0), run(1), run(2, "diverged"), run(3, "crashed")]
    for record in records:
        put(store, record)
    sweep(store, "s", *records)
    return store

"""A sweep's store, small enough to be kept: records and curves, without predictions and paths.

    python tests/support/shrink_store.py STORE SWEEP OUT.tar.gz

Of where a run was made only the host and the command are taken out; everything that a report is
computed from stays as it was written. Merges of the sweep's runs (`bluestab soup`) come along. The
same store gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bluestab.store.records import to_json, to_text
from bluestab.store.store import Store

KEPT = ("curve.csv",)


def contents(store: Store, sweep: str) -> dict[str, bytes]:
    """Name of a file in the store -> what it holds."""
    manifest = store.manifest(sweep)
    assert manifest is not None
    found = {}
    own = [run["key"] for run in manifest["runs"]]
    for key in [*own, *(key for key in sorted(store.keys()) if _merges(store, key, own))]:
        record, folder = store.read(key), store.folder(key)
        files = {name: sha for name, sha in record.measured["files"].items() if name in KEPT}
        measured = {**record.measured, "files": files, "host": "", "command": ""}
        text = to_text(replace(record, measured=measured))
        found[f"{key}/record.json"] = text.encode()
        found |= {f"{key}/{name}": (folder / name).read_bytes() for name in files}
    for run in manifest["runs"]:
        run["overrides"] = [o for o in run["overrides"] if not o.startswith("store=")]
    words = [w for w in manifest["command"].split() if not w.startswith("store=")]
    found[f"sweeps/{sweep}.json"] = to_json({**manifest, "command": " ".join(words)}).encode()
    return found


def _merges(store: Store, key: str, runs: Sequence[str]) -> bool:
    """Whether it merged some of these runs."""
    merged = store.read(key).result["effects"].get("soup")
    return merged is not None and not set(runs).isdisjoint(merged["members"])


def main(store: str, sweep: str, out: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in sorted(contents(Store(store), sweep).items()):
            entry = tarfile.TarInfo(f"runs/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    Path(out).write_bytes(gzip.compress(buffer.getvalue(), 9, mtime=0))
    print(f"{out}: {Path(out).stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main(*sys.argv[1:])

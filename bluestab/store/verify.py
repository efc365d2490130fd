"""Whether everything in a store is as it was written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.keys import cell_of, key_of
from bluestab.core.plain_files import check_plain, inside
from bluestab.core.types import RunRecord
from bluestab.store.cleaning import files_with_secrets
from bluestab.store.files import digest_of, entries, is_sparse
from bluestab.store.representations import FILE as REPRESENTATIONS
from bluestab.store.representations import read_representations
from bluestab.store.schema import is_segment
from bluestab.store.store import KEY, Store, parse_manifest, parse_record


def problems(store: Store) -> Iterator[str]:
    """Everything in a store that is not as it was written, one sentence each."""
    for path in store.links():
        yield f"{path} is a link to {os.readlink(path)}: nothing behind it belongs to this store"
    for path in entries(store.root, root=True):
        if KEY.fullmatch(path.name) and (os.path.islink(path) or os.path.isdir(path)):
            yield from run_problems(path, path.name)
    for path in entries(store.root / ".crashed"):
        if KEY.fullmatch(path.name):
            yield from run_problems(path, path.name)
    for path in files_with_secrets(store):
        yield (
            f"{path} holds a password, token or key; take it out with: "
            f"bluestab store gc --secrets {store.root}"
        )
    for path in store.manifests().values():
        try:
            parse_manifest(path)
        except StoreError as error:
            yield str(error)


def run_problems(folder: Path, key: str) -> Iterator[str]:
    """What is wrong with the folder of run `key`."""
    file = folder / "record.json"
    if os.path.islink(folder):
        yield f"{folder} is a link to {os.readlink(folder)}: a run is a folder of its own"
        return
    if not os.path.lexists(file) and os.access(folder, os.X_OK):
        yield f"{folder} holds no record; the run's command moves it away and runs it again"
        return
    try:
        record = parse_record(file, key)
    except StoreError as error:
        yield str(error)
        return
    config = record.result["config"]
    if key_of(config) != key or cell_of(config) != record.result["cell"]:
        yield f"{file}: its config has key {key_of(config)}, not {key}; its config was changed"
    for kind in ("task", "model"):
        if not is_segment(name := record.measured["names"][kind]):
            yield (
                f"{file}: its {kind} is named {name!r}, which is no file name; reports write its "
                "tables under a name of letters, digits and . _ + -"
            )
    listed = record.measured["files"]
    if listed is not None:
        yield from file_problems(folder, listed)
    if record.status != "crashed":
        yield from _prediction_problems(folder, record, whole=listed is None)
        yield from _vector_problems(folder / REPRESENTATIONS, record)


def file_problems(folder: Path, listed: Mapping[str, str]) -> Iterator[str]:
    """Files beside a record that are missing, or are not what it lists; weights of one kind may
    have been removed as a whole, since a run makes them again."""
    for name, digest in listed.items():
        if name.startswith("checkpoint/") and not os.path.lexists((folder / name).parent):
            continue
        try:
            file = inside(folder, name, f"{folder / 'record.json'}")
        except ConfigError as error:
            yield str(error)
            continue
        try:
            if is_sparse(file):
                yield f"{file} is not what was written: most of it is a hole"
            elif digest_of(file) != digest:
                yield f"{file} is not what was written: its SHA-256 is not the one in record.json"
        except OSError as error:
            yield f"{file} cannot be read ({error.strerror}), but record.json lists it"


def _prediction_problems(folder: Path, record: RunRecord, *, whole: bool) -> Iterator[str]:
    """Test items at last and best, unless the run diverged.

    whole  read every value; else the number of rows, the content being known by its hash
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / "predictions.parquet"
    items = _test_items(record)
    try:
        check_plain(file)
        found = (pq.read_table(file) if whole else pq.read_metadata(file)).num_rows
    except (OSError, ValueError, pa.ArrowException) as error:
        yield f"{file} cannot be read ({str(error).splitlines()[0]})"
        return
    if items is not None and found != 2 * items:
        yield f"{file} has {found} rows, expected {2 * items}: {items} test items at last and best"


def _vector_problems(file: Path, record: RunRecord) -> Iterator[str]:
    """Vectors of the test items, if there are any; added later, they are in no record."""
    if not os.path.isfile(file):
        return
    try:
        vectors = read_representations(file)
    except StoreError as error:
        yield str(error)
        return
    n_items = _test_items(record)
    shapes = {at: values.shape for at, values in vectors.items()}
    fits = all(len(shape) == 2 and n_items in (None, shape[0]) for shape in shapes.values())
    if "last" not in shapes or not shapes.keys() <= {"last", "best"} or not fits:
        yield f"{file} holds {shapes}, expected last (and best) of {n_items} test items"


def _test_items(record: RunRecord) -> int | None:
    """How many test items there are answers to; None if the record does not say so."""
    return (record.result.get("items") or {}).get("test") if record.status == "done" else 0

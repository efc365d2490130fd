"""Parquet files and folders that Hugging Face `datasets` saved: tables with typed columns.

Read with pyarrow alone: no code that comes with a dataset is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import DataError
from bluestab.core.types import Split
from bluestab.data.formats.base import (
    MOST_CHARACTERS,
    MOST_ROWS,
    Rows,
    short,
    too_long,
    too_many,
)
from bluestab.data.readers import MOST_BYTES, check_kind

if TYPE_CHECKING:
    import pyarrow as pa

NAMES: Mapping[str, Split] = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "devel": "validation", "test": "test",
}  # fmt: skip
"""What folders and files of a dataset are called -> the split they are."""

DAMAGE = (OSError, ValueError, TypeError, LookupError, MemoryError, OverflowError)
"""What reading a damaged table raises beside the exceptions of pyarrow."""

BATCH = 256
"""Rows that are unpacked at once: a text that is there once may stand in all of them."""

PART = re.compile(r"(\w+?)(?:-\d+-of-\d+)?\.parquet")


def parts_of(folder: Path) -> dict[Split, Path]:
    """Split -> folder or file of it, for a folder with a whole dataset; empty if it is none."""
    found: dict[Split, Path] = {}
    if (folder / "dataset_dict.json").is_file():
        for place in sorted(p for p in folder.iterdir() if p.is_dir()):
            if place.name.lower() in NAMES:
                found[NAMES[place.name.lower()]] = place
        return found
    for place in (folder, folder / "data"):
        for file in sorted(place.glob("*.parquet")) if place.is_dir() else ():
            match = PART.fullmatch(file.name)
            if match and match[1].lower() in NAMES:
                found.setdefault(NAMES[match[1].lower()], file)
        if found:
            return found
    return found


def is_dataset(folder: Path) -> bool:
    """Was it written by `Dataset.save_to_disk`?"""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def read_parquet(path: Path) -> Rows:
    """A Parquet file; of one cut in parts (`train-00000-of-00002.parquet`) all parts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.is_dir():
        raise DataError(path, "is a folder, where a Parquet file is expected")
    files = _parts(path)
    tables = []
    n_rows = n_bytes = 0
    for file in files:
        check_kind(file)
        try:
            with pq.ParquetFile(file, page_checksum_verification=True) as found:
                n_rows += found.metadata.num_rows
                if n_rows > MOST_ROWS:
                    raise too_many(path, n_rows, "rows", MOST_ROWS)
                schema, batches = found.schema_arrow, []
                for batch in found.iter_batches(BATCH):
                    n_bytes += batch.nbytes
                    if n_bytes > MOST_BYTES:
                        raise DataError(
                            path,
                            f"unpacks to more than {MOST_BYTES // 1_000_000:,} MB; take a part",
                        )
                    batches.append(batch)
                tables.append(pa.Table.from_batches(batches, schema))
        except (*DAMAGE, pa.ArrowException) as error:
            raise DataError(file, f"is no Parquet file ({_first(error)})") from error
    return _rows(path, _joined(path, tables), [f"{len(files)} parts"] if len(files) > 1 else [])


def _parts(path: Path) -> list[Path]:
    match = re.fullmatch(r"(.+)-\d+-of-(\d+)\.parquet", path.name)
    if match is None:
        return [path]
    total = int(match[2])
    files = sorted(path.parent.glob(f"{match[1]}-*-of-{match[2]}.parquet"))
    if len(files) != total:
        raise DataError(path, f"is one of {total} parts, of which {len(files)} are here")
    return files


def read_dataset(path: Path) -> Rows:
    """A folder that `Dataset.save_to_disk` wrote: its .arrow files in the order of state.json."""
    import pyarrow as pa

    if not path.is_dir():
        raise DataError(path, "is no folder; a saved dataset is one")
    if (path / "dataset_dict.json").is_file():
        names = ", ".join(sorted(p.name for p in path.iterdir() if p.is_dir()))
        raise DataError(path, f"holds several parts ({names}); name the folder of one of them")
    state = path / "state.json"
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
        files = [path / str(one["filename"]) for one in found["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(state, f"is not what a saved dataset has ({_first(error)})") from error
    tables = []
    for file in files:
        if file.parent != path:
            raise DataError(state, f"names a file outside of its folder: {short(file)}")
        try:
            check_kind(file)
            with pa.memory_map(str(file)) as source:
                tables.append(pa.ipc.open_stream(source).read_all())
        except (*DAMAGE, pa.ArrowException) as error:
            raise DataError(file, f"is no table of a dataset ({_first(error)})") from error
    if (path / "indices.arrow").is_file() or found.get("_indices_data_files"):
        raise DataError(path, "is a selection of another table; save it after flatten_indices()")
    return _rows(path, _joined(path, tables), [])


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__


def _joined(path: Path, tables: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    if not tables:
        raise DataError(path, "names no file with rows")
    if any(not table.schema.equals(tables[0].schema) for table in tables):
        raise DataError(path, "its parts have different columns")
    return pa.concat_tables(tables)


def _rows(path: Path, table: pa.Table, notes: list[str]) -> Rows:
    if table.num_rows == 0:
        raise DataError(path, "holds no rows")
    if table.num_rows > MOST_ROWS:
        raise too_many(path, table.num_rows, "rows", MOST_ROWS)
    import pyarrow as pa

    try:
        columns = [_values(column) for column in table.columns]
    except (*DAMAGE, pa.ArrowException) as error:
        raise DataError(path, f"is damaged ({_first(error)})") from error
    rows: list[tuple[Any, ...]] = list(zip(*columns, strict=True))
    for number, row in enumerate(rows, start=1):
        for value in row:
            if isinstance(value, str) and len(value) > MOST_CHARACTERS:
                raise too_long(path, len(value), number)
    return Rows(
        path,
        tuple(table.column_names),
        rows,
        range(1, len(rows) + 1),
        classes=_classes(table.schema),
        unit="row",
        notes=tuple(notes),
    )


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Python values; what cannot be text, a number or a list of them is passed over as None."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [None] * len(column)
    found: list[Any] = column.to_pylist()
    return found


def _classes(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """Names of numbered classes, as `datasets` writes them into the metadata."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return {}
    try:
        features = json.loads(raw)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    found: dict[str, Sequence[str]] = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        while isinstance(feature, dict) and "feature" in feature:
            feature = feature["feature"]
        if isinstance(feature, list) and feature:
            feature = feature[0]
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, dict):
            names = list(names.values())
        if isinstance(names, list):
            found[str(name)] = [str(one) for one in names]
    return found

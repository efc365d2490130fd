"""The records of a store, read fast: unchanged ones come from one file, `<store>/.index.parquet`.

The index holds the text of each record with the time of change and the size that its file had. A
file that differs in either is read itself, so the index can be old, damaged or missing, but never
wrong; where it cannot be written, everything still works. It is written by whoever found enough
that is not in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bluestab.core.plain_files import check_plain
from bluestab.core.types import RunRecord
from bluestab.store.files import new_aside, put_in_place
from bluestab.store.records import DamagedRecord, from_text
from bluestab.store.store import Store, record_text

NAME = ".index.parquet"
VERSION_KEY, VERSION = b"bluestab_index", b"1"
WORTH = 100
"""Records that must be missing in the index before it is written (a twentieth of a large one)."""

Stamp = tuple[int, int, int]  # time of change of content and of inode (ns), size (bytes)


@dataclass
class Contents:
    """The records of a store, or of some of its runs, at one moment.

    statuses  key -> done | diverged | crashed (crashed: not finished since)
    damaged   key -> a sentence, for runs whose record cannot be read
    """

    store: Store
    statuses: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)  # read from files of their own
    _rows: dict[str, int] = field(default_factory=dict)  # where it is in the index
    _index: _Index | None = None

    def records(self) -> Iterator[RunRecord]:
        """Finished and crashed runs; a record is parsed when its turn comes."""
        return (self.record(key) for key in list(self.statuses))

    def record(self, key: str) -> RunRecord:
        """The record of a run in `statuses`. Raises DamagedRecord if it cannot be read any more."""
        text = self._texts.get(key)
        if text is None and self._index is not None:
            text = self._index.text(self._rows[key])
        if text is None:
            return self.store.read(key)
        return from_text(text, self.store.folder(key) / "record.json", key)


class _Index:
    """The file, opened once: another process may put a new one in its place meanwhile."""

    def __init__(self, path: Path) -> None:
        """Raises what pyarrow raises if the file is missing or cannot be used."""
        import pyarrow.parquet as pq

        check_plain(path)
        self.path = path
        self.file = pq.ParquetFile(path, page_checksum_verification=True)
        schema = self.file.schema_arrow
        if (schema.metadata or {}).get(VERSION_KEY) != VERSION or not schema.equals(_schema()):
            raise ValueError("an index of another version")
        table = self.file.read(["key", "mtime_ns", "ctime_ns", "size", "status"])
        keys, *stamps, statuses = (column.to_pylist() for column in table.columns)
        self.n_rows = len(keys)
        rows = enumerate(zip(keys, zip(*stamps, strict=True), statuses, strict=True))
        self.rows = {(key, stamp): (status, row) for row, (key, stamp, status) in rows}

    @cached_property
    def texts(self) -> Any:
        """The texts of all records as one Arrow array; null if that part of the file is damaged."""
        import pyarrow as pa

        try:
            found = self.file.read(["text"])["text"].combine_chunks()
            if len(found) != self.n_rows:  # its footer is damaged where no checksum looks
                raise ValueError(f"{len(found)} texts for {self.n_rows} records")
            return found
        except (OSError, ValueError, pa.ArrowException):
            with suppress(OSError):
                self.path.unlink()  # the next command writes a new one
            return None

    def text(self, row: int) -> str | None:
        return None if self.texts is None else str(self.texts[row])


def contents(store: Store, keys: Iterable[str] | None = None) -> Contents:
    """What a store holds of these runs; of all finished runs if `keys` is None.

    A damaged record takes nobody with it. Raises StoreError if a record is of a newer schema.
    """
    wanted = store.keys() if keys is None else list(dict.fromkeys(keys))
    found = Contents(store, _index=_open(store.root) if len(wanted) >= WORTH else None)
    known = {} if found._index is None else found._index.rows
    crashed = _names(store.root / ".crashed")
    fresh: dict[str, tuple[Stamp, str, str]] = {}
    for key in wanted:
        stamp = _stamp(f"{store.root}/{key}/record.json")
        if stamp is None:
            if key in crashed:
                _read(found, store.crash_folder(key), key)
        elif (key, stamp) in known:
            found.statuses[key], found._rows[key] = known[key, stamp]
        elif _read(found, store.folder(key), key):
            fresh[key] = (stamp, found.statuses[key], found._texts[key])
    if len(fresh) >= max(WORTH, len(known) // 20):
        others = (row for (key, _), (_, row) in known.items() if key not in fresh)
        kept = found._rows.values() if keys is None else others
        _write(store.root, found._index, sorted(kept), fresh)
    return found


def _read(found: Contents, folder: Path, key: str) -> bool:
    """Read a record from its own file."""
    file = folder / "record.json"
    try:
        text = record_text(file)
        found.statuses[key] = from_text(text, file, key).status
        found._texts[key] = text
        return True
    except DamagedRecord as error:
        found.damaged[key] = str(error)
        return False


def _names(folder: Path) -> set[str]:
    try:
        return set() if os.path.islink(folder) else set(os.listdir(folder))
    except OSError:
        return set()


def _stamp(file: str) -> Stamp | None:
    try:
        stat = os.stat(file)
    except PermissionError:
        return -1, -1, -1  # it is there; reading it says what is wrong
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size


def _open(root: Path) -> _Index | None:
    import pyarrow as pa

    try:
        return _Index(root / NAME)
    except (OSError, ValueError, pa.ArrowException):
        return None


def _write(
    root: Path,
    old: _Index | None,
    rows: Sequence[int],
    fresh: Mapping[str, tuple[Stamp, str, str]],
) -> None:
    """These rows of the old index, and the fresh records; nothing where it cannot be written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stamps = [stamp for stamp, _, _ in fresh.values()]
    columns = [
        list(fresh),
        *([stamp[i] for stamp in stamps] for i in range(3)),
        [status for _, status, _ in fresh.values()],
        [text for _, _, text in fresh.values()],
    ]
    table = pa.table(columns, schema=_schema())
    aside = new_aside(root / NAME)
    try:
        if old is not None:
            with suppress(OSError, ValueError, pa.ArrowException):  # damaged: the fresh ones alone
                table = pa.concat_tables([old.file.read().take(list(rows)), table])
        pq.write_table(
            table,
            aside,
            compression="zstd",
            use_dictionary=["status"],
            write_page_checksum=True,
        )
        put_in_place(aside, root / NAME)
    except OSError:
        with suppress(OSError):
            aside.unlink()


def _schema() -> Any:
    import pyarrow as pa

    numbers = [(name, pa.int64()) for name in ("mtime_ns", "ctime_ns", "size")]
    texts = [("status", pa.string()), ("text", pa.large_string())]
    return pa.schema([("key", pa.string()), *numbers, *texts], {VERSION_KEY: VERSION})

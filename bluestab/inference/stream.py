"""A file of any length, answered in constant memory; killed at any moment, it goes on.

    <output>.partial        answers so far, whole chunks
    <output>.partial.json   where the next chunk begins in the input, and where it will stand here;
                            SHA-256 of the answers before that place

A chunk is appended and flushed, then the journal is replaced. What a kill leaves behind the place
that the journal names is cut off, so no item is lost or written twice. Answers that are shorter
than the journal says were lost, and begin anew; changed ones are refused. The last step is a
rename.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from bluestab.core.errors import ConfigError, DataError, StoreError
from bluestab.core.plain_files import read_text
from bluestab.core.types import Example
from bluestab.data.readers import check_kind
from bluestab.inference.formats.base import Format, Item, Position
from bluestab.store.files import flush, write_text
from bluestab.tasks.base import Task
from bluestab.tasks.outputs import Answer

CHUNK_ITEMS = 2048
CHUNK_CHARACTERS = 4_000_000

Answering = Callable[[Sequence[Example]], list[Answer]]
Progress = Callable[[int, int], None]
"""(bytes read, items answered)"""


@dataclass
class Counts:
    """What was answered; `begun` items were there from an earlier command."""

    items: int = 0
    empty: int = 0
    truncated: int = 0
    abstained: int = 0
    entities: int = 0
    begun: int = 0

    def add(self, item: Item, answer: Answer) -> None:
        self.items += 1
        self.empty += item.example is None
        self.truncated += answer.truncated
        self.abstained += len(answer.unsure)
        self.entities += len(answer.entities)


def stamp(path: Path) -> dict[str, Any]:
    """What tells that a file is still the same: size, time of change, its first mebibyte."""
    check_kind(path)
    try:
        found = path.stat()
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(2**20)).hexdigest()
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})") from error
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "head": head}


def predict_file(
    form: Format,
    answering: Answering,
    output: Path,
    made: Mapping[str, Any],
    progress: Progress = lambda *_: None,
) -> Counts:
    """Answer every item of a file and write it to `output`.

    made  what decides the answers (weights, options): an interrupted command goes on only if all
          of it is the same

    Raises ConfigError if `output` is there, or if what lies beside it is of another command;
    DataError for an item that cannot be read (those before it are kept).
    """
    partial = output.with_name(output.name + ".partial")
    journal = output.with_name(output.name + ".partial.json")
    if output.exists():
        if not partial.exists():
            journal.unlink(missing_ok=True)  # killed after the last rename
        raise ConfigError(f"{output} is there already; remove it, or choose another --output")
    said = {"input": stamp(form.path), **made}
    pack: Callable[[bytes], bytes] = gzip.compress if output.suffix == ".gz" else bytes
    with _locked(partial) as file:
        place, counts, n_bytes, digest = _begun(journal, said, file)
        file.truncate(n_bytes)
        file.seek(n_bytes)

        def write(text: str) -> None:
            packed = pack(text.encode())
            file.write(packed)
            digest.update(packed)

        if n_bytes == 0:
            write(form.head())
        for chunk, after in chunks(form, place):
            answers = answered(form.task, answering, chunk)
            text = []
            for item, answer in zip(chunk, answers, strict=True):
                counts.add(item, answer)
                try:
                    text.append(form.written(item, answer))
                except ValueError as error:  # of json, for a number of the input that it has not
                    raise DataError(
                        form.path, f"item {counts.items} cannot be written ({error})"
                    ) from error
            write("".join(text))
            file.flush()
            os.fsync(file.fileno())
            now = {"place": asdict(after), "counts": asdict(counts), "bytes": file.tell()}
            write_text(journal, json.dumps({"made": said, **now, "sha256": digest.hexdigest()}))
            progress(after.offset, counts.items)
        file.flush()
        os.fsync(file.fileno())
        partial.rename(output)
    flush(output.parent)
    journal.unlink(missing_ok=True)
    return counts


def chunks(form: Format, place: Position) -> Iterator[tuple[list[Item], Position]]:
    """Items by the thousand, and the place after them."""
    chunk: list[Item] = []
    characters = 0
    for item, after in form.items(place):
        chunk.append(item)
        characters += len(item.text) or 1
        place = after
        if len(chunk) >= CHUNK_ITEMS or characters >= CHUNK_CHARACTERS:
            yield chunk, place
            chunk, characters = [], 0
    if chunk:
        yield chunk, place


def answered(task: Task, answering: Answering, items: Sequence[Item]) -> list[Answer]:
    """One answer per item, also of those without a text."""
    found = iter(answering([item.example for item in items if item.example is not None]))
    return [task.output.nothing() if item.example is None else next(found) for item in items]


@contextmanager
def _locked(partial: Path) -> Iterator[IO[bytes]]:
    """The file of unfinished answers, for one process. Raises StoreError."""
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StoreError(f"{partial} cannot be written ({error.strerror})") from error
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"{partial} is being written by another process") from error
        yield file


def _begun(
    journal: Path, said: Mapping[str, Any], file: IO[bytes]
) -> tuple[Position, Counts, int, Any]:
    """Where an interrupted command goes on: in the input, in its counts, in the output; and the
    running SHA-256 of the output so far.

    file  the unfinished answers; shorter than the journal says, they are lost: all begins anew

    Raises ConfigError if it was another command, if the answers were changed, or if the journal
    cannot be read.
    """
    digest = hashlib.sha256()
    if not journal.is_file():
        return Position(), Counts(), 0, digest
    remove = f"remove {journal} and the .partial file beside it to begin anew"
    try:
        found = json.loads(read_text(journal))
        place, counts = Position(**found["place"]), Counts(**found["counts"])
        n_bytes, before = int(found["bytes"]), dict(found["made"])
        expected = found.get("sha256")
        for number in (n_bytes, *asdict(place).values(), *asdict(counts).values()):
            if type(number) is not int or number < 0:
                raise ValueError(f"it counts {number!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{journal} cannot be read ({error}); {remove}") from error
    now = json.loads(json.dumps(said))
    if differing := [name for name in {**now, **before} if now.get(name) != before.get(name)]:
        raise ConfigError(
            f"{journal} was begun with another {' and '.join(sorted(differing))}; use that, or "
            f"{remove}"
        )
    if os.fstat(file.fileno()).st_size < n_bytes:
        return Position(), Counts(), 0, digest
    left = n_bytes
    while block := file.read(min(left, 2**20)):
        digest.update(block)
        left -= len(block)
    if expected is not None and digest.hexdigest() != expected:
        partial = journal.with_suffix("")
        raise ConfigError(
            f"{partial} was changed after it was written: its SHA-256 is not the one in {journal}; "
            f"{remove}"
        )
    counts.begun = counts.items
    return place, counts, n_bytes, digest

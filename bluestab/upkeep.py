"""Looking after a store: what may be removed, what is damaged, and taking in another store.

Nothing here touches a completed record, but to copy it.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bluestab.errors import StoreError
from bluestab.keys import cell_of, key_of
from bluestab.records import DamagedRecord
from bluestab.store import (
    KEY,
    Store,
    digest_of,
    flush_tree,
    is_alive,
    parse_manifest,
    parse_record,
    to_json,
    write_text,
)
from bluestab.types import RunRecord

ASIDE = re.compile(r"\..+\.\d+")
ASIDE_SECONDS = 3600
"""A file written aside is renamed within seconds; older ones of other machines are abandoned."""

# --- gc --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leftover:
    """Something that nobody will use any more."""

    path: Path
    why: str
    bytes: int


@dataclass(frozen=True)
class Rubble:
    """What the rules below look at; `older` in seconds."""

    store: Store
    older: float
    now: float

    @cached_property
    def live(self) -> set[str]:
        return self.store.running()

    @cached_property
    def wanted(self) -> set[str] | None:
        """Keys of all sweeps; None if that cannot be known."""
        try:
            manifests = [parse_manifest(path) for path in self.store.manifests().values()]
        except StoreError:
            return None
        return {run["key"] for manifest in manifests for run in manifest["runs"]}

    def abandoned(self, path: Path, owner: str, older: float) -> bool:
        """Whether the process `<host>.<pid>` is dead, or, elsewhere, its work long untouched."""
        host, _, pid = owner.rpartition(".")
        if host == socket.gethostname() and pid.isdigit():
            return not is_alive(int(pid))
        return self.untouched(path, older)

    def untouched(self, path: Path, older: float) -> bool:
        return self.now - extent(path)[1] > older


Found = Iterator[tuple[Path, str]]


def _work(rubble: Rubble) -> Found:
    """Folders in which a run was being built."""
    for path in _entries(rubble.store.root / ".work"):
        key, _, owner = path.name.removeprefix(".").partition(".")
        if key == "incomplete":
            yield path, "a run's folder without a record"
        elif (KEY.fullmatch(key) or path.name.startswith(".probe.")) and rubble.abandoned(
            path, owner, rubble.older
        ):
            yield path, "its process is gone"


def _asides(rubble: Rubble) -> Found:
    """Files written aside by a process that died before it renamed them."""
    for folder in (rubble.store.root, rubble.store.root / "sweeps"):
        for path in _entries(folder):
            if not (ASIDE.fullmatch(path.name) and path.is_file()):
                continue
            host_and_pid = next(
                (o for o in _tails(path.name) if o.rpartition(".")[0] == socket.gethostname()), ""
            )
            if rubble.abandoned(path, host_and_pid, ASIDE_SECONDS):
                yield path, "written aside and never renamed"


def _crashes(rubble: Rubble) -> Found:
    """Crashes of runs that have succeeded since."""
    for path in _entries(rubble.store.root / ".crashed"):
        if KEY.fullmatch(path.name) and path.name not in rubble.live and _done(rubble, path.name):
            yield path, "the run has finished since"


def _resumes(rubble: Rubble) -> Found:
    """Checkpoints of interrupted runs that nobody will resume."""
    for path in _entries(rubble.store.root / ".resume"):
        found = KEY.search(path.name)
        if found is None or found.group() in rubble.live:
            continue
        if _done(rubble, found.group()):
            yield path, "the run has finished since"
        elif (
            rubble.wanted is not None
            and found.group() not in rubble.wanted
            and rubble.untouched(path, rubble.older)
        ):
            yield path, "no sweep has this run"


RULES: tuple[Callable[[Rubble], Found], ...] = (_work, _asides, _crashes, _resumes)
"""One function per kind of leftover. Claims: a rule that yields the stale ones belongs here."""


def leftovers(store: Store, older_days: float = 7.0) -> list[Leftover]:
    """What `gc` would remove: never a completed run, never what a live process works on.

    older_days  for what may belong to another machine: removed if untouched for so long
    """
    rubble = Rubble(store, older_days * 86400, time.time())
    found = dict(pair for rule in RULES for pair in rule(rubble))
    return [Leftover(path, why, extent(path)[0]) for path, why in found.items()]


def remove(leftover: Leftover) -> str | None:
    """Remove one of them; a sentence if that is not possible."""
    try:
        if leftover.path.is_dir() and not leftover.path.is_symlink():
            shutil.rmtree(leftover.path)
        else:
            leftover.path.unlink()
    except FileNotFoundError:
        return None  # somebody else did it
    except OSError as error:
        return f"{leftover.path} cannot be removed ({error.strerror})"
    return None


def extent(path: Path) -> tuple[int, float]:
    """Bytes of a file or of all files below a folder, and when the latest was changed (seconds)."""
    try:
        stat = path.lstat()
    except OSError:
        return 0, 0.0
    if not path.is_dir() or path.is_symlink():
        return stat.st_size, stat.st_mtime
    total, latest = 0, stat.st_mtime
    for entry in _entries(path):
        size, changed = extent(entry)
        total, latest = total + size, max(latest, changed)
    return total, latest


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _tails(name: str) -> Iterator[str]:
    """`.a.b.c` -> `a.b.c`, `b.c`, `c`: host names hold dots, as names of files do."""
    parts = name.split(".")[1:]
    return (".".join(parts[i:]) for i in range(len(parts)))


def _done(rubble: Rubble, key: str) -> bool:
    """Finished, and its record can be read: a damaged one will be run again."""
    try:
        return rubble.store.has(key) and bool(rubble.store.read(key))
    except StoreError:
        return False


# --- disk in use -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """Bytes on disk: all of a store; of these, weights that were kept; and runs to resume."""

    total: int
    checkpoints: int
    resume: int


def usage(root: Path) -> Usage:
    """Disk in use by a store, as `du` counts it."""
    total = checkpoints = resume = 0
    for entry in _scan(root):
        size = 0
        if entry.name == ".resume":
            resume = size = _size(entry)
        elif KEY.fullmatch(entry.name):
            size = _blocks(entry)
            for inside in _scan(entry.path):
                part = _size(inside)
                size += part
                checkpoints += part if inside.name == "checkpoint" else 0
        else:
            size = _size(entry)
        total += size
    return Usage(total, checkpoints, resume)


def _size(entry: os.DirEntry[str]) -> int:
    size = _blocks(entry)
    if entry.is_dir(follow_symlinks=False):
        size += sum(_size(inside) for inside in _scan(entry.path))
    return size


def _blocks(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:  # gone meanwhile
        return 0


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


# --- verify ----------------------------------------------------------------------------------


def problems(store: Store) -> Iterator[str]:
    """Everything in a store that is not as it was written, one sentence each."""
    for path in _entries(store.root):
        if KEY.fullmatch(path.name) and path.is_dir():
            yield from run_problems(path, path.name)
    for path in _entries(store.root / ".crashed"):
        if KEY.fullmatch(path.name):
            yield from run_problems(path, path.name)
    for path in store.manifests().values():
        try:
            parse_manifest(path)
        except StoreError as error:
            yield str(error)


def run_problems(folder: Path, key: str) -> Iterator[str]:
    """What is wrong with the folder of run `key`."""
    file = folder / "record.json"
    if not file.is_file():
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
    listed = record.measured["files"]
    if listed is not None:
        yield from file_problems(folder, listed)
    if record.status != "crashed":
        yield from _prediction_problems(folder, record, whole=listed is None)


def file_problems(folder: Path, listed: Mapping[str, str]) -> Iterator[str]:
    """Files beside a record that are missing, or are not what it lists."""
    for name, digest in listed.items():
        file = folder / name
        try:
            if digest_of(file) != digest:
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
    items = record.result["items"]["test"] if record.status == "done" else 0
    try:
        found = (pq.read_table(file) if whole else pq.read_metadata(file)).num_rows
    except (OSError, ValueError, pa.ArrowException) as error:
        yield f"{file} cannot be read ({str(error).splitlines()[0]})"
        return
    if found != 2 * items:
        yield f"{file} has {found} rows, expected {2 * items}: {items} test items at last and best"


# --- merge -----------------------------------------------------------------------------------


@dataclass
class Merged:
    """What was added, by key or name; what was not, in sentences."""

    runs: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)
    present: int = 0
    replaced: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def merge(into: Store, source: Store) -> Merged:
    """Add to a store what another one has. May be killed and repeated.

    Raises StoreError, before anything is copied, if a run that both have has different results.
    """
    if into.root.exists() and into.root.samefile(source.root):
        raise StoreError(f"'{into.root}' and '{source.root}' are the same store")
    merged = Merged()
    additions = _additions(into, source, merged)
    into.make_writable()
    try:
        for key in additions:
            aside = into.set_aside_damaged(key)
            if aside is not None:
                merged.replaced.append(aside)
            if _copy(into, source.folder(key), key, merged, into.publish):
                merged.runs.append(key)
        for path in _entries(source.root / ".crashed"):
            key = path.name
            known = into.has(key) or (into.crash_folder(key) / "record.json").is_file()
            if not KEY.fullmatch(key) or source.has(key) or known:
                continue
            if _copy(into, path, key, merged, into.publish_crash):
                merged.crashes.append(key)
        for name, path in source.manifests().items():
            _merge_manifest(into, name, path, merged)
    except OSError as error:
        raise StoreError(
            f"the store '{into.root}' cannot be written ({error.strerror}); what was added is "
            "whole, the same command goes on from here"
        ) from error
    return merged


def differences(a: Any, b: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted path -> both values, where two JSON values differ; null is the same as absent."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for name in dict.fromkeys((*a, *b)):
            found |= differences(a.get(name), b.get(name), f"{path}.{name}" if path else name)
        return found
    return {} if a == b else {path: (a, b)}


def _additions(into: Store, source: Store, merged: Merged) -> list[str]:
    """Keys to copy. Raises StoreError with all conflicts."""
    additions, conflicts = [], []
    for key in iter(source.keys()):
        try:
            theirs = source.read(key)
        except DamagedRecord as error:
            merged.left_out.append(str(error))
            continue
        if not into.has(key):
            additions.append(key)
            continue
        try:
            ours = into.read(key)
        except DamagedRecord as error:
            if isinstance(error.__cause__, OSError):
                raise  # not readable now, which says nothing about its content
            additions.append(key)  # theirs is whole, and takes its place
            continue
        merged.present += 1
        for path, (a, b) in differences(ours.result, theirs.result).items():
            conflicts.append(f"  run {key}: {path} is {a!r} and {b!r}")
    if conflicts:
        raise StoreError(
            f"'{into.root}' and '{source.root}' disagree about runs that both have, nothing was "
            "copied:\n" + "\n".join(conflicts) + "\n  the same config gives the same result on "
            "one kind of machine: keep the stores apart, or delete these runs in one of them"
        )
    return additions


def _copy(
    into: Store,
    folder: Path,
    key: str,
    merged: Merged,
    publish: Callable[[Path, str], object],
) -> bool:
    """Copy a run's folder aside, see that the copy is whole, publish it."""
    with into.building(key) as work:
        shutil.copytree(folder, work, dirs_exist_ok=True)
        try:
            record = parse_record(work / "record.json", key)
        except DamagedRecord as error:
            merged.left_out.append(str(error).replace(str(work), str(folder)))
            return False
        wrong = [*file_problems(work, record.measured["files"] or {})]
        if wrong:
            merged.left_out += [sentence.replace(str(work), str(folder)) for sentence in wrong]
            return False
        flush_tree(work)
        publish(work, key)
    return True


def _merge_manifest(into: Store, name: str, path: Path, merged: Merged) -> None:
    try:
        manifest = parse_manifest(path)
    except StoreError as error:
        merged.left_out.append(str(error))
        return
    known = into.manifests()
    for n in itertools.count(1):
        title = name if n == 1 else f"{name}-{n}"
        if title not in known:
            break
        try:
            if parse_manifest(known[title])["runs"] == manifest["runs"]:
                return
        except StoreError:
            continue  # damaged, but not ours to replace
    target = into.root / "sweeps" / f"{title}.json"
    write_text(target, to_json({**manifest, "name": title}))
    changed = path.stat().st_mtime_ns  # by which the latest sweep is found
    os.utime(target, ns=(changed, changed))
    merged.sweeps.append(title)

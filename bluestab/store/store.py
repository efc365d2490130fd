"""The folder of results: a run's folder appears in one rename, so its presence means completeness.

    <store>/<key>/             a finished run: record.json, config.yaml, curve.csv, ...
    <store>/.work/             runs being built, one folder per run and process
    <store>/.claims/<key>      who builds it (see claims.py)
    <store>/.deaths/<key>/     processes that died at a run that has no result yet (see claims.py)
    <store>/.resume/<key>/     the checkpoint of an interrupted run (training/loop/checkpoints.py)
    <store>/.crashed/<key>/    the last crash of a run that has not succeeded yet
    <store>/.damaged/<key>.<n> runs whose record could not be read, out of the way
    <store>/.slurm/<sweep>.<n>/ what was handed to SLURM, and its logs (sweeps/slurm/submission.py)
    <store>/.index.parquet     copies of all records, to read them fast (index.py); derived
    <store>/sweeps/<name>.json the manifest of a sweep, written before its first run

Any process may die at any instruction: files are written aside, flushed to disk, then renamed.
Nothing here needs a server; two processes that finish the same run agree, because a run is a pure
function of its config.
"""

from __future__ import annotations

import errno
import glob
import itertools
import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bluestab.core.errors import StoreError
from bluestab.core.paths import check_readable, expanded
from bluestab.core.plain_files import read_text
from bluestab.core.printable import printable_lines
from bluestab.core.secrets import cleaned_command, cleaned_tree, cleaned_value
from bluestab.core.types import RunRecord
from bluestab.store.claims import Claims
from bluestab.store.files import (
    digest_of,
    entries,
    files_below,
    flush,
    flush_tree,
    make_folder,
    share_tree,
    write_text,
    written_at,
)
from bluestab.store.processes import owner, owner_dead
from bluestab.store.records import DamagedRecord, damaged, from_text, to_text
from bluestab.store.records import to_json as to_json
from bluestab.store.schema import check_manifest

KEY = re.compile(r"[0-9a-f]{16}")
OWN = (
    ".work", ".claims", ".deaths", ".resume", ".crashed", ".damaged", ".slurm", ".loggers",
    "sweeps", "searches",
)  # fmt: skip
"""Folders of a store in which bluestab itself writes and removes."""

GOES_ON = (".deaths", ".resume", ".crashed", "searches")
"""Of these, those whose entries are folders that bluestab writes on in."""

FILES_OF_A_RUN = 24  # those of two checkpoints and their folders included


def parse_record(path: Path, key: str | None = None) -> RunRecord:
    """The record in a file, of run `key` if that is known.

    Raises DamagedRecord if it is unreadable, StoreError if its schema is newer than this version.
    """
    return from_text(record_text(path), path, key)


def record_text(path: Path) -> str:
    """What the file of a record says. Raises DamagedRecord."""
    for one in (path.parent, path):
        if os.path.islink(one):
            raise damaged(path, f"{one.name} is a link, and what it leads to is not this store's")
    try:
        return read_text(path)
    except PermissionError as error:
        raise DamagedRecord(
            f"{path} cannot be read ({error.strerror}); ask whose it is for the right to read it "
            "(chmod), nothing else is wrong with it as far as is known"
        ) from error
    except OSError as error:
        raise damaged(path, error.strerror) from error
    except UnicodeDecodeError as error:
        raise damaged(path, error) from error


class Store:
    """The results below one folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = expanded(root)
        self.claims = Claims(self.root)

    def make_writable(self) -> None:
        """Create the store if needed. Raises StoreError if it cannot be written."""
        check_readable(self.root, "the store is")
        _refuse(self.links())
        try:
            work = self.root / ".work"
            make_folder(work)
            probe = self.work_path(".probe")
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"the store '{self.root}' cannot be written ({error.strerror}); choose another "
                f"with store=FOLDER or BLUESTAB_STORE"
            ) from error

    def links(self) -> list[Path]:
        """The store's own folders that are links; nothing behind them is written or removed."""
        own = [self.root / name for name in OWN]
        inside = [path for name in GOES_ON for path in entries(self.root / name)]
        journals = [path / "study.journal" for path in entries(self.root / "searches")]
        return [path for path in (*own, *inside, *journals) if os.path.islink(path)]

    def free_bytes(self) -> int:
        """Room left on the disk of this store, for ordinary users."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def building_bytes(self) -> int:
        """Bytes of what this process is building, which are free again when it fails."""
        own = (self.root / ".work").glob(f"*.{glob.escape(owner())}")
        return sum(path.lstat().st_size for folder in own for path in folder.rglob("*"))

    def is_full(self) -> bool:
        """Is there no room left for even one small file?"""
        return self.free_bytes() < 2**16 or not self.takes_files()

    def takes_files(self, n_bytes: int = 2**16) -> bool:
        """Can the files of a run be made here now, one of them of so many bytes?

        Free bytes do not say so: there may be no inodes left, or a quota may be used up. So it is
        tried; where the file system cannot tell, it is assumed.
        """
        probe = self.work_path(".room")
        try:
            probe.mkdir(parents=True)
            for number in range(FILES_OF_A_RUN):
                (probe / str(number)).write_bytes(b"x")
            with (probe / "0").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, n_bytes)
        except OSError as error:
            return error.errno not in (errno.ENOSPC, errno.EDQUOT)
        finally:
            shutil.rmtree(probe, ignore_errors=True)
        return True

    def folder(self, key: str) -> Path:
        return self.root / key

    def has(self, key: str) -> bool:
        """Whether there is a record, readable or not, damaged or not."""
        try:
            return stat.S_ISREG(os.stat(f"{self.root}/{key}/record.json").st_mode)
        except PermissionError:
            return True  # it cannot be looked at: nobody may take its place
        except OSError:
            return False

    def read(self, key: str) -> RunRecord:
        """The record of a finished run. Raises DamagedRecord or StoreError."""
        return parse_record(self.root / key / "record.json", key)

    def keys(self) -> list[str]:
        """Keys of all finished runs."""
        if not os.path.isdir(self.root):
            return []
        try:
            names = os.listdir(self.root)
        except OSError as e:
            raise StoreError(f"the store '{self.root}' cannot be read ({e.strerror})") from e
        return sorted(name for name in names if KEY.fullmatch(name) and self.has(name))

    def crash_folder(self, key: str) -> Path:
        """Where the last crash of a run is kept."""
        return self.root / ".crashed" / key

    def which_crash(self, key: str) -> int | None:
        """A number that differs for the next crash of a run; None where none is kept."""
        with suppress(OSError):
            return self.crash_folder(key).stat().st_mtime_ns
        return None

    def crash(self, key: str) -> RunRecord | None:
        """The record of the last crash of a run that is not finished."""
        path = self.crash_folder(key) / "record.json"
        return parse_record(path, key) if os.path.lexists(path) and not self.has(key) else None

    def running(self) -> dict[str, dict[str, Any]]:
        """Claims, by key, of the runs that live processes are working on."""
        return self.claims.live()

    def work_path(self, name: str) -> Path:
        """A path below `.work` that tells whose it is. No dots in `name`, but maybe a first one."""
        return self.root / ".work" / f"{name}.{owner()}"

    def abandoned(self, name: str = "*") -> list[Path]:
        """Paths below `.work` whose process, of this machine, is dead. `name` may hold a `*`."""
        found = (self.root / ".work").glob(f"{name}.*")
        return [path for path in found if owner_dead(path.name.partition(".")[2])]

    @contextmanager
    def building(self, key: str) -> Iterator[Path]:
        """A folder to build a run in; it is removed unless `finish` or `keep_crash` took it.

        Raises StoreError if what belongs to the run is a link.
        """
        work = self.work_path(key)
        own = (path for name in OWN for path in (self.root / name, self.root / name / key))
        _refuse([path for path in own if os.path.islink(path)])
        for left in self.abandoned(key):
            shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
        make_folder(work)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def finish(self, work: Path, record: RunRecord) -> RunRecord:
        """Publish a finished run: record last, everything flushed, then one rename.

        Returns the record as it was written, with the hashes of the files beside it.
        """
        written = self._write_record(work, record)
        self.publish(work, record.key)
        return written

    def publish(self, work: Path, key: str) -> None:
        """Rename a folder that is whole, its record included, to where finished runs are."""
        target = self.folder(key)
        share_tree(work)
        try:
            work.rename(target)
        except OSError:
            if not self.has(key):  # else somebody finished the same run meanwhile
                if not os.path.isdir(target):
                    raise
                # a folder without a record, as an interrupted copy of a store leaves it
                target.rename(self.root / ".work" / f"incomplete.{key}.{os.getpid()}")
                work.rename(target)
        flush(self.root)
        shutil.rmtree(self.crash_folder(key), ignore_errors=True)
        self.claims.forget_deaths(key)

    def keep_crash(self, work: Path, record: RunRecord) -> Path:
        """Keep what is known of a crash; the next command runs it again."""
        self._write_record(work, record)
        return self.publish_crash(work, record.key)

    def publish_crash(self, work: Path, key: str) -> Path:
        """Rename a folder that is whole to where the last crash of a run is kept."""
        target = self.crash_folder(key)
        make_folder(target.parent)
        share_tree(work)
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
        self.claims.forget_deaths(key)
        return target

    def set_aside_damaged(self, key: str) -> Path | None:
        """Move a run whose record is damaged to `.damaged/`, so that it can be run again.

        Returns where it is now; None if its record can be read, or if there is none.
        """
        for folder in (self.folder(key), self.crash_folder(key)):
            try:
                parse_record(folder / "record.json", key)
            except DamagedRecord as error:
                if isinstance(error.__cause__, OSError):
                    continue  # not there, or not readable now: that says nothing about its content
                return self._set_aside(folder)
        return None

    def _set_aside(self, folder: Path) -> Path | None:
        shelf = self.root / ".damaged"
        make_folder(shelf)
        for n in itertools.count(1):
            place = shelf / f"{folder.name}.{n}"
            try:
                place.mkdir()  # takes the name; a folder may be renamed over an empty one
            except FileExistsError:
                continue
            try:
                return folder.rename(place)
            except OSError as error:
                place.rmdir()
                if isinstance(error, FileNotFoundError):  # another process was faster
                    return None
                # a link, or a file system that renames no folder over another
                return folder.rename(place)
        raise AssertionError("there is always a next number")

    def _write_record(self, work: Path, record: RunRecord) -> RunRecord:
        files = files_below(work)
        digests = {name: digest_of(file) for name, file in files.items()}
        written = replace(record, measured={**record.measured, "files": digests})
        write_text(work / "record.json", to_text(written))
        flush_tree(work)
        return written

    def write_manifest(self, name: str, manifest: Mapping[str, Any]) -> Path:
        """Say what a sweep consists of, before its first run.

        Raises StoreError if it cannot be written, or would be another's file where case is ignored.
        """
        path = self.root / "sweeps" / f"{name}.json"
        if twin := self.twin(name):
            raise StoreError(
                f"the store '{self.root}' has a sweep '{twin}', from which '{name}' differs in "
                "case only: where a file system ignores case they are one file; give it another "
                "name: sweep.name=NAME"
            )
        try:
            clean = cleaned_tree(manifest)
            write_text(path, to_json({**clean, "written": datetime.now(UTC).isoformat()}))
        except OSError as error:
            raise StoreError(f"{path} cannot be written ({error.strerror})") from error
        return path

    def twin(self, name: str) -> str | None:
        """A sweep whose name differs from this one in case only, unless this one is there, too."""
        alike = [other for other in self.manifests() if other.casefold() == name.casefold()]
        return None if not alike or name in alike else alike[0]

    def latest_keys(self, without: Collection[str] = ()) -> list[str]:
        """Keys of the runs that are there, the one that was finished last first."""
        dated = []
        with suppress(OSError), os.scandir(self.root) as entries:
            for entry in entries:
                if KEY.fullmatch(entry.name) and entry.name not in without:
                    with suppress(OSError):
                        dated.append((entry.stat().st_mtime, entry.name))
        return [key for _, key in sorted(dated, reverse=True)]

    def manifests(self) -> dict[str, Path]:
        """Sweeps of this store by name, the latest last: by what they say, which copies keep."""
        folder = self.root / "sweeps"
        paths = [] if os.path.islink(folder) else folder.glob("*.json")
        return {path.stem: path for path in sorted(paths, key=written_at)}

    def whole_manifests(self) -> Iterator[dict[str, Any]]:
        """Those of the sweeps that can be read; damaged ones are said by `store verify`."""
        for path in self.manifests().values():
            try:
                yield parse_manifest(path)
            except StoreError:
                continue

    def manifest(self, name: str | None) -> dict[str, Any] | None:
        """A sweep by name, or the latest; None if the store holds no sweep."""
        known = self.manifests()
        if name is None and not known:
            return None
        name = list(known)[-1] if name is None else name
        if name not in known:
            there = ", ".join(known) or "none"
            raise StoreError(f"the store '{self.root}' has no sweep '{name}'; it has: {there}")
        return parse_manifest(known[name])


def _refuse(links: Sequence[Path]) -> None:
    """Raises StoreError if there are any."""
    if links:
        raise StoreError(
            f"{links[0]} is a link to {os.readlink(links[0])}: what lies there is not the store's "
            "own, and could be lost; remove the link, or name that folder itself: store=FOLDER"
        )


def parse_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a sweep from its file. Raises StoreError if it is damaged."""
    try:
        if os.path.islink(path):
            raise ValueError("it is a link, and what it leads to is not this store's")
        manifest: dict[str, Any] = json.loads(read_text(path))
        check_manifest(manifest)
        command = printable_lines(cleaned_command(manifest["command"]))
        runs = [
            {**run, "overrides": [printable_lines(cleaned_value(o)) for o in run["overrides"]]}
            for run in manifest["runs"]
        ]
        return {**manifest, "command": command, "runs": runs}
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged ({error}); run the sweep's command again to rewrite it"
        ) from error

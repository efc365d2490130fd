"""Adding to a store what another one has."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluestab.core.errors import StoreError
from bluestab.core.plain_files import check_plain
from bluestab.store.files import entries, flush_tree, is_sparse, write_text
from bluestab.store.records import DamagedRecord, to_json
from bluestab.store.store import KEY, Store, parse_manifest, parse_record
from bluestab.store.verify import file_problems


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
    if os.path.exists(into.root) and into.root.samefile(source.root):
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
        for path in entries(source.root / ".crashed"):
            key = path.name
            known = into.has(key) or _has_crash(into.crash_folder(key))
            if not KEY.fullmatch(key) or source.has(key) or known:
                continue
            if _copy(into, path, key, merged, into.publish_crash):
                merged.crashes.append(key)
        for name, path in source.manifests().items():
            _merge_manifest(into, name, path, merged)
    except OSError as error:
        raise StoreError(
            f"the store '{into.root}' cannot be written ({error.strerror or error}); what was "
            "added is whole, the same command goes on from here"
        ) from error
    return merged


def _has_crash(folder: Path) -> bool:
    """Whether there is a record, or a folder that may not be looked into."""
    hidden = os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK)
    return hidden or os.path.isfile(folder / "record.json")


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
    keys = source.keys()
    for key in keys:
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
            if isinstance(error.__cause__, OSError):  # which says nothing about its content
                merged.left_out.append(str(error))
                continue
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
    if (wrong_with := _uncopyable(folder)) is not None:
        merged.left_out.append(wrong_with)
        return False
    with into.building(key) as work:
        shutil.copytree(folder, work, dirs_exist_ok=True, symlinks=True)
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


def _uncopyable(folder: Path) -> str | None:
    """What is in a run's folder that cannot be copied, or would fill the disk, in a sentence."""
    for path in (folder, *sorted(folder.rglob("*"))):
        try:
            if os.path.islink(path):
                return f"{path} is a link; a run holds files of its own only"
            if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if not os.path.isdir(path):
                check_plain(path)
                if is_sparse(path):
                    return f"{path} is not what was written: most of it is a hole"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror}); ask whose it is"
    return None


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
            if into.twin(title):
                continue
            break
        try:
            if parse_manifest(known[title])["runs"] == manifest["runs"]:
                return
        except StoreError:
            continue  # damaged, but not ours to replace
    target = into.root / "sweeps" / f"{title}.json"
    write_text(target, to_json({**manifest, "name": title}))
    changed = path.stat().st_mtime_ns  # of older versions, which do not say when it was written
    os.utime(target, ns=(changed, changed))
    merged.sweeps.append(title)

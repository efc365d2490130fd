"""What dead processes left in a store, and weights that nobody needs any more. The record of a
finished run is never among it.

A process of this machine is seen to be dead. What may belong to another one is judged by how long
it is untouched, by the clocks of both; but a claim that beats is alive, whatever clocks say.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bluestab.core.errors import StoreError
from bluestab.store.claims import read_claim, seen_dead
from bluestab.store.disk import extent
from bluestab.store.files import entries
from bluestab.store.processes import owner_dead
from bluestab.store.store import KEY, Store, parse_manifest

ASIDE = re.compile(r"\..+\.\d+")
BEFORE = re.compile(r"model\.init_from=(?:stage:)?([0-9a-f]{4,16})\b")
ASIDE_SECONDS = 3600
"""A file written aside is renamed within seconds; older ones of other machines are abandoned."""


@dataclass(frozen=True)
class Orphan:
    """A file or folder that nobody will use any more, and why."""

    path: Path
    why: str
    bytes: int


@dataclass(frozen=True)
class GarbageScan:
    """One look at a store, for the rules below.

    older  seconds untouched after which what may belong to another machine is abandoned
    now    seconds since the epoch
    """

    store: Store
    older: float
    now: float

    @cached_property
    def live(self) -> set[str]:
        return set(self.store.running())

    @cached_property
    def planned(self) -> list[Mapping[str, Any]] | None:
        """The runs of all sweeps; None if that cannot be known."""
        try:
            manifests = [parse_manifest(path) for path in self.store.manifests().values()]
        except StoreError:
            return None
        return [run for manifest in manifests for run in manifest["runs"]]

    @cached_property
    def wanted(self) -> set[str] | None:
        """Keys of all sweeps; None if that cannot be known."""
        return None if self.planned is None else {run["key"] for run in self.planned}

    def abandoned(self, path: Path, owner: str, older: float) -> bool:
        """Whether the process of this name is dead, or, elsewhere, its work long untouched."""
        dead = owner_dead(owner)
        return self.untouched(path, older) if dead is None else dead

    def claimed(self, key: str, owner: str) -> bool:
        """Whether somebody out of sight is at the run: its claim is young, or beats now."""
        claim = self.store.root / ".claims" / key
        return (
            owner_dead(owner) is None
            and key in self.live
            and (not self.untouched(claim, self.older) or key in self.store.claims.beating)
        )

    def untouched(self, path: Path, older: float) -> bool:
        return self.now - extent(path)[1] > older


Found = Iterator[tuple[Path, str]]


def _work(scan: GarbageScan) -> Found:
    """Folders in which a run was being built."""
    for path in entries(scan.store.root / ".work"):
        key, _, owner = path.name.removeprefix(".").partition(".")
        known = KEY.fullmatch(key) or key in ("probe", "room") or key.startswith("worker-")
        if key == "incomplete":
            yield path, "a run's folder without a record"
        elif known and scan.abandoned(path, owner, scan.older) and not scan.claimed(key, owner):
            yield path, "its process is gone"


def _claims(scan: GarbageScan) -> Found:
    """Claims of dead processes, and files written beside them."""
    for path in entries(scan.store.root / ".claims"):
        if KEY.fullmatch(path.name):
            claim = read_claim(path)
            dead = False if claim is None else seen_dead(claim)
        else:  # `.new.<token>.<owner>`, not yet a claim
            dead = owner_dead(path.name.partition(".new.")[2].partition(".")[2])
        old = scan.untouched(path, scan.older) and path.name != ".lock"
        if dead or (dead is None and old and path.name not in scan.store.claims.beating):
            yield path, "its process is gone"


def _asides(scan: GarbageScan) -> Found:
    """Files written aside by a process that died before it renamed them."""
    root = scan.store.root
    for folder in (entries(root, root=True), entries(root / "sweeps")):
        for path in folder:
            if not (ASIDE.fullmatch(path.name) and os.path.isfile(path)):
                continue
            owner = next((o for o in _tails(path.name) if owner_dead(o) is not None), "")
            if scan.abandoned(path, owner, ASIDE_SECONDS):
                yield path, "written aside and never renamed"


def _crashes(scan: GarbageScan) -> Found:
    """Crashes and deaths of runs that have succeeded since."""
    root = scan.store.root
    for path in (*entries(root / ".crashed"), *entries(root / ".deaths")):
        if KEY.fullmatch(path.name) and path.name not in scan.live and _done(scan, path.name):
            yield path, "the run has finished since"


def _resumes(scan: GarbageScan) -> Found:
    """Checkpoints of interrupted runs that nobody will resume."""
    for path in entries(scan.store.root / ".resume"):
        found = KEY.search(path.name)
        if found is None or found.group() in scan.live:
            continue
        if _done(scan, found.group()):
            yield path, "the run has finished since"
        elif (
            scan.wanted is not None
            and found.group() not in scan.wanted
            and scan.untouched(path, scan.older)
        ):
            yield path, "no sweep has this run"


def _lent(scan: GarbageScan) -> Found:
    """Weights that runs kept for later stages of a sequence alone, all of which have finished."""
    planned = scan.planned or ()
    lending = {run["key"] for run in planned if run.get("lends")}
    lending -= {run["key"] for run in planned if not run.get("lends")}  # asked for elsewhere
    if not lending:
        return
    before = {run["key"]: match[1] for run in planned if (match := _goes_on_from(run))}
    left = {run["key"] for run in planned if not _done(scan, run["key"])}
    needed: set[str] = set()
    while left:
        left = {before[key] for key in left if key in before} - needed
        needed |= left
    for key in sorted(lending - scan.live):
        if not any(key.startswith(one) for one in needed) and _done(scan, key):
            weights = scan.store.folder(key) / "checkpoint"
            if os.path.isdir(weights):
                yield weights, "kept for later stages, which have all finished"


def _goes_on_from(run: Mapping[str, Any]) -> re.Match[str] | None:
    """The key of the run that this one starts from, or its first digits."""
    found = (BEFORE.match(override) for override in run["overrides"])
    return next((match for match in found if match), None)


RULES: tuple[Callable[[GarbageScan], Found], ...] = (
    *(_work, _claims, _asides, _crashes, _resumes),
    _lent,
)
"""One function per kind of orphan."""


def orphans(store: Store, older_days: float = 7.0) -> list[Orphan]:
    """What `gc` would remove: never a record, never what a live process works on.

    older_days  for what may belong to another machine: removed if untouched for so long
    """
    scan = GarbageScan(store, older_days * 86400, time.time())
    found = dict(pair for rule in RULES for pair in rule(scan))
    return [Orphan(path, why, extent(path)[0]) for path, why in found.items()]


def remove(orphan: Orphan) -> str | None:
    """Remove one of them; returns a sentence if that is not possible, else None."""
    try:
        if os.path.isdir(orphan.path) and not os.path.islink(orphan.path):
            shutil.rmtree(orphan.path)
        else:
            orphan.path.unlink()
    except FileNotFoundError:
        return None  # somebody else did it
    except OSError as error:
        return f"{orphan.path} cannot be removed ({error.strerror})"
    return None


def _tails(name: str) -> Iterator[str]:
    """`.a.b.c` -> `a.b.c`, `b.c`, `c`: host names hold dots, as names of files do."""
    parts = name.split(".")[1:]
    return (".".join(parts[i:]) for i in range(len(parts)))


def _done(scan: GarbageScan, key: str) -> bool:
    """Finished, and its record can be read: a damaged one will be run again."""
    try:
        return scan.store.has(key) and bool(scan.store.read(key))
    except StoreError:
        return False

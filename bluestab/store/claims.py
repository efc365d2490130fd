"""Who works on which run, and how far it is: one small file per run under work.

    <store>/.claims/<key>      JSON: token, beat, machine, pid, started, and the progress of the run
    <store>/.deaths/<key>/     claims of processes that died at the run, until it has a result

A claim only saves work: two processes that do one run agree on its result, and the store takes the
first. It appears whole (written aside, then linked) and by one process alone. Its owner counts
beats in it while it lives. The claim of a dead process is taken over: at once where the process can
be seen to be dead, else when its beat has stood still for `STALE` seconds of the observer's own
clock, so that neither wrong nor jumping clocks matter.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from bluestab.core.plain_files import read_bounded
from bluestab.store.files import alone, make_folder
from bluestab.store.processes import UNKNOWN, machine, owner, process_start

BEAT = 2.0  # seconds between two beats
STALE = 60.0  # seconds without a beat after which a process out of sight counts as dead
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)  # of this file system
SIZE = 2048  # bytes of a claim: rewritten in place, always in one write of the same length


def read_claim(path: Path) -> dict[str, Any] | None:
    """What a claim says; None if there is none. One that cannot be read is known by its file."""
    try:
        text = read_bounded(path, 2 * SIZE)
    except FileNotFoundError:
        return None
    except OSError:
        text = b""
    try:
        content: dict[str, Any] = json.loads(text)
        _ = content["token"], content["beat"], content["machine"], content["pid"]
        return content
    except (ValueError, KeyError, TypeError):
        digest = hash(text) if text else 0
        return {"token": f"unreadable {digest}", "beat": 0, "machine": None, "pid": 0}


def seen_dead(claim: Mapping[str, Any]) -> bool | None:
    """Is the owner dead? None: it lives where this process cannot see it."""
    if claim["machine"] != machine():
        return None
    started = process_start(claim["pid"])
    if started == UNKNOWN and claim.get("process_start") != UNKNOWN:  # somebody else's, hidden
        return None
    return started != claim.get("process_start")


class Claim:
    """A claim held by this process. Use as a context: it beats inside and is released at the end.

    progress  what `status --watch` shows; kept in the claim, written with the next beat
    """

    def __init__(self, path: Path, descriptor: int, content: dict[str, Any]) -> None:
        self.path, self.content = path, content
        self._descriptor = descriptor
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._heart.join()
        self.release()

    def progress(self, step: int, total: int, loss: float | None, score: float | None) -> None:
        """The run is at `step` of `total`; loss and score are given at evaluations only."""
        self.content["step"], self.content["total"] = step, total
        if loss is not None:
            self.content["loss"], self.content["score"] = round(loss, 6), score

    def beat(self) -> None:
        """Count one beat and write what is known."""
        self.content["beat"] += 1
        with suppress(OSError):  # a full disk must not end a run; silence for a while is allowed
            os.pwrite(self._descriptor, _padded(self.content), 0)

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT):
            self.beat()

    def is_mine(self) -> bool:
        """False once another process has taken the run over."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except OSError:
            return False

    def release(self) -> None:
        with alone(self.path.parent, required=False):
            if self.is_mine():
                self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


class Claims:
    """The claims of one store, as this process has seen them."""

    def __init__(self, root: Path) -> None:
        self.folder, self.dead_claims = root / ".claims", root / ".deaths"
        self._seen: dict[str, tuple[str, int, float]] = {}

    def take(self, key: str, label: str = "") -> Claim | None:
        """The claim on a run, unless a live process has it. Raises OSError if none can be written.

        label  what people call the run
        """
        return self._create(self.folder / key, label) if self.is_free(key) else None

    def is_free(self, key: str) -> bool:
        """No live process has the run; the claim of a dead one is taken away."""
        path = self.folder / key
        found = read_claim(path)
        if found is None:
            return True
        if not self.is_abandoned(key, found):
            return False
        # among those who saw the same stale claim, one is first
        with alone(self.folder, required=False):
            now = read_claim(path)
            if now is not None and now["token"] == found["token"]:
                self._archive(path, key)
                return True
            return now is None

    def _archive(self, path: Path, key: str) -> None:
        """Move a dead process's claim to `.deaths/<key>/`, where deaths at a run are counted."""
        archive = self.dead_claims / key
        with suppress(OSError):
            make_folder(archive)
            path.rename(archive / uuid.uuid4().hex)
            return
        path.unlink()  # no room, or no right, to keep it

    def deaths(self, key: str) -> list[dict[str, Any]]:
        """Claims of the processes that died at a run since its last result, in order."""
        with suppress(OSError):
            found = [read_claim(path) for path in (self.dead_claims / key).iterdir()]
            dead = [claim for claim in found if claim is not None]
            return sorted(dead, key=lambda claim: str(claim.get("started")))
        return []

    def release_jobs(self, arrays: Iterable[str]) -> None:
        """Take away the claims of tasks that a scheduler says are gone (`12` for all of `12_3`)."""
        gone = set(arrays)
        with alone(self.folder, required=False):
            for path in self._all().values():
                claim = read_claim(path)
                if claim is not None and str(claim.get("job", "")).partition("_")[0] in gone:
                    path.unlink(missing_ok=True)

    def forget_deaths(self, key: str) -> None:
        shutil.rmtree(self.dead_claims / key, ignore_errors=True)

    def _create(self, path: Path, label: str) -> Claim | None:
        make_folder(self.folder)
        content = {
            "token": uuid.uuid4().hex,
            "beat": 0,
            "machine": machine(),
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()),
            "host": socket.gethostname(),
            "started": time.time(),
            "job": os.environ.get("BLUESTAB_JOB", ""),
            "label": label[:300],
        }
        aside = self.folder / f".new.{content['token']}.{owner()}"
        descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            _write_whole(descriptor, content)
            try:
                os.link(aside, path)  # fails if the path exists: appears whole, to one alone
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                os.close(descriptor)  # appears empty, still to one alone
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
                try:
                    _write_whole(descriptor, content)
                except OSError:
                    path.unlink()
                    raise
            return Claim(path, descriptor, content)
        except FileExistsError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        finally:
            aside.unlink(missing_ok=True)

    def is_abandoned(self, key: str, claim: Mapping[str, Any]) -> bool:
        """Is the owner dead, as far as can be known by now? Ask again and again."""
        dead = seen_dead(claim)
        if dead is not None:
            return dead
        now = time.monotonic()
        token, beat, since = self._seen.get(key, ("", -1, now))
        if (token, beat) != (claim["token"], claim["beat"]):
            self._seen[key] = (claim["token"], claim["beat"], now)
            return False
        return now - since > STALE

    def _all(self) -> dict[str, Path]:
        try:
            names = [e.name for e in os.scandir(self.folder) if not e.name.startswith(".")]
        except OSError:
            return {}
        return {name: self.folder / name for name in sorted(names)}

    @cached_property
    def beating(self) -> set[str]:
        """Keys whose owners are seen to beat: two looks, with time for a beat between them."""
        before = {key: read_claim(path) for key, path in self._all().items()}
        if before:
            time.sleep(2.5 * BEAT)
        return {key for key, claim in before.items() if read_claim(self.folder / key) != claim}

    def live(self) -> dict[str, dict[str, Any]]:
        """Key -> claim of every run that somebody is working on."""
        found = {name: read_claim(path) for name, path in self._all().items()}
        return {
            key: claim
            for key, claim in found.items()
            if claim is not None and not self.is_abandoned(key, claim)
        }


def _write_whole(descriptor: int, content: Mapping[str, Any]) -> None:
    """Raises OSError if only a part of a new claim can be written: nobody could read it."""
    if os.pwrite(descriptor, _padded(content), 0) < SIZE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _padded(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    if len(text) >= SIZE:
        text = json.dumps({**content, "label": content["label"][:50]}).encode()
    return text.ljust(SIZE - 1) + b"\n"

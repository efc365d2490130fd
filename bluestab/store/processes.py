"""Which process is meant: on which machine, by which number, and whether it still lives."""

from __future__ import annotations

import hashlib
import os
import socket
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def machine() -> str:
    """Host, boot and process namespace: where a process number means the same process."""

    def read(path: str) -> str:
        try:
            return Path(path).read_text().strip()[:8]
        except OSError:
            return ""

    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}/{read('/proc/sys/kernel/random/boot_id')}/{namespace}"


def process_start(pid: int) -> str | None:
    """When a process of this machine started (clock ticks since boot); None if it is dead.

    A process number is used again some day; together with this it is not. Where there is no /proc
    only the number is looked at.
    """
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except (OSError, IndexError, ValueError):
        if os.path.exists("/proc/self/stat"):
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


def owner() -> str:
    """`<host>.<mark>.<pid>` of this process: the end of the names of what it is writing.

    The mark tells boot and PID namespace: containers may share a host name and a process number.
    """
    return f"{socket.gethostname()}.{_mark()}.{os.getpid()}"


def owner_dead(owner: str) -> bool | None:
    """Is the process `<host>.<mark>.<pid>` dead? None: it cannot be seen from here.

    Names without a mark, of versions up to 0.1, say too little to know.
    """
    place, _, pid = owner.rpartition(".")
    if place != f"{socket.gethostname()}.{_mark()}" or not pid.isdecimal():
        return None
    return process_start(int(pid)) is None


def _mark() -> str:
    """Eight digits that stand for `machine()` in a file name."""
    return hashlib.sha256(machine().encode()).hexdigest()[:8]

"""Commands about what a stranger gave, each in a process of its own that is watched from outside.

Looked at are what it says, how it ends, its time and memory, and, through the audit events of
Python (PEP 578) as well as by lists and hashes of files, what it writes, removes, runs or calls.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import os
import resource
import signal
import stat
import struct
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from bluestab.store.store import KEY
from tests.support.killed_anywhere import writes

SECONDS, MEGABYTES = 10, 900
"""Of the processor, and of memory beside what the modules take (100 MB; with torch 600 MB)."""

GIVEN = ("theirs", "out", "o", "o.txt", "grown")
"""What a command may write to: the stranger's folder, and what it is told to write, also aside."""

OWN_PICKLES = ("hydra", "omegaconf", "enum", "collections", "typing")
PLAIN = [("builtins", name) for name in ("dict", "list", "str", "int", "float", "bool")]
"""Packages and builtins of what is pickled in memory (`tests.support.composed_once`)."""

MINE = ("mine.txt", "x.txt")
LASTING = ("sweeps", "searches", ".crashed")
"""What lasts in a store beside its finished runs."""


def outside(folder: Path, but: Path) -> dict[str, str]:
    """Hash of every file below a folder, those below another left out; of the rest, its kind."""
    return {
        str(path): _content(path)
        for path in sorted(folder.rglob("*"))
        if not path.is_relative_to(but)
    }


def _content(path: Path) -> str:
    own = path.lstat()
    if not stat.S_ISREG(own.st_mode):
        return f"{stat.S_IFMT(own.st_mode):o}"
    if own.st_size > 2**26 or not own.st_mode & stat.S_IRUSR:
        return str(own.st_size)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lasting(store: Path) -> dict[str, str]:
    """What no verb may change or remove: finished runs, crashes, sweeps and searches."""
    return {
        name: content
        for place in (store.iterdir() if store.is_dir() and not store.is_symlink() else ())
        if KEY.fullmatch(place.name) or place.name in LASTING
        for name, content in {str(place): "", **outside(place, place / "not")}.items()
    }


def complaint(arguments: Sequence[str]) -> str:
    """What is wrong with how a command ends; nothing if all is well."""
    from bluestab.cli.app import main

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["bluestab", *arguments]
    code: Any = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as leaving:
        code = leaving.code or 0
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({place.filename}:{place.lineno})"
    said = err.getvalue()
    if code not in (0, 1, 2):
        return f"exit code {code}: {said[:200]}"
    if code == 2 and not (said.startswith("bluestab: ") and len(said) < 4000):
        return f"no sentence: {said[:300]!r}"
    if "Traceback" in said + out.getvalue():
        return f"a traceback: {said[-300:]}"
    return "" if "\x1b" not in said + out.getvalue() else "codes of a terminal"


def _place(path: Any, folder: Any) -> Path | None:
    """Where a path of an audit event is, links above it followed; None if it is no path."""
    if isinstance(path, int) or not isinstance(path, str | bytes | os.PathLike):
        return None
    above = f"/proc/self/fd/{folder}" if isinstance(folder, int) and folder >= 0 else "."
    whole = Path(above, os.fsdecode(path))
    return Path(os.path.realpath(whole.parent), whole.name)


def _watch(folder: Path, found: list[str]) -> None:
    """Note every write outside of `GIVEN`, and what of the stranger's is run, from now on."""
    here, scratch = Path(os.path.realpath(folder)), Path(os.path.realpath(tempfile.gettempdir()))
    caches = [Path(os.environ["BLUESTAB_CACHE"]), Path("/dev"), Path("/proc")]

    def may_be(place: Path) -> bool:
        if place.is_relative_to(here):
            top = place.relative_to(here).parts[:1] or ("out",)  # itself: to see that it is there
            return any(t == n or t.lstrip(".").startswith(f"{n}.") for t in top for n in GIVEN)
        own = place.is_relative_to(scratch) and place.relative_to(scratch).parts[0]
        return any(place.is_relative_to(one) for one in caches) or str(own).startswith("bluestab-")

    def written(path: Any, in_folder: Any = -1) -> None:
        place = _place(path, in_folder)
        if place is None or "__pycache__" in place.parts:
            return
        if not may_be(place):
            found.append(f"writes {place}")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if writes(event, arguments):
            last = arguments[-1] if event not in ("open", "os.truncate", "os.utime") else -1
            written(arguments[0], arguments[2] if event in ("os.rename", "os.link") else last)
            if event in ("os.rename", "os.link"):
                written(arguments[1], arguments[3])
        elif event == "exec":
            file = getattr(arguments[0], "co_filename", "<")
            if not file.startswith("<") and Path(os.path.abspath(file)).is_relative_to(folder):
                found.append(f"runs {file}")
        elif event == "pickle.find_class":
            module, name = arguments
            if module.partition(".")[0] not in OWN_PICKLES and (module, name) not in PLAIN:
                found.append(f"unpickles {arguments}")
        elif event in ("socket.connect", "os.system", "os.exec"):
            found.append(f"{event} {arguments[-1]}")

    sys.addaudithook(hook)


def _as_anybody() -> None:
    """From now on, modes of files bind this process, also as root (Linux: capset)."""
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)  # version 3, this process
    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def complaints(folder: Path, commands: Sequence[Sequence[str]]) -> list[str]:
    """Each command in a process of its own, in time and memory, writing where it may alone."""
    found = []
    for command in commands:
        reading, writing = os.pipe()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(12 * SECONDS)  # of the clock: nothing is waited for
            resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS))
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))  # nothing fills the disk
            _as_anybody()
            noted: list[str] = []
            _watch(folder, noted)
            said = complaint(command) or "; ".join(dict.fromkeys(noted))
            os.write(writing, said.encode(errors="replace")[:4000])
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode()
        _, status, used = os.wait4(child, 0)
        grown = used.ru_maxrss // 1024 - pages * resource.getpagesize() // 2**20
        if status:
            said = f"ended with {os.waitstatus_to_exitcode(status)}"
        elif used.ru_utime + used.ru_stime > SECONDS:
            said = f"{used.ru_utime + used.ru_stime:.0f} s"
        elif grown > MEGABYTES:
            said = f"{grown} MB"
        if said:
            found.append(f"{' '.join(command)}: {said}")
    return found


def watched(folder: Path, store: Path, commands: Sequence[Sequence[str]]) -> list[str]:
    """`complaints`, and what is not as it was: outside the store, or of what lasts in it."""
    around = folder.parent / "around"
    around.mkdir(exist_ok=True)
    (around / "file").write_text("somebody else's")
    was = outside(folder.parent, folder), [_content(p) for p in _mine(folder)], lasting(store)
    found = complaints(folder, commands)
    now = outside(folder.parent, folder), [_content(p) for p in _mine(folder)], lasting(store)
    if now[:2] != was[:2]:
        found.append("something outside has changed")
    names = {name for name, content in {**was[2], **now[2]}.items()}
    return [
        *found,
        *(f"{name} has changed" for name in sorted(names) if was[2].get(name) != now[2].get(name)),
    ]


def _mine(folder: Path) -> list[Path]:
    return [path for name in MINE if (path := folder / name).exists()]

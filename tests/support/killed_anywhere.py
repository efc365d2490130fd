"""An action in a process of its own, killed before or in the middle of any chosen write."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

WRITES = frozenset(
    ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate", "os.utime")
)
"""Audit events (PEP 578) that change a file system; `open` is one where it may write."""

KILLS = ("KILL", "TERM", "INT", "half")
"""Signals, and `half`: by the kernel, when a file grows over `HALF` bytes."""
HALF = 20
INTERRUPTED = 7  # exit code of a child that Ctrl-C, or the error of half a write, has ended


def writes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event changes a file system."""
    if event == "open":
        path, _, flags = arguments
        device = isinstance(path, str) and path.startswith(("/dev/", "/proc/"))
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and not device
    return event in WRITES


def _kill(how: str) -> None:
    if how == "half":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, HALF))
    else:
        os.kill(os.getpid(), getattr(signal, f"SIG{how}"))


def killed_before(action: Callable[[], object], n: int, how: str = "KILL") -> bool:
    """Do something in a child, which dies right before its write number n; did it get so far?

    how  one of `KILLS`; with `half` it dies in the middle of the next file that it writes

    Raises AssertionError if it fails by itself.
    """
    child = os.fork()
    if child == 0:
        passed = 0
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal passed
            if writes(event, arguments):
                passed += 1
                if passed == n + 1:
                    _kill(how)

        sys.addaudithook(hook)
        try:
            action()
        except BaseException as error:
            if how in ("INT", "half") and passed > n:  # half of a file may be an error, too
                os._exit(INTERRUPTED)
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(3)
        os._exit(INTERRUPTED if how == "INT" and passed > n else 0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code <= 0 or code == INTERRUPTED, "see its standard error"
    return code != 0

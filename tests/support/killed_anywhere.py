"""An action in a process of its own, killed by SIGKILL before any chosen write."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

WRITES = frozenset(
    ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate", "os.utime")
)
"""Audit events (PEP 578) that change a file system; `open` is one where it may write."""


def _writes(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        path, _, flags = arguments
        device = isinstance(path, str) and path.startswith(("/dev/", "/proc/"))
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and not device
    return event in WRITES


def killed_before(action: Callable[[], object], n: int) -> bool:
    """Do something in a child, which dies right before its write number n; did it get so far?

    Raises AssertionError if it fails by itself.
    """
    child = os.fork()
    if child == 0:
        passed = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal passed
            if _writes(event, arguments):
                if passed == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                passed += 1

        sys.addaudithook(hook)
        try:
            action()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "see its standard error"
    return os.WIFSIGNALED(status)

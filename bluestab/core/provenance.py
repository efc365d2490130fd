"""Where, when and with what a run was made: what may differ between two repetitions of it.

No environment values are read but the command line that bluestab itself noted.
"""

from __future__ import annotations

import os
import platform
import resource
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.secrets import cleaned_command

if TYPE_CHECKING:
    import torch


def provenance(device: str) -> dict[str, Any]:
    """Machine, versions, commit, command and time of now; device as `devices.resolve` names it."""
    name = platform.processor()
    if device.startswith("cuda"):
        import torch

        name = torch.cuda.get_device_name(device)
    return {
        "device": f"{device} {name}".strip(),
        "versions": versions(),
        **commit(),
        "host": socket.gethostname(),
        "command": command_line(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def command_line() -> str:
    """What the person typed; the entry point notes it before it hands arguments to Hydra."""
    return cleaned_command(os.environ.get("BLUESTAB_COMMAND") or shlex.join(sys.argv))


def is_of_one_run(command: object) -> bool:
    """Whether this is `bluestab run` without `-m`, which makes one run."""
    words = str(command or "").split()
    return words[:2] == ["bluestab", "run"] and not {"-m", "--multirun"} & {*words}


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("bluestab", "torch", "transformers", "pytorch-lightning", "datasets", "tokenizers")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except ImportError:
            found[package] = "source"
    return found


@lru_cache(maxsize=1)
def commit() -> dict[str, Any]:
    """Commit and dirty flag of bluestab's own checkout; nulls for an installed package."""
    folder = Path(__file__).parents[2]

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != folder:
            return {"commit": None, "dirty": None}
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def memory_now_mb() -> int:
    """Memory this process holds now, in MiB (its peak, where /proc is missing)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return pages * resource.getpagesize() // 2**20


def peak_memory_mb(device: torch.device) -> dict[str, int]:
    """Peak of this process so far (all runs it did), and of the GPU where there is one."""
    import torch

    found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.max_memory_allocated(device) // 2**20
    return found

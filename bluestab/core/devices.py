"""Which devices this machine has; torch is asked only where there may be an accelerator."""

from __future__ import annotations

import math
import os
import platform
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from bluestab.core.errors import ConfigError

DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, WSL


@lru_cache(maxsize=1)
def cuda_devices() -> int:
    """Number of CUDA (or ROCm) devices that torch can use."""
    if not any(Path(driver).exists() for driver in DRIVERS):
        return 0  # importing torch takes seconds
    import torch

    return torch.cuda.device_count()


def has_mps() -> bool:
    """Is there an Apple GPU that torch can use?"""
    if platform.system() != "Darwin":
        return False
    import torch

    return bool(torch.backends.mps.is_available())


class Kind(NamedTuple):
    """What a device is, as far as defaults depend on it: cpu, cuda or mps; does its arithmetic
    include bfloat16?"""

    name: str
    bf16: bool


def kind_of(device: str) -> Kind:
    """The kind of `auto|cpu|cuda[:N]|mps` on this machine, whether or not it has such a device."""
    name = device.partition(":")[0]
    if name == "auto":
        name = "cuda" if cuda_devices() else "cpu"
    return Kind(name, {"cpu": cpu_has_bf16, "cuda": gpus_have_bf16}.get(name, lambda: False)())


def kind_in_job(device: str, *, gpus: bool) -> Kind:
    """The same in a job on nodes that are not known yet: bfloat16 only if GPUs are asked for."""
    return Kind("cuda", True) if gpus and device != "cpu" else Kind("cpu", False)


@lru_cache(maxsize=1)
def cpu_has_bf16() -> bool:
    """Do the processor's own instructions multiply bfloat16? Linux says it in /proc/cpuinfo: AMX or
    AVX512 on x86, BF16 on Arm. Elsewhere no: emulated, it is slower than float32."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, flags = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(flags.split())
    return False


@lru_cache(maxsize=1)
def gpus_have_bf16() -> bool:
    """Does every GPU of this machine compute in bfloat16 (NVIDIA: since Ampere)?"""
    if not cuda_devices():
        return False
    import torch

    def has(index: int) -> bool:
        with torch.cuda.device(index):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))

    return all(map(has, range(cuda_devices())))


def cores() -> int:
    """CPU cores this process may use: its affinity, within the quota of its control group."""
    known = hasattr(os, "sched_getaffinity")
    found = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(found, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or "max": no quota
        return found


def memory_mb() -> int:
    """Memory this process may use, in MiB: the machine's, within the limit of its control group."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no control group, or "max": no limit
        found = min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return found // 2**20


def oom_kills() -> int:
    """How often the kernel killed a process of this control group for want of memory, as far as
    it tells: 0 where there is no such group."""
    for counters in _memory_counters():
        with suppress(OSError, ValueError, IndexError):
            for line in counters.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _memory_counters() -> list[Path]:
    """Where version 2 and version 1 of control groups count what they killed."""
    found = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                found.append(Path(f"/sys/fs/cgroup{group}/memory.events"))
            elif controllers == "memory":
                found.append(Path(f"/sys/fs/cgroup/memory{group}/memory.oom_control"))
    return found


def of_ranks(first: str, n: int) -> list[str]:
    """The devices of a run on `n` of them: from `cuda:1` on, cuda:1, cuda:2, ...; `cpu` is shared.

    Raises ConfigError if there are not as many.
    """
    kind, _, index = first.partition(":")
    if kind == "cpu" or n == 1:
        return [first] * n
    if kind == "mps" or int(index) + n > cuda_devices():
        has = "one GPU" if kind == "mps" else f"{cuda_devices()} CUDA devices"
        raise ConfigError(
            f"trainer.devices is {n}, beginning with {first}, but this machine has {has} that "
            "torch can use; say trainer.devices=1"
        )
    return [f"{kind}:{int(index) + rank}" for rank in range(n)]


def resolve(name: str) -> str:
    """`auto|cpu|cuda[:N]|mps` -> `cpu`, `cuda:N` or `mps`. Raises ConfigError if it is not here."""
    if name == "auto":
        name = "cuda" if cuda_devices() else "cpu"
    if name == "cuda":
        name = "cuda:0"
    kind, _, index = name.partition(":")
    if kind == "cuda" and int(index) >= cuda_devices():
        raise ConfigError(
            f"device is {name}, but this machine has {cuda_devices()} CUDA devices that torch can "
            "use; say device=cpu"
        )
    if kind == "mps" and not has_mps():
        raise ConfigError("device is mps, which this machine does not have; say device=cpu")
    return name

"""Memory: what a process keeps of it, how to tell that it is out, how small a run may become."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

SENTENCES = (
    "can't allocate memory",  # torch's CPU allocator on Linux
    "not enough memory",  # the same elsewhere
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
)


M_TRIM, M_MMAP = -1, -3  # malloc.h
KEPT_FREE = 2**30
"""Bytes that a process may hold free between two steps."""

SAID_OUTSIDE = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed() -> None:
    """Let the C library keep what a step frees for the next one.

    glibc gives large blocks back at once, and the system clears every page anew when they are asked
    for again: on CPUs a tenth of the time of MiniLM on BIOSSES. Where the environment says when it
    should, and with other C libraries, nothing is changed.
    """
    if any(name in os.environ for name in SAID_OUTSIDE):
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for threshold in (M_TRIM, M_MMAP):
            mallopt(threshold, KEPT_FREE)


COUNTED = "counted "
"""How a part of the count is called beside the peaks that were measured."""


def counted_mb(report: Mapping[str, int]) -> dict[str, float]:
    """Bytes as `loop/counted_memory.py` reports them, in MiB, by names of their own."""
    return {f"{COUNTED}{part}": n_bytes / 2**20 for part, n_bytes in report.items()}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether fewer items at once might have prevented this."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(sentence in said for sentence in SENTENCES)


@dataclass(frozen=True)
class Sizes:
    """Items at once: per optimizer step, per forward and backward, per evaluation batch.

    micro_batch is None where the whole batch passes at once.
    """

    batch: int
    micro_batch: int | None
    evaluation: int

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Sizes:
        batch, micro = cfg["optim"]["batch_size"], cfg["trainer"]["micro_batch"]
        part = math.ceil(batch / cfg["trainer"]["devices"])  # something for each device
        micro = part if micro is None else min(micro, part)
        return cls(
            batch=batch,
            micro_batch=None if micro >= batch else micro,
            evaluation=cfg["trainer"]["eval_batch_size"],
        )

    def halved(self, *, evaluating: bool, whole: bool = False) -> Sizes | None:
        """The next smaller attempt, or None if nothing is left to halve.

        evaluating  memory ran out in an evaluation: the training itself keeps its bits
        whole       batches of training have no parts: another size is another loss
        """
        if evaluating:
            smaller = replace(self, evaluation=self.evaluation // 2)
            return smaller if self.evaluation > 1 else None
        if whole:
            return None
        now = self.micro_batch or self.batch
        return replace(self, micro_batch=now // 2) if now > 1 else None

    def applied_to(self, cfg: Mapping[str, Any]) -> dict[str, Any]:
        """The config with these sizes in it."""
        sizes = {"micro_batch": self.micro_batch, "eval_batch_size": self.evaluation}
        return {**cfg, "trainer": {**cfg["trainer"], **sizes}}

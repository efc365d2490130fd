"""Out of memory: how to recognise it, and how small a run may become to fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

SENTENCES = (
    "can't allocate memory",  # torch's CPU allocator on Linux
    "not enough memory",  # the same elsewhere
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
)


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

    def halved(self, *, evaluating: bool) -> Sizes | None:
        """The next smaller attempt, or None if nothing is left to halve.

        evaluating  memory ran out in an evaluation: the training itself keeps its bits
        """
        if evaluating:
            smaller = replace(self, evaluation=self.evaluation // 2)
            return smaller if self.evaluation > 1 else None
        now = self.micro_batch or self.batch
        return replace(self, micro_batch=now // 2) if now > 1 else None

    def applied_to(self, cfg: Mapping[str, Any]) -> dict[str, Any]:
        """The config with these sizes in it."""
        sizes = {"micro_batch": self.micro_batch, "eval_batch_size": self.evaluation}
        return {**cfg, "trainer": {**cfg["trainer"], **sizes}}

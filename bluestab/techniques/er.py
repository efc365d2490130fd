"""ER: items of earlier tasks are trained on again.

Idea      What is practised is not forgotten.
Formula   L = task + beta * mean loss of items drawn from a buffer of earlier tasks, each with the
          loss and the head of its task.
Source    Chaudhry et al. 2019 (arXiv 1902.10486); beta as in Wang et al. 2024 (arXiv 2403.13249).
Settings  beta 0.5 on CIFAR-100 in the code of Wang et al.; no setting for text encoders is known to
          us. See `replay.py` for the buffer, what is drawn, and the heads.
Cost      A second forward and backward pass per step, of as many items. The earlier texts must be
          at hand.
Not with  `lora`; several devices. No cached output of frozen blocks.
Against   It keeps patients' texts in use: where these must go, no buffer may stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bluestab.core.types import Batch
from bluestab.techniques.replay import Replaying

if TYPE_CHECKING:
    import torch


class Er(Replaying):
    """beta: weight of the replayed loss, >= 0; the rest: see `Replaying`."""

    name = "er"
    weights = ("beta",)

    def __init__(self, *, beta: float, buffer_size: int | str, buffer: str, draws: int):
        self.beta = beta
        self.buffer_size = buffer_size
        self.buffer = buffer
        self.draws = draws

    def replayed(self, batch: Batch) -> torch.Tensor:
        return self.beta * self.labels_term(batch)

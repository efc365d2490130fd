"""DER++: earlier logits are kept, and earlier labels trained on, each for items drawn by itself.

Idea      `der` and `er` together.
Formula   L = task + alpha * mean squared difference of logits over one draw from the buffer + beta
          * mean loss over another.
Source    Buzzega et al. 2020 (NeurIPS, arXiv 2004.07211); two independent draws as in the code of
          Wang et al. 2024 (arXiv 2403.13249). Logits are those at the end of the task: see `der`.
Settings  alpha 0.1, beta 0.5 on CIFAR-100 with 500 items in the code of Wang et al.; none for text
          encoders.
Cost      Two more forward and backward passes per step, of as many items each.
Not with  `lora`; several devices. No cached output of frozen blocks.
Against   As `er`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bluestab.core.types import Batch
from bluestab.techniques.replay import ReplayingLogits

if TYPE_CHECKING:
    import torch


class Derpp(ReplayingLogits):
    """alpha: weight of the logits' distance, beta: of the replayed loss; see `Replaying`."""

    name = "derpp"
    weights = ("alpha", "beta")

    def __init__(
        self, *, alpha: float, beta: float, buffer_size: int | str, buffer: str, draws: int
    ):
        self.alpha = alpha
        self.beta = beta
        self.buffer_size = buffer_size
        self.buffer = buffer
        self.draws = draws

    def replayed(self, batch: Batch) -> torch.Tensor:
        return self.alpha * self.logits_term(batch) + self.beta * self.labels_term(batch)

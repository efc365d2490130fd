"""DER: earlier answers to earlier items are kept, as logits (dark experience replay).

Idea      Logits say more of what a network knew than labels do.
Formula   L = task + alpha * mean squared difference of the logits, over items and classes (for
          words over labelled word pieces), between now and then, for items drawn from a buffer.
Source    Buzzega et al. 2020 (NeurIPS, arXiv 2004.07211); the mean over classes as in the code of
          Wang et al. 2024 (arXiv 2403.13249). There the logits are those met along the training;
          here those at the end of the task (as in FDR, Benjamin et al. 2019), so that all arms
          share the runs of the first task.
Settings  alpha 0.1 on CIFAR-100 in the code of Wang et al. (DER++); none for text encoders.
Cost      As `er`; a pass over the buffer at every start.
Not with  `lora`; several devices. No cached output of frozen blocks.
Against   As `er`. A wrong answer is kept as well as a right one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bluestab.core.types import Batch
from bluestab.techniques.replay import ReplayingLogits

if TYPE_CHECKING:
    import torch


class Der(ReplayingLogits):
    """alpha: weight of the logits' distance, >= 0; the rest: see `Replaying`."""

    name = "der"
    weights = ("alpha",)

    def __init__(self, *, alpha: float, buffer_size: int | str, buffer: str, draws: int):
        self.alpha = alpha
        self.buffer_size = buffer_size
        self.buffer = buffer
        self.draws = draws

    def replayed(self, batch: Batch) -> torch.Tensor:
        return self.alpha * self.logits_term(batch)

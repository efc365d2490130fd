"""MAS: weights to which earlier answers were sensitive stay near their values.

Idea      As `ewc`, with the importance of a weight taken from the answer itself, without any label:
          how much the length of the logits changes with it.
Formula   strength / 2 sum over weights i of O_i (w_i - w_last,i)^2, O = sum over earlier tasks of
          the mean over items of |d ||logits||^2 / d w|; for words the logits of all real word
          pieces.
Source    Aljundi et al. 2018 (ECCV, arXiv 1711.09601): importances are summed over tasks, the
          anchor is the last. Their lambda is half our strength, before O is divided by its mean.
Settings  None that carries over; see `ewc`.
Where     As `ewc`.
Cost      A forward and backward pass per item of each earlier task, as `ewc` has it; 2 numbers per
          weight in all.
Not with  `lora`; several devices.
Against   Made for images; no report on text encoders over seeds is known to us.
"""

from __future__ import annotations

from collections.abc import Sequence

from bluestab.models.built import Built
from bluestab.models.earlier import EarlierTask
from bluestab.models.importance import Importance
from bluestab.techniques.anchored import Anchored, Penalty, penalties_of, summed


class Mas(Anchored):
    """strength: of the pull."""

    name = "mas"

    def __init__(self, *, strength: float | str):
        self.strength = strength

    @property
    def importance(self) -> Importance:
        return Importance("sensitivity")

    def penalties(self, earlier: Sequence[EarlierTask], built: Built) -> list[Penalty]:
        return [summed(penalties_of(earlier, built, self.importance))]

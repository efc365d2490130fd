"""CPR: answers stay a little uncertain, so that weights end in a wide minimum.

Idea      A network that is as sure as it can be sits in a narrow minimum of the loss, from which
          the next task drives it off. Answers that keep some entropy leave a wider one, in which
          both tasks have room. It asks for no earlier task: each stage, the first as well, trains
          with it, alone or beside `ewc`, `mas` and the like.
Formula   L = task + beta * mean of KL(p, uniform), p the answer: log C less its entropy for C
          classes or tags (mean over items or labelled word pieces); of several labels at once each
          is a yes or no of its own, mean over labels.
Source    Cha et al. 2021 (ICLR, arXiv 2006.07326); a special case of Wang et al. 2024 (ICLR, arXiv
          2403.13249) with stored targets that are uniform. The same term without tasks in turn:
          Pereyra et al. 2017 (arXiv 1701.06548).
Settings  Theirs we could not read; in the code of Wang et al. it is off. beta 0.1 is ours.
Cost      None to speak of.
Not with  Regression, which has no entropy; `stop_degenerate`, which compares the training loss with
          that of a constant answer; `label_smoothing`, which would scale this term as well.
Against   Made for images; no report on text encoders over seeds is known to us.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, at_least
from bluestab.core.types import IGNORED, Batch, ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique, predicts_a_number

if TYPE_CHECKING:
    import torch

    from bluestab.core.seeding import Seeds


def certainty(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of KL(p, uniform) >= 0 in nats, 0 where all answers are as likely.

    logits (B, C) or (B, T, C); labels: classes (B,) or (B, T), or flags (B, C).
    """
    from torch.nn.functional import logsigmoid

    if labels.is_floating_point():
        p = logits.sigmoid()
        each = p * logsigmoid(logits) + (1 - p) * logsigmoid(-logits) + math.log(2)
        return each.mean()
    log_p = logits.log_softmax(dim=-1)
    each = (log_p.exp() * log_p).sum(dim=-1) + math.log(logits.shape[-1])
    return each[labels != IGNORED].mean()


class Cpr(Technique):
    """beta: weight of the term, >= 0, 0 is off."""

    neutral: ClassVar[Mapping[str, Any]] = {"beta": 0.0}

    def __init__(self, *, beta: float) -> None:
        self.beta = beta
        self.used = False

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {"beta": at_least(0)}

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        if self.beta > 0 and predicts_a_number(cfg["task"]):
            return [
                f"technique cpr keeps answers uncertain, and task {cfg['task']['name']} predicts a "
                "number, which has no entropy; leave it out or choose a task with labels"
            ]
        if self.beta > 0 and cfg["technique"].get("label_smoothing", {}).get("epsilon"):
            return [
                "techniques cpr and label_smoothing both soften answers, and the second would "
                "scale the term of the first; choose one of them"
            ]
        if self.beta > 0 and cfg["stop_degenerate"] is True:
            return [
                "technique cpr raises the training loss, which stop_degenerate=true compares with "
                "that of a constant answer: choose one of them"
            ]
        return []

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        """The loss that every step computes, also inside other techniques."""
        if self.is_neutral():
            return built
        plain = built.loss

        def uncertain(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
            self.used = True
            return plain(logits, batch) + self.beta * certainty(logits, batch["labels"])

        return replace(built, loss=uncertain)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return {"entropy_weight": self.beta} if self.used else {}

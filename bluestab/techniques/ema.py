"""EMA: an exponential moving average of the weights is evaluated and kept in place of the weights.

Idea      Single steps on small batches jump about; their average lies where they jump around.
Formula   avg <- d avg + (1 - d) w after every optimizer step, from the weights before the first
          one. With `warmup`, d = min(decay, (1 + t) / (10 + t)) after step t = 1, 2, ..., else
          d = decay: without it, a run shorter than 1 / (1 - decay) steps ends near its start.
Scope     Everything that trains. Around each validation the averages are exchanged with the raw
          weights, so curve, best and last weights, their scores and predictions are those of the
          averages; training itself goes on from the raw weights and is bit for bit plain training.
Source    Polyak & Juditsky 1992 (the mean of iterates); decay and warm-up are those of TensorFlow's
          ExponentialMovingAverage, the warm-up as it is with `num_updates`.
Settings  TensorFlow's documentation: reasonable are several nines, 0.999 or 0.9999. No setting for
          the fine-tuning of BERT is known to us.
Cost      One more copy of the trained weights in memory; no extra pass.
Not with  `swa`: both put averages in place of the same weights.
Against   We found no figure for BERT. The linear decay of the learning rate to zero already calms
          the last steps, which leaves little to average away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import FLAG, Rule, within
from bluestab.core.types import ModelFacts
from bluestab.models.averaging import Averages, callback
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback


def decay_after(step: int, decay: float, warmup: bool) -> float:
    """Share of the old average that stays after optimizer step `step` >= 1."""
    return min(decay, (1 + step) / (10 + step)) if warmup else decay


class Ema(Technique):
    """decay: share of the average that stays, in [0, 1), 0 is off; warmup: less at first."""

    embeddings_by_row: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"decay": 0.0}

    def __init__(self, *, decay: float, warmup: bool) -> None:
        self.decay = decay
        self.warmup = warmup
        self.averages = Averages()

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "decay": within("[0, 1)"),
            "warmup": FLAG,
        }

    def callbacks(self, built: Built) -> list[Callback]:
        if self.is_neutral():
            return []

        def update(averages: list[torch.Tensor], raw: list[torch.Tensor], steps: int) -> None:
            import torch

            share = decay_after(steps + 1, self.decay, self.warmup)
            torch._foreach_lerp_(averages, raw, 1 - share)

        return [callback(self.averages, update, first=lambda total: 1)]

    def state_dict(self) -> dict[str, Any]:
        return self.averages.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.averages.load_state_dict(state)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if not self.averages.distance:
            return {}
        return {"decay": self.decay, "distance_from_last_step": self.averages.distance}

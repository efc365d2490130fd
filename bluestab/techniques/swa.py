"""SWA: the plain mean of the weights over the last steps is evaluated and kept.

Idea      Steps at a rate that does not vanish circle around a wide minimum; their mean is nearer to
          its middle than any of them.
Formula   avg = mean of w after each of the last n = ceil(tail * steps) optimizer steps. With `rate`
          each learning rate stays at that share of its peak over these n steps; otherwise the
          schedule goes on towards zero, and late weights hardly differ.
Scope     Everything that trains. Before the first of these steps validation sees the raw weights,
          from then on the mean so far, exchanged with the raw weights and back; so curve, best and
          last weights are what was evaluated. The networks have no batch statistics to renew.
Source    Izmailov et al. 2018 (arXiv 1803.05407); for language models Lu et al. 2022 (EMNLP
          Findings, arXiv 2212.05956). The mean is torch.optim.swa_utils'.
Settings  Lu et al.: a high constant rate rather than a cyclic one, a mean over steps rather than
          epochs, begun earlier than for images in most tasks of language understanding. The
          defaults here, half of the steps and the schedule left as it is, are ours.
Cost      One more copy of the trained weights in memory; no extra pass.
Not with  `ema`: both put averages in place of the same weights.
Against   In what we could read, Lu et al. report better means at no extra cost; spread over seeds
          is not reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, within
from bluestab.core.types import ModelFacts
from bluestab.models.averaging import Averages, callback
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback


def first_step(total: int, tail: float) -> int:
    """The first of the last ceil(tail * total) steps, counted from 1, without float noise."""
    return total - math.ceil(round(tail * total, 9)) + 1


class Swa(Technique):
    """tail: share of the steps in [0, 1], 0 is off; rate: in (0, 1], null: the schedule."""

    embeddings_by_row: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"tail": 0.0}

    def __init__(self, *, tail: float, rate: float | None) -> None:
        self.tail = tail
        self.rate = rate
        self.averages = Averages()

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "tail": within("[0, 1]"),
            "rate": within("(0, 1]", null=True),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        if "ema" in cfg["technique"]:
            return [
                "technique swa and technique ema both put averages in place of the weights: "
                "choose one of them"
            ]
        return []

    def callbacks(self, built: Built) -> list[Callback]:
        if self.is_neutral():
            return []

        def update(averages: list[torch.Tensor], raw: list[torch.Tensor], steps: int) -> None:
            from torch.optim.swa_utils import get_swa_multi_avg_fn

            get_swa_multi_avg_fn()(  # type: ignore[no-untyped-call]
                averages, raw, steps
            )

        return [
            callback(self.averages, update, lambda total: first_step(total, self.tail), self.rate)
        ]

    def state_dict(self) -> dict[str, Any]:
        return self.averages.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.averages.load_state_dict(state)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if self.averages.steps < 2:
            return {}
        return {
            "averaged_steps": self.averages.steps,
            "distance_from_last_step": self.averages.distance,
            **({} if self.rate is None else {"rate": self.rate}),
        }

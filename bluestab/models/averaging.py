"""Weights averaged over training, and when they stand in for the raw ones.

Around every validation during training the averages are put into the model and taken out again, by
exchanging storage, so no bit of the raw weights is lost; what validation keeps as best weights are
therefore averages. When training ends they stay: last weights, scores and predictions are theirs.
Checkpoints are written between steps and hold the raw weights; the averages go along as the state
of the technique.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback
    from torch import nn

Update = Callable[["list[torch.Tensor]", "list[torch.Tensor]", int], None]
"""(averages, raw weights, how many steps they hold): move the averages, in place."""


class Averages:
    """Averages of everything that trains. Nothing else differs from the raw model."""

    def __init__(self) -> None:
        self.parameters: dict[str, nn.Parameter] = {}
        self.values: dict[str, torch.Tensor] = {}
        self.steps = 0
        self.distance: float | None = None

    def start(self, model: nn.Module) -> None:
        """From the weights as they are now; whatever was averaged before is forgotten."""
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.values = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.steps, self.distance = 0, None

    def take(self, update: Update) -> None:
        """One more step enters the averages."""
        raw = [p.detach() for p in self.parameters.values()]
        update(list(self.values.values()), raw, self.steps)
        self.steps += 1

    def exchange(self) -> None:
        """Averages into the model and raw weights out of it, or back; nothing if there are none."""
        if not self.steps or not self.values:
            return
        for name, parameter in self.parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data

    def stay(self) -> None:
        """The averages are the weights from now on; how far they lie from the raw ones is noted."""
        if not self.steps:
            return
        self.exchange()
        self.distance = math.sqrt(
            sum(
                float((p.detach().double() - self.values[name].double()).square().sum())
                for name, p in self.parameters.items()
            )
        )
        self.values = {}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "values": dict(self.values) if self.steps else {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state["values"].items():
            self.values[name].copy_(value)
        self.steps = state["steps"]


def callback(
    averages: Averages, update: Update, first: Callable[[int], int], rate: float | None = None
) -> Callback:
    """Moves the averages after each step and exchanges them around validations.

    first   total number of steps -> the first one whose result is averaged, from 1
    rate    share of its peak at which each learning rate stays over the averaged steps; None: the
            schedule goes on
    """
    import pytorch_lightning as pl

    class Averaging(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            averages.start(module.model)  # type: ignore[arg-type]

        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if rate is not None and trainer.global_step + 1 >= first(trainer.max_steps):
                for group in trainer.optimizers[0].param_groups:
                    group["lr"] = group["initial_lr"] * rate

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step >= first(trainer.max_steps):
                averages.take(update)

        def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
            averages.exchange()

        def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
            averages.exchange()

        def on_train_end(self, *_: Any) -> None:
            averages.stay()

    return Averaging()

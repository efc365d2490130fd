"""One run of a group: a network of its own, whose parameters are views into the stack.

Because they are, everything that does not compute with S items at once is what it is in any run:
plan, optimizer and what techniques hook into it, schedule, clipping, history, effects, saved
weights. A run that ends early (diverged, or stopped) is no longer stepped, and the others go on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bluestab.core.errors import Diverged
from bluestab.core.types import Example, Progress, Split, Watch
from bluestab.models.built import Built
from bluestab.models.param_plan import ParamPlan
from bluestab.techniques.base import Technique
from bluestab.training.check import Run
from bluestab.training.loop import diagnostics
from bluestab.training.loop.batches import training_order
from bluestab.training.loop.evaluation import Evaluator, ItemLogits, make_evaluator
from bluestab.training.loop.gradients import clipped, mean_gradient_norms
from bluestab.training.loop.history import ValidationHistory
from bluestab.training.loop.observed import observed
from bluestab.training.loop.optimizers import MergedAdamW
from bluestab.training.loop.schedules import linear_warmup_decay
from bluestab.training.prepare import Prepared, build_optimizer

if TYPE_CHECKING:
    from pytorch_lightning import Callback


@dataclass(eq=False)
class Sibling:
    """A run as the group trains it.

    steps     optimizer steps taken; ended: it takes no more
    batches   of training, seen; forwards: passes of the group while it took part
    """

    run: Run
    ready: Prepared
    progress: Progress
    watch: Watch
    steps: int = 0
    ended: bool = False
    diverged: Diverged | None = None
    batches: int = 0
    forwards: int = 0
    predictions: Sequence[Any] = ()
    item_logits: Sequence[np.ndarray] = ()
    scores: Mapping[str, float | None] = field(default_factory=dict)
    optimizer: torch.optim.Optimizer = field(init=False)
    history: ValidationHistory = field(init=False)

    def __post_init__(self) -> None:
        self.logits = ItemLogits()
        self.order = training_order(
            self.ready.tables["train"], self.run.cfg["optim"], self.run.seeds.order
        )
        self.evaluators: dict[Split, Evaluator] = {
            split: make_evaluator(
                self.run.data, self.ready.examples[split], self.ready.tables[split]
            )
            for split in ("validation", "test")
        }
        watched = self.run.cfg["stop_degenerate"]
        labels = self.ready.tables["train"]["labels"]
        self._constant = diagnostics.constant_loss(labels) if watched else None
        self.losses: list[float] = []
        self.norms: list[torch.Tensor] = []

    def settle(self) -> None:
        """Once the network is a view into the stack: all that holds on to its parameters."""
        cfg, built = self.run.cfg, self.ready.built
        self.optimizer = build_optimizer(built, self.ready.plan, cfg["optim"], MergedAdamW)
        for technique in self.techniques:
            self.optimizer = technique.wrap_optimizer(self.optimizer, built)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._callbacks: list[Callback] = [c for t in self.techniques for c in t.callbacks(built)]
        self._parameters = {
            n: p for n, p in built.model.named_parameters() if self.ready.plan[n].trainable
        }
        self.history = ValidationHistory(
            self.run.data.task.headline, built.model, selects=self.run.data.task.shots is None
        )

    @property
    def techniques(self) -> list[Technique]:
        return list(self.run.techniques.values())

    # --- what a record asks for (`results.Ended`) ---

    @property
    def examples(self) -> Mapping[Split, Sequence[Example]]:
        return self.ready.examples

    @property
    def truncated(self) -> Mapping[Split, int]:
        return self.ready.truncated

    @property
    def lost(self) -> Mapping[Split, float]:
        return self.ready.lost

    @property
    def built(self) -> Built:
        return self.ready.built

    @property
    def plan(self) -> ParamPlan:
        return self.ready.plan

    @property
    def warmup_steps(self) -> int:
        return self.ready.warmup_steps

    def effects(self) -> dict[str, Any]:
        """What its techniques did."""
        trained = observed(
            self.built,
            self.plan,
            optimizer=self.optimizer,
            edited=self.ready.edited,
            start=self.ready.start,
            forwards=self.forwards,
            batches=self.batches,
            steps=self.steps,
        )
        return {n: t.effects(self.built, trained) for n, t in self.run.techniques.items()}

    # --- training ---

    def begin_step(self) -> None:
        # what `techniques.base.before_each_step` asks of a trainer
        trainer: Any = SimpleNamespace(global_step=self.steps, max_steps=self.ready.total_steps)
        for callback in self._callbacks:
            callback.on_train_batch_start(trainer, None, None, 0)  # type: ignore[arg-type]

    def hear_loss(self, loss: float) -> None:
        """Before the backward pass: a loss that is no number ends the run."""
        if math.isfinite(loss):
            self.losses.append(loss)
            self.batches += 1
        else:
            self.diverge_at(self.steps + 1)

    def diverge_at(self, step: int) -> None:
        self.ended, self.diverged = True, Diverged(step)

    def step(self, gradients: Mapping[str, torch.Tensor]) -> None:
        """Clip and update; `gradients` of its own parameters by name."""
        for name, parameter in self._parameters.items():
            parameter.grad = gradients.get(name)
        norms = clipped(self.optimizer, self.run.cfg["optim"]["clip"])
        if norms is not None:
            self.norms.append(norms)
        factor = linear_warmup_decay(
            self.steps, warmup_steps=self.warmup_steps, total_steps=self.ready.total_steps
        )
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.step()
        for parameter in self._parameters.values():
            parameter.grad = None
        self.steps += 1
        self.progress(self.steps, self.ready.total_steps, None, None)

    # --- evaluation ---

    def collect(self, logits: torch.Tensor, labels: torch.Tensor, items: torch.Tensor) -> None:
        self.logits.update(logits, labels, items)

    def score(self, split: Split) -> None:
        by_row = self.logits.compute()
        self.logits.reset()
        self.item_logits, self.predictions, self.scores = self.evaluators[split](by_row)

    def validated(self) -> None:
        """After an evaluation on validation: a row of the curve, and maybe an early end."""
        losses, self.losses = self.losses, []
        norms, self.norms = self.norms, []
        loss = float(torch.tensor(losses).mean()) if losses else math.nan
        n_layers = self.built.layers.n_layers
        means = mean_gradient_norms(self.optimizer, norms, n_layers)
        self.history.add(self.steps, dict(self.scores), loss, means)
        total = self.ready.total_steps
        self.progress(self.steps, total, loss, self.scores[self.run.data.task.metric])
        self.watch(self.history.rows)
        if self.run.cfg["stop_degenerate"] and self.steps < total:
            sign = diagnostics.failure_sign(
                self.history.rows, warmup_steps=self.warmup_steps, constant=self._constant
            )
            if sign is not None:
                self.history.censored = {"step": self.steps, "sign": sign}
                self.ended = True
        if self.steps == total:
            self.ended = True
        if self.ended and not all(np.isfinite(logits).all() for logits in self.item_logits):
            self.diverge_at(self.steps)  # no loss saw what the last update broke

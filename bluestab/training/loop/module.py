"""The LightningModule: one composed training step, one optimizer, and the same scoring for all.

It knows no technique by name. The step arrives already wrapped, the optimizer already grouped;
evaluation uses the bare model, so that every arm is scored by the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import MethodType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn

from bluestab.core.errors import Diverged
from bluestab.core.seeding import Seeds, stream_seed
from bluestab.core.types import Batch, Corruption, Split, Step, StepOutput
from bluestab.models.activations import Compression, saving
from bluestab.models.passes import model_logits
from bluestab.tasks.base import Scores
from bluestab.tasks.data import EVALUATION_SEED
from bluestab.training.loop.candidates import Candidates, CandidateVectors
from bluestab.training.loop.counted_memory import Ledger, moment_bytes
from bluestab.training.loop.evaluation import Evaluator, ItemLogits
from bluestab.training.loop.gradients import clipped, mean_gradient_norms
from bluestab.training.loop.micro_batches import micro_batches
from bluestab.training.loop.phases import Phases
from bluestab.training.loop.ranks import Ranks
from bluestab.training.loop.schedules import linear_warmup_decay


def run_in_float32(module: nn.Module) -> None:
    """Keep a module out of autocast: head and softmax in bfloat16 have three digits, which ties
    predictions and with them rank and product-moment correlations. A deep copy of it is kept out
    with the weights of the copy."""
    instead = module.__dict__.get("forward")  # that a technique put in the place of its own

    def in_float32(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        device_type = next((a.device.type for a in args if isinstance(a, torch.Tensor)), "cpu")
        forward = instead or partial(type(self).forward, self)
        with torch.autocast(device_type, enabled=False):
            return forward(*(_float32(a) for a in args), **kwargs)

    module.forward = MethodType(in_float32, module)


def _float32(value: Any) -> Any:
    is_half = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.float() if is_half else value


def finite_check_every(device: torch.device) -> int:
    """Steps between two checks that their losses are finite: on a GPU each makes the host wait."""
    return 1 if device.type == "cpu" else 16


def plain_step(model: nn.Module, loss: Callable[[torch.Tensor, Batch], torch.Tensor]) -> Step:
    """Forward and loss: what a technique's `wrap_step` wraps first."""

    def step(batch: Batch) -> StepOutput:
        logits = model_logits(model, batch)
        return StepOutput(loss(logits, batch), logits)

    return step


class FineTuning(pl.LightningModule):
    """Trains `model` with a composed step.

    step         the training step after all techniques wrapped it
    optimizer    built from the finished plan, maybe wrapped; its groups name their `depth`
    micro_batch  items per forward and backward pass; None: the whole batch at once
    count        what the loss of a batch is the mean over: items, or labelled word pieces
    corruption   what is drawn of every batch before the network sees it; None: nothing
    preprocess_logits_for_metrics  logits of an evaluation, and labels -> what scoring needs of them
    evaluators   how to score validation and test
    candidates   split -> its rows that items are ranked among; None: it has none
    phases       notes where the time goes
    masks        a context in which dropout draws its masks; outside what saves activations, which
                 else would see its products in place of dropout
    compression  how activations are saved; None: as they are
    ranks        the processes of the run, of which this is one
    evaluated    called after every validation with (optimizer step, scores, mean training loss,
                 mean gradient norm by layer group); True stops the training
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        step: Step,
        optimizer: torch.optim.Optimizer,
        n_layers: int,
        total_steps: int,
        warmup_steps: int,
        micro_batch: int | None,
        count: Callable[[Batch], int],
        seeds: Seeds,
        corruption: Corruption | None = None,
        preprocess_logits_for_metrics: Callable[
            [torch.Tensor, torch.Tensor], torch.Tensor
        ] = lambda logits, _: logits,
        evaluators: Mapping[Split, Evaluator],
        candidates: Mapping[Split, Candidates | None],
        phases: Phases,
        masks: Callable[[], AbstractContextManager[Any]],
        compression: Compression | None,
        ranks: Ranks,
        evaluated: Callable[[int, Scores, float, Mapping[str, float | None]], bool],
    ) -> None:
        super().__init__()
        self.strict_loading = False  # a checkpoint holds only what training has changed
        self.model = model
        self._step = step
        self._optimizer = optimizer
        self._n_layers = n_layers
        self._total_steps, self._warmup_steps = total_steps, warmup_steps
        self._micro_batch, self._count = micro_batch, count
        self._seeds = seeds
        self._corruption, self._preprocess_logits_for_metrics = (
            corruption,
            preprocess_logits_for_metrics,
        )
        self._evaluators = evaluators
        self._candidates = candidates
        self.vectors = CandidateVectors()
        self._phases = phases
        self._masks = masks
        self._compression = compression
        self.ledger = Ledger(model, lambda: moment_bytes(optimizer))
        self._ranks = ranks
        self._evaluated = evaluated
        self.logits = ItemLogits()
        self.forwards = 0
        self.batches = 0
        self.begun: int | None = None
        self._again = False
        self.evaluating = False
        self.predictions: list[Any] = []
        self.scores: Scores = {}
        self.item_logits: Sequence[np.ndarray] = []
        self.diverged: int | None = None
        self._unchecked: list[tuple[int, torch.Tensor]] = []
        self._losses: list[torch.Tensor] = []
        self._norms: list[torch.Tensor] = []
        model.register_forward_pre_hook(self._count_forward)

    def _count_forward(self, model: nn.Module, inputs: Any) -> None:
        self.forwards += int(model.training)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """The batch as the network is to see it: in training drawn by the run's seed and step, in
        evaluation the same for all runs."""
        if self._corruption is None:
            return batch
        if self.trainer.training:
            return self._corruption(batch, self._seeds.dropout, ("mask", self.global_step))
        return self._corruption(batch, EVALUATION_SEED, ("mask",))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda step: linear_warmup_decay(
                step, warmup_steps=self._warmup_steps, total_steps=self._total_steps
            ),
        )
        return {
            "optimizer": self._optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """Forward, and backward for all micro-batches but the last, which the trainer does.

        Called again before the optimizer has moved (a technique that looks at the same batch from
        elsewhere), it draws the same dropout, and neither loss nor gradient norms are noted.
        """
        self._again, self.begun = self.begun == self.global_step, self.global_step
        self.evaluating = False
        self._optimizer.zero_grad()
        self.vectors.forget()
        self.ledger.look()
        parts = self._ranks.mine(micro_batches(batch, self._micro_batch, self._count))
        losses: list[torch.Tensor] = []
        for index, share, part in parts:
            self.draw_dropout_anew(index)
            kept = saving(self._compression, self.ledger)
            with self._phases("forward"), self._masks(), kept:
                loss = self._step(part).loss
            if share != 1.0:
                loss = loss * share
            losses.append(loss.detach())
            if len(losses) < len(parts):
                # outside autocast, as the trainer's own backward pass is
                with (
                    self._phases("backward"),
                    torch.autocast(loss.device.type, enabled=False),
                ):
                    loss.backward()  # type: ignore[no-untyped-call]
                torch.clear_autocast_cache()
        total = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        if self._ranks.size > 1:
            total = self._ranks.sum_of(total)
        self._unchecked.append((self.global_step + 1, total))
        if len(self._unchecked) >= finite_check_every(total.device):
            self._check_finite()
        if not self._again:
            self.batches += len(parts)
            self._losses.append(total)
        return loss

    def _check_finite(self) -> None:
        """Raise Diverged if a loss since the last check is not finite: on all ranks, which have the
        same losses, so that none waits for another."""
        unchecked, self._unchecked = self._unchecked, []
        values = torch.stack([loss for _, loss in unchecked]).tolist() if unchecked else []
        for (step, _), value in zip(unchecked, values, strict=True):
            if not math.isfinite(value):
                self.diverged = step
                raise Diverged(step)

    def draw_dropout_anew(self, micro: int) -> None:
        """Start the dropout stream of this step and micro-batch.

        A function of (seed, step, micro-batch): nothing that a technique or an evaluation draws
        can shift it, and a resumed run draws what the uninterrupted one would have drawn.
        """
        names = ("step", self.global_step, *(("micro", micro) if micro else ()))
        torch.manual_seed(stream_seed(self._seeds.dropout, *names))

    def on_before_backward(self, loss: torch.Tensor) -> None:
        self._phases.begin("backward")

    def on_after_backward(self) -> None:
        self._phases.end()
        groups = self._optimizer.param_groups
        self._ranks.sum_gradients(p for group in groups for p in group["params"])

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The update; the passes that it asks for are phases of their own."""
        with self._phases("optimizer"):
            super().optimizer_step(*args, **kwargs)
        self.ledger.look()

    def optimizer_zero_grad(self, *_: Any) -> None:
        """Done where the step begins: here it would erase those of earlier micro-batches."""

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the total norm as `clip_grad_norm_` does, and note the norms it is made of."""
        norms = clipped(optimizer, gradient_clip_val)
        if norms is not None and not self._again:
            self._norms.append(norms)

    def mean_loss(self) -> float:
        """Mean training loss since the last call; NaN if there was no step."""
        losses, self._losses = self._losses, []
        return float(torch.stack(losses).mean()) if losses else math.nan

    def mean_gradient_norms(self) -> dict[str, float | None]:
        """Mean gradient norm by layer group, before clipping, since the last call."""
        norms, self._norms = self._norms, []
        return mean_gradient_norms(self._optimizer, norms, self._n_layers)

    def running(self) -> dict[str, Any]:
        """What has been noted since the last evaluation, and counted since the start."""
        counted = {"forwards": self.forwards, "batches": self.batches}
        return {"losses": self._losses, "norms": self._norms, "unseen": self._unchecked, **counted}

    def run_on(self, running: Mapping[str, Any]) -> None:
        """Go on from what `running` gave."""
        self._losses = [loss.to(self.device) for loss in running["losses"]]
        self._norms = [norms.to(self.device) for norms in running["norms"]]
        self._unchecked = [(step, loss.to(self.device)) for step, loss in running["unseen"]]
        self.forwards, self.batches = running["forwards"], running["batches"]

    def _collect(self, batch: Batch) -> None:
        self.evaluating = True
        if self.vectors.has(batch["items"]):
            return
        with self._phases("evaluate"):
            labels = batch["labels"]
            logits = self._preprocess_logits_for_metrics(model_logits(self.model, batch), labels)
            self.logits.update(logits, labels, batch["items"])

    def _begin(self, split: Split) -> None:
        self.vectors.begin(self.model, self._candidates[split])

    def _score(self, split: Split) -> None:
        with self._phases("score"):
            by_row = self.vectors.complete(self.logits.compute())
            self.logits.reset()
            self.item_logits, self.predictions, self.scores = self._evaluators[split](by_row)

    def on_validation_start(self) -> None:
        self._check_finite()

    def on_validation_epoch_start(self) -> None:
        self._begin("validation")

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        if self._ranks.evaluates(batch_index, len(self.trainer.val_dataloaders)):  # type: ignore[arg-type]
            self._collect(batch)

    def on_validation_epoch_end(self) -> None:
        self._score("validation")
        stop = self._evaluated(
            self.global_step, self.scores, self.mean_loss(), self.mean_gradient_norms()
        )
        if stop:
            self.trainer.should_stop = True

    def on_test_epoch_start(self) -> None:
        self._begin("test")

    def test_step(self, batch: Batch, batch_index: int) -> None:
        if self._ranks.evaluates(batch_index, len(self.trainer.test_dataloaders)):  # type: ignore[arg-type]
            self._collect(batch)

    def on_test_epoch_end(self) -> None:
        self._score("test")

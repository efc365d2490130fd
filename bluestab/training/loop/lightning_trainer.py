"""Lightning's Trainer, as quiet and deterministic as a run needs it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]

from bluestab.core.types import Progress
from bluestab.training.loop.checkpoints import Files


class Steps(pl.Callback):
    """Reports every batch, of training and evaluation, to whoever shows progress or keeps time."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.report = progress
        self.total = total

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.report(trainer.global_step, self.total, None, None)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.report(trainer.global_step, self.total, None, None)

    def on_test_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.report(trainer.global_step, self.total, None, None)


def build_trainer(
    knobs: Mapping[str, Any],
    optim: Mapping[str, Any],
    total_steps: int,
    device: torch.device,
    callbacks: Sequence[pl.Callback],
) -> pl.Trainer:
    """A quiet trainer: one device, no files, no bars; evaluation as often as asked."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    every = knobs["eval_every"]
    # deterministic mode fills all fresh memory with NaN, to show reads of what was never written:
    # a tenth of a step, and no bit of a result
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return pl.Trainer(
        accelerator={"cpu": "cpu", "cuda": "gpu", "mps": "mps"}[device.type],
        devices=[device.index] if device.type == "cuda" else 1,
        precision={"32": "32-true", "bf16": "bf16-mixed"}[str(knobs["precision"])],  # type: ignore[arg-type]
        max_steps=total_steps,
        max_epochs=-1,
        gradient_clip_val=optim["clip"],
        val_check_interval=every,
        check_val_every_n_epoch=1 if every is None else None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        # one process, also inside a job of SLURM, where Lightning would requeue the job by itself
        plugins=[Files(), LightningEnvironment()],
        callbacks=list(callbacks),
    )

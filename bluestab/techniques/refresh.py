"""Refresh: before each step a little of what the network knows is unlearnt, to be learnt anew.

Idea      A step up the loss, small where weights matter to earlier tasks, leads out of sharp
          minima; the usual step then comes from there.
Formula   Before a step, for each tensor w with the gradient g of the task's loss on the batch: w <-
          w + delta (u + noise z) / (1 + fisher_weight F), u = g |w| / |g|, z standard normal. F <-
          decay F + mean over items of p (d log p / d w)^2 from task to task, p the probability of
          an item's labels; for words the geometric mean of those of its labelled word pieces.
Source    Wang et al. 2024 (ICLR, arXiv 2403.13249), as in their released code. The form of the
          paper itself, of which we could read the abstract alone, is not offered.
Settings  delta 1e-5, noise 1e-3, fisher_weight 1e-3, decay 1e-5 (in effect the last task alone), in
          every step, with DER++ on images; a reproduction says every second step for the paper.
Seeds     Dropout and noise of the pass are drawn from a stream named after the step and `refresh`.
Cost      One forward and backward pass more per step, of the whole batch at once whatever
          trainer.micro_batch says; one per item of each earlier task, as `ewc` has it.
Not with  `lora`; several devices.
Against   delta 1e-5 changes each tensor by 1e-5 of its length, and one that is zero by the noise
          alone. The reviews of the paper ask why the current batch is unlearnt, and for more
          experiments; none is on text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, at_least, whole, within
from bluestab.core.seeding import Seeds, restore_torch_streams, stream_seed, torch_streams
from bluestab.core.types import Batch, ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.models.curvature import Diagonal
from bluestab.models.earlier import EarlierTask
from bluestab.models.importance import Importance
from bluestab.models.passes import gradients, model_logits
from bluestab.techniques.anchored import earlier_run_problems, penalties_of, summed
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import extra_forwards

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer


@contextmanager
def stream(device: torch.device, seed: int) -> Iterator[None]:
    """All that torch draws inside comes from this seed; restores the streams after."""
    import torch

    now = torch_streams(device)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        restore_torch_streams(now, device)


class Refresh(Technique):
    """delta: length of the step up, 0 switches it off; every: how many steps apart."""

    neutral: ClassVar[Mapping[str, Any]] = {"delta": 0.0}
    remembers: ClassVar[bool] = True

    def __init__(
        self, *, delta: float, noise: float, fisher_weight: float, decay: float, every: int
    ):
        self.delta = delta
        self.noise = noise
        self.fisher_weight = fisher_weight
        self.decay = decay
        self.every = every

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "delta": at_least(0),
            "noise": at_least(0),
            "fisher_weight": at_least(0),
            "decay": within("[0, 1]"),
            "every": whole(1),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        return [] if self.is_neutral() else earlier_run_problems("refresh", cfg)

    def one_device(self) -> str:
        return "each of them would unlearn with noise of its own"

    @property
    def importance(self) -> Importance:
        return Importance("weighted")

    def recall(self, earlier: Sequence[EarlierTask], built: Built, seeds: Seeds) -> None:
        if self.is_neutral():
            return
        self._seed = seeds.dropout
        f, _ = summed(penalties_of(earlier, built, self.importance), self.decay)
        self._fisher = {b.name: b.f for b in f.blocks if isinstance(b, Diagonal)}

    def callbacks(self, built: Built) -> list[Callback]:
        import pytorch_lightning as pl

        unlearn, every = self._unlearn, self.every

        class BeforeTheStep(pl.Callback):
            def on_train_batch_start(
                self, trainer: Trainer, module: Any, batch: Batch, batch_index: int
            ) -> None:
                if trainer.global_step % every == 0:
                    unlearn(trainer, built, batch)

        return [] if self.is_neutral() else [BeforeTheStep()]

    def _unlearn(self, trainer: Trainer, built: Built, batch: Batch) -> None:
        """The step up, on all that trains."""
        import torch

        named = {n: p for n, p in built.model.named_parameters() if p.requires_grad}
        device = batch["input_ids"].device
        with stream(device, stream_seed(self._seed, "refresh", trainer.global_step)):
            with torch.enable_grad(), trainer.precision_plugin.forward_context():
                loss = built.loss(model_logits(built.model, batch), batch)
            found = gradients(loss, list(named.values()))
            with torch.no_grad():
                for (name, p), g in zip(named.items(), found, strict=True):
                    if g is None:
                        continue
                    norm = torch.linalg.vector_norm
                    up = g * (norm(p) / (norm(g) + 1e-20)) + self.noise * torch.randn_like(p)
                    p.add_(up / (1 + self.fisher_weight * self._fisher.get(name, 0.0)) * self.delta)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return {} if self.is_neutral() else extra_forwards(trained)

"""Child-Tuning: of every gradient only a part arrives at the optimizer.

Idea      A network of which only a "child" moves stays closer to its pretrained point.
Formula   g <- g M. F (task-free): M ~ Bernoulli(p) / p, anew in every step. D (task-driven): M = 1
          for the share p of weights with the largest Fisher score, fixed; score = mean over the
          training data of the squared gradient of the loss at the pretrained point, compared over
          all blocks together. No 1 / p in D.
Source    Xu et al. 2021 (EMNLP, arXiv 2109.05687); scores per batch, blocks only in D, and the mask
          after clipping, before Adam's moments, as in the published code.
Settings  Published example: D, p 0.3, BERT-large, lr 4e-5, batch 16, 3 epochs, warm-up 0.1.
Where     F: all pretrained parameters; D: those of the blocks, embeddings and pooler train whole.
          Never the head, never a re-initialised layer (the published code masks the head in F).
Fisher    Computed once, before the first step, on the training items alone: batches in file order,
          dropout off (the published code leaves it on, and clips the gradient of each tensor before
          it squares it: not so here). `fisher_batch: 1` is the paper's equation, a gradient per
          item; null is its code, a gradient per batch of optim.batch_size.
Decay     Weight decay is decoupled: it goes on where the gradient is masked, as in their code.
Cost      F: as many random numbers per step as there are weights. D: one forward and backward pass
          over the training items, a boolean per weight of the blocks (also in checkpoints).
Not with  Nothing. What is frozen has no gradient to mask. Listed after `sam` it masks the gradient
          at the worst point; listed before it, also the one that leads there.
Against   Over earlier techniques the authors report 0.6 to 1.3 points (over plain fine-tuning 1.5
          to 8.6). Adam divides by the root of the second moment, which the 1 / p of F inflates: the
          expected gradient is kept, the expected step is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, one_of, whole, within
from bluestab.core.seeding import Seeds, stream_seed
from bluestab.core.types import Batch, ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.models.likelihood import evaluating, mean_over_batches
from bluestab.models.passes import model_logits
from bluestab.techniques.base import MaskedGradients, before_each_step, when_gradients_are_final
from bluestab.techniques.parameters import held, pretrained

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer

MODES = ("F", "D")


def random_mask(shape: torch.Size, p: float, random: torch.Generator) -> torch.Tensor:
    """1 / p with probability p, else 0: the mean is 1."""
    import torch

    return torch.empty(shape, device=random.device).bernoulli_(p, generator=random).div_(p)


def top_share(scores: Mapping[str, torch.Tensor], p: float) -> dict[str, torch.Tensor]:
    """True for the share p of all entries with the largest scores; ties at the bound are in."""
    import torch

    # on the CPU: on a GPU `kthvalue` is not deterministic, which the trainer forbids
    together = torch.cat([score.flatten().cpu() for score in scores.values()])
    keep = max(1, round(p * together.numel()))
    bound = float(together.kthvalue(together.numel() - keep + 1).values)
    return {name: score >= bound for name, score in scores.items()}


class ChildTuning(MaskedGradients):
    """mode: F or D; p: share of gradients that stays, 1 switches it off; fisher_batch: of D."""

    neutral: ClassVar[Mapping[str, Any]] = {"p": 1.0}

    def __init__(self, *, mode: str, p: float, fisher_batch: int | None) -> None:
        self.mode = mode
        self.p = p
        self.fisher_batch = fisher_batch

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "mode": one_of(*MODES),
            "p": within("(0, 1]"),
            "fisher_batch": whole(1, null=True),
        }

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        self._seed, self._step = seeds.dropout, 0
        self._masks = {}
        self._masked = set()
        return built

    def _names(self, built: Built) -> list[str]:
        """Parameters whose gradients are masked, if they train."""
        depths = range(1 if self.mode == "D" else 0, built.layers.n_layers + 1)
        top = () if self.mode == "D" else (built.layers.top,)
        inside = set(built.layers.names(*depths, *top))
        return [name for name in pretrained(built) if name in inside]

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        """The same optimizer, whose gradients are masked before each of its steps."""
        import torch

        if self.is_neutral():
            return optimizer
        self._chosen = held(optimizer, set(self._names(built)))
        device = next(built.model.parameters()).device
        random = torch.Generator(device)

        @torch.no_grad()
        def mask() -> None:
            for name, parameter in self._chosen.items():
                if parameter.grad is None:
                    continue
                self._count(name, parameter.grad)
                if self.mode == "D":
                    parameter.grad.mul_(self._masks[name])
                else:
                    random.manual_seed(stream_seed(self._seed, "child_tuning", name, self._step))
                    parameter.grad.mul_(random_mask(parameter.shape, self.p, random))

        when_gradients_are_final(optimizer, mask)
        return optimizer

    def callbacks(self, built: Built) -> list[Callback]:
        def begin(trainer: Trainer) -> None:
            self._step = trainer.global_step
            if self.mode == "D" and not self._masks and not self.is_neutral():
                self._masks = top_share(self._scores(trainer, built), self.p)

        return [before_each_step(begin)]

    def _scores(self, trainer: Trainer, built: Built) -> dict[str, torch.Tensor]:
        """Fisher scores of the chosen parameters on the training items, in file order."""
        from torch.utils.data import DataLoader

        ours: Any = trainer.train_dataloader
        model, device = built.model, next(built.model.parameters()).device
        batches = DataLoader(
            ours.dataset,
            batch_size=self.fisher_batch or ours.batch_size,
            collate_fn=ours.collate_fn,
        )

        def loss(batch: Batch) -> torch.Tensor:
            batch = {name: value.to(device) for name, value in batch.items()}
            with trainer.precision_plugin.forward_context():
                return built.loss(model_logits(model, batch), batch)

        with evaluating(model, self._chosen.values()):
            return mean_over_batches(loss, self._chosen, batches)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if not self._masked:
            return {}
        found: dict[str, Any] = {"mode": self.mode, "masked_tensors": len(self._masked)}
        if self.mode == "D":
            found["child_parameters"] = sum(int(mask.sum()) for mask in self._masks.values())
        return found

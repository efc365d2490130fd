"""FreeLB: training on word embeddings that gradient ascent has made harder, without extra passes.

Idea      Adversarial training needs passes to find the perturbation; their gradients for the
          weights come for free, and their mean trains on a larger batch of harder examples.
Formula   gradient = 1 / K * sum over t = 1..K of l'(f(e + d_t)); d_1 uniform in [-1, 1] times
          init / sqrt(n * E) per item (n word pieces, E entries each), then
          d_t+1 <- project(d_t + step_size * g / |g|), g = dl/dd per item, | | the Euclidean norm
          over the item, project: back into the ball of radius `max_norm`. The loss reported is the
          mean of the K losses. One recipe for every head: only the task's loss is used.
Source    Zhu et al. 2020 (ICLR, arXiv 1909.11764), algorithm 1; scale of d_1 as in their code.
Settings  Their code, RoBERTa-large, K / step_size / init / max_norm: STS-B 3 / 0.1 / 0.16 / 0.28,
          MRPC 3 / 0.04 / 0.64 / 0.4, CoLA 3 / 0.025 / 0.4 / 0.3; RTE 2 and all the rest 0, which is
          repeated dropout and nothing else: refused here.
Dropout   All K passes drop the same units, as the paper asks for: else the ascent climbs the
          difference of two sub-networks.
Seeds     d_1 comes from a stream named after the step, the micro-batch and this technique.
Cost      K forward and backward passes per step, one at a time: memory for activations as in plain
          training, and up to three copies of the gradients more. Micro-batches and clipping see one
          loss with one gradient, those of the formula.
Not with  What hooks into the gradient of a parameter: it would see it K times, and once more.
Against   The gain shrinks with better models: GLUE test 78.3 to 79.4 for BERT-base, 88.5 to 88.8
          for RoBERTa-large (abstract), and a step costs K plain ones: compare at equal cost too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, above, at_least, whole
from bluestab.core.seeding import torch_streams
from bluestab.core.types import Batch, ModelFacts, Step, StepOutput
from bluestab.models.built import Built, Trained
from bluestab.models.passes import (
    device_of,
    gradients,
    noise,
    perturbed,
    replay_dropout_stream,
    text_mask,
    with_gradients,
)
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import extra_forwards

if TYPE_CHECKING:
    import torch


def start_of(uniform: torch.Tensor, mask: torch.Tensor, init: float) -> torch.Tensor:
    """First perturbation from uniform noise (B, T, E) that is 0 at padding; mask (B, T).

    The norm of each item is at most `init`, and about init / sqrt(3).
    """
    entries = mask.sum(dim=1) * uniform.shape[-1]
    return uniform * (init / entries.to(uniform.dtype).sqrt()).view(-1, 1, 1)


def ascended(
    delta: torch.Tensor, gradient: torch.Tensor, step_size: float, max_norm: float | None
) -> torch.Tensor:
    """One step of length `step_size` per item along its gradient, back into the ball of radius
    `max_norm`. Shapes (B, T, E); an item whose gradient is 0 stays where it is."""
    moved = delta + step_size * gradient / _norm(gradient).clamp_min(1e-30)
    if max_norm is None:
        return moved
    return moved * (max_norm / _norm(moved).clamp_min(1e-30)).clamp_max(1.0)


def _norm(per_item: torch.Tensor) -> torch.Tensor:
    """Euclidean norm of each item of (B, T, E): (B, 1, 1)."""
    norms: torch.Tensor = per_item.flatten(1).norm(dim=1)
    return norms.view(-1, 1, 1)


class Freelb(Technique):
    """ascents: passes per step (K), >= 2; step_size: > 0; init: norm of the first perturbation,
    >= 0; max_norm: of all, > 0, null for none."""

    embeddings_by_row: ClassVar[bool] = True
    reads_embeddings: ClassVar[bool] = True

    def __init__(
        self, *, ascents: int, step_size: float, init: float, max_norm: float | None
    ) -> None:
        self.ascents = ascents
        self.step_size = step_size
        self.init = init
        self.max_norm = max_norm

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "ascents": whole(2),
            "step_size": above(0),
            "init": at_least(0),
            "max_norm": above(0, null=True),
        }

    def wrap_step(self, step: Step, built: Built) -> Step:
        def climbing(batch: Batch) -> StepOutput:
            import torch

            device = device_of(batch)
            weights = [p for p in built.model.parameters() if p.requires_grad]
            uniform = noise(built.model, batch, "uniform", "freelb", "noise")
            delta = start_of(uniform, text_mask(batch), self.init)
            start = torch_streams(device)
            known: list[torch.Tensor | None] = [None] * len(weights)
            value = torch.zeros((), device=device)
            for _ in range(self.ascents - 1):
                delta.requires_grad_()
                # also where another technique wants the logits alone, without a gradient
                grad = torch.enable_grad()
                with grad, replay_dropout_stream(start, device), perturbed(built.model, delta):
                    loss = step(batch).loss / self.ascents
                uphill, *found = gradients(loss, [delta, *weights])
                assert uphill is not None
                for index, gradient in enumerate(found):
                    if gradient is not None:
                        so_far = known[index]
                        known[index] = gradient if so_far is None else so_far + gradient
                value = value + loss.detach()
                delta = ascended(delta.detach(), uphill, self.step_size, self.max_norm)
            with perturbed(built.model, delta), replay_dropout_stream(start, device):
                last = step(batch)
            earlier = with_gradients(value, weights, known)
            return StepOutput(earlier + last.loss / self.ascents, last.logits)

        return climbing

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return extra_forwards(trained)

"""SAM: each step follows the gradient from the worst point of a small ball around the weights.

Idea      Weights whose neighbours have a low loss as well (a flat minimum) generalise better.
Formula   e = rho g / ||g|| with g the gradient of the batch at w and the norm over everything that
          trains; the optimizer then moves w (not w + e) by the gradient at w + e. With `adaptive`
          (ASAM) e = rho w^2 g / || |w| g ||, which does not depend on the scale of the weights.
Source    Foret et al. 2021 (ICLR, arXiv 2010.01412); adaptive: Kwon et al. 2021 (ICML, arXiv
          2102.11600), who add 0.01 to |w|: not so here. For language models: Bahri et al. 2022
          (ACL, arXiv 2110.08529).
Settings  Foret et al., images: 0.01 to 0.5 tried, 0.05 the usual choice. Bahri et al., T5: 0.02 to
          0.3 tried, 0.05 for small and 0.15 for larger models. Zhong et al. 2022 (EMNLP Findings,
          arXiv 2210.05497), BERT and ELECTRA: 1e-3, 5e-3, 1e-2. An adaptive ball is measured
          otherwise: Kwon et al. have ten to twenty times the rho of SAM on images (0.5 and 1),
          twice on a transformer that translates (0.2).
Details   Both passes see the same batch, in the same micro-batches, with the same dropout, so they
          are gradients of one function. e does not depend on clipping, a common factor of g; the
          second gradient is clipped as any other. Curve and gradient norms are those of the first
          pass, comparable with other arms. rho = 0 is plain training, bit for bit.
Cost      Twice the forward and backward passes; one more copy of the trained weights in memory.
Not with  Nothing; passes of other techniques are doubled.
Against   Zhong et al., mean of eight tasks, five seeds: BERT-large 79.85 against 79.35 plain,
          ELECTRA-large 85.61 against 85.68. Singh et al. 2025 (ICML, arXiv 2502.02407): in language
          modelling it often degrades results, even with twice the compute, because it mostly acts
          on the statistics of the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import FLAG, Rule, at_least
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique

if TYPE_CHECKING:
    import torch


def ascent(
    weights: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], rho: float, adaptive: bool
) -> list[torch.Tensor]:
    """The way e from each tensor to the worst point, in its shape; zeros where all gradients are
    zero. The norm is over all tensors together."""
    import torch

    scaled = list(gradients)
    if adaptive:
        scaled = [w.abs() * g for w, g in zip(weights, gradients, strict=True)]
    norms = [torch.linalg.vector_norm(s) for s in scaled]  # scalars, one per tensor
    norm = torch.linalg.vector_norm(torch.stack(norms))
    scale = torch.where(norm > 0, rho / norm, torch.zeros_like(norm))
    if adaptive:
        scaled = [w.abs() * s for w, s in zip(weights, scaled, strict=True)]
    return [scale * s for s in scaled]


def from_the_worst_point(
    optimizer: torch.optim.Optimizer, closure: Callable[[], Any], rho: float, adaptive: bool
) -> Any:
    """Leave the gradients at w + e where the optimizer finds them; the weights are w again, bit for
    bit. `closure` empties the gradients and computes them anew. The loss is that at w."""
    import torch

    loss = closure()
    with torch.no_grad():
        moving = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        if not moving:
            return loss
        before = [p.detach().clone() for p in moving]
        away = ascent(before, [p.grad for p in moving], rho, adaptive)
        torch._foreach_add_(moving, away)
        del away
    closure()
    with torch.no_grad():
        torch._foreach_copy_(moving, before)
    return loss


class Sam(Technique):
    """rho: radius of the ball >= 0, 0 switches it off; adaptive: ASAM, by the scale of weights."""

    embeddings_by_row: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"rho": 0.0}

    def __init__(self, *, rho: float, adaptive: bool) -> None:
        self.rho = rho
        self.adaptive = adaptive

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "rho": at_least(0),
            "adaptive": FLAG,
        }

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        """The same optimizer: only the closure that its `step` is given looks twice."""
        if self.is_neutral():
            return optimizer

        def look_twice(
            optimizer: torch.optim.Optimizer, args: Any, kwargs: Mapping[str, Any]
        ) -> tuple[Any, dict[str, Any]]:
            closure = kwargs["closure"]

            def twice() -> Any:
                return from_the_worst_point(optimizer, closure, self.rho, self.adaptive)

            return args, {**kwargs, "closure": twice}

        optimizer.register_step_pre_hook(look_twice)
        return optimizer

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if trained.forwards == trained.batches:
            return {}
        return {"rho": self.rho, "extra_forwards": trained.forwards - trained.batches}

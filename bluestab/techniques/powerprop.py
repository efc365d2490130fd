"""Powerpropagation: large weights learn faster than small ones, so that small ones stay small.

Idea      Write each weight as a power of what is trained: its gradient is then scaled by its own
          size, the network spends few weights on the task and can be pruned with less harm.
Formula   w = psi(phi) = phi |phi|^(alpha - 1), the gradient of phi is alpha |phi|^(alpha - 1) times
          that of w. A step takes phi = sign(w) |w|^(1 / alpha) to phi' and w to
          w + psi(phi') - psi(phi): what does not move keeps its bits. alpha 1 is plain training.
Source    Schwarz et al. 2021 (Powerpropagation, arXiv 2110.00296).
Settings  The authors' notebook: alpha 1 to 5, SGD 0.1, networks from scratch on MNIST.
Applies   To the weights of the linear layers of the blocks that have pretrained values. They are
          what the network holds all the time, under their own names; phi is there during an update
          alone, and the optimizer's moments are those of phi.
Clipping  Is that of the gradients of w. Weight decay acts on phi.
Cost      Two powers and a copy per weight and step.
Not with  What else acts on weights after an update: `recadam`, `prior_decay`, `smart` with
          technique.smart.proximal. `lora`, `ia3`, `vera`, `pst`, `pela` and, where it trains no
          matrices, `train_only`: the matrices of the blocks do not train.
Against   Adam divides by the size of the gradients and so undoes much of the scaling: expect the
          effect with pruning afterwards, if at all. No result with pretrained encoders is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, at_least
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.around_layers import WRAPPERS
from bluestab.techniques.base import (
    Technique,
    after_an_update,
    before_each_step,
    when_gradients_are_final,
)
from bluestab.techniques.effects import distance
from bluestab.techniques.parameters import block_matrices, held

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer


def psi(phi: torch.Tensor, alpha: float) -> torch.Tensor:
    """phi |phi|^(alpha - 1)."""
    return phi * phi.abs().pow(alpha - 1.0)


def psi_inverse(w: torch.Tensor, alpha: float) -> torch.Tensor:
    """The phi of which w is psi."""
    return w.sign() * w.abs().pow(1.0 / alpha)


class Powerprop(Technique):
    """alpha: the power, at least 1; 1 switches it off."""

    neutral: ClassVar[Mapping[str, Any]] = {"alpha": 1.0}

    def __init__(self, *, alpha: float) -> None:
        self.alpha = alpha

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {"alpha": at_least(1)}

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        others = cfg["technique"]
        problems = [
            f"techniques powerprop and {name} both act on the weights after an update, where "
            "powerprop has others in their place; choose one"
            for name in after_an_update(others)
        ]
        problems += [
            f"technique {name} leaves the matrices of the blocks as they are, and technique "
            "powerprop acts on them alone: it would do nothing; choose one"
            for name in WRAPPERS
            if name in others
        ]
        only = others.get("train_only", {"patterns": ["."]})
        if not only["patterns"] and "attention" not in only["parts"]:
            problems.append(
                f"technique train_only trains {', '.join(only['parts'])} alone, and technique "
                "powerprop acts on matrices: it would do nothing; choose one"
            )
        return problems

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        """The same optimizer, which finds phi and its gradients, and leaves w behind."""
        import torch

        self._registered = self.is_neutral()
        if self.is_neutral():
            return optimizer
        chosen = held(optimizer, set(block_matrices(built))).values()
        moving: list[tuple[torch.nn.Parameter, torch.Tensor, torch.Tensor]] = []

        @torch.no_grad()
        def before() -> None:
            for parameter in chosen:
                if parameter.grad is None:
                    continue
                w = parameter.detach().clone()
                phi = psi_inverse(w, self.alpha)
                parameter.grad.mul_(phi.abs().pow(self.alpha - 1.0).mul_(self.alpha))
                parameter.copy_(phi)
                moving.append((parameter, w, phi))

        @torch.no_grad()
        def after(*_: Any) -> None:
            for parameter, w, phi in moving:
                parameter.copy_(w + (psi(parameter, self.alpha) - psi(phi, self.alpha)))
            moving.clear()

        self._register = partial(when_gradients_are_final, optimizer, before)
        optimizer.register_step_post_hook(after)
        return optimizer

    def callbacks(self, built: Built) -> list[Callback]:
        def begin(_: Trainer) -> None:
            # after the hooks of all others, so that no pass of the network (sam makes two in a
            # step) finds phi where weights should be
            if not self._registered:
                self._registered = True
                self._register()

        return [before_each_step(begin)]

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if self.is_neutral() or not trained.moved:
            return {}
        return {"alpha": self.alpha, "distance": distance(built)}

"""SWR: a gate per tensor says whether it is retrained at all, and a budget how much may be.

Idea      Which layers to freeze is learnt with the task: a tensor that is not worth its share of
          the budget goes back to its pretrained value, bit for bit.
Formula   w = w0 + z (p - w0) for every pretrained tensor, w0 its pretrained value. In a step z is
          hard concrete: s = sigmoid((log u - log(1 - u) + a) / (2/3)), u uniform in (0, 1), z = 1.2
          s - 0.1 cut to [0, 1]; evaluated and kept is z of s = sigmoid(a). p trains with the
          gradient z g, g that of w; a by Adam with the gradient <g, p - w0> dz/da plus that of
          strength * max(0, E - budget)^2. E: the share of entries that are expected to be
          retrained, P(z > 0) = sigmoid(a - 2/3 log(0.1 / 1.1)). a = 2.5 at the start: all gates
          are open.
Source    Scalable Weight Reparametrization (2023, arXiv 2302.13435): a policy chooses what is
          retrained under a budget. Its formulas, budgets and code were not to be had: the gates
          are those of Louizos et al. 2018 (ICLR, arXiv 1712.01312), one per tensor, and the
          penalty is ours.
Settings  None published for encoders. Theirs: speech commands and image classifiers.
Applies   To what is pretrained and trains: with `freeze` or `train_only` the budget is a share of
          what they leave, with `lora` of its updates.
Clipping  Is that of the gradients of w. Weight decay acts on p.
Cost      Two copies of the weights, and a product per tensor and step; no pass more.
Not with  What else acts on weights around an update: `recadam`, `prior_decay`, `powerprop`, `sara`,
          `smart` with technique.smart.proximal. `freeze` of all blocks.
Against   No result with encoders is known. A gate that closes in the first steps has seen little of
          the task, and the noise of the gates adds to that of dropout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import ConfigError
from bluestab.core.rules import Rule, above, within
from bluestab.core.seeding import Seeds, generator
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import (
    Technique,
    after_an_update,
    before_each_step,
    when_gradients_are_final,
)
from bluestab.techniques.effects import distance
from bluestab.techniques.parameters import held, pretrained

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""Of the hard concrete law, as Louizos et al. have them."""
OPEN = 2.5
"""Where gates begin: evaluated they are 1."""


def stretched(s: torch.Tensor) -> torch.Tensor:
    """(n,) in (0, 1) -> gates (n,) in [0, 1], 0 and 1 included."""
    return (s * (HIGH - LOW) + LOW).clamp(0.0, 1.0)


def sampled(a: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Gates (n,) of a step, from what is learnt, a (n,), and uniform u (n,)."""
    return stretched(((u.log() - (-u).log1p() + a) / TEMPERATURE).sigmoid())


def expected_share(a: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Share of the entries whose gate is expected not to be 0; sizes: entries per tensor, (n,)."""
    opened = (a - TEMPERATURE * math.log(-LOW / HIGH)).sigmoid()
    return (opened * sizes).sum() / sizes.sum()


class Swr(Technique):
    """budget: share of the entries that may be retrained, in (0, 1], 1 switches it off; strength:
    of the penalty beyond it, > 0; gate_lr: learning rate of the gates, > 0."""

    neutral: ClassVar[Mapping[str, Any]] = {"budget": 1.0}

    def __init__(self, *, budget: float, strength: float, gate_lr: float) -> None:
        self.budget = budget
        self.strength = strength
        self.gate_lr = gate_lr

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {"budget": within("(0, 1]"), "strength": above(0), "gate_lr": above(0)}

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        others = cfg["technique"]
        problems = [
            f"techniques swr and {name} both act on the weights around an update, where swr has "
            "others in their place; choose one"
            for name in after_an_update(others, "powerprop", "sara")
        ]
        if others.get("freeze", {}).get("depth") == model.layers:
            problems.append(
                f"technique.freeze.depth={model.layers} freezes all blocks, where technique swr "
                "has something to choose from; lower technique.freeze.depth"
            )
        return problems

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        self._seed = seeds.dropout
        return built

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        """The same optimizer, which finds p and z g. Raises ConfigError if nothing has a gate."""
        import torch

        if self.is_neutral():
            return optimizer
        self._gated = held(optimizer, set(pretrained(built)))
        if not self._gated:
            raise ConfigError(
                "technique swr has nothing to choose from: nothing pretrained trains; freeze less"
            )
        self._start = {n: built.reference[n].to(p.device) for n, p in self._gated.items()}
        self._full = {n: p.detach().clone() for n, p in self._gated.items()}
        sizes = [p.numel() for p in self._gated.values()]
        self._sizes = torch.tensor(sizes, dtype=torch.float64)
        self._a = torch.full_like(self._sizes, OPEN).requires_grad_()  # (n,), on the CPU
        self._adam = torch.optim.Adam([self._a], lr=self.gate_lr)
        self._register: Any = partial(when_gradients_are_final, optimizer, self._before)
        optimizer.register_step_post_hook(lambda *_: self._after())
        return optimizer

    def _put(self, gates: torch.Tensor) -> None:
        """The weights w0 + z (p - w0) of these gates; where z is 1 they are p, bit for bit."""
        import torch

        with torch.no_grad():
            for (name, parameter), z in zip(self._gated.items(), gates.tolist(), strict=True):
                full, start = self._full[name], self._start[name]
                parameter.copy_(full if z == 1.0 else start + z * (full - start))

    def _before(self) -> None:
        """Gradients of w -> those of p and of the gates; p stands where w was."""
        import torch

        with torch.no_grad():
            along = []
            for (name, p), z in zip(self._gated.items(), self._gates.tolist(), strict=True):
                if p.grad is None:
                    along.append(torch.zeros((), device=p.device))
                else:
                    along.append((p.grad * (self._full[name] - self._start[name])).sum())
                    p.grad.mul_(z)
                p.copy_(self._full[name])
        gradient = torch.stack(along).to(self._sizes)
        over = (expected_share(self._a, self._sizes) - self.budget).clamp(min=0.0)
        loss = (self._gates * gradient).sum() + self.strength * over.square()
        (self._a.grad,) = torch.autograd.grad(loss, self._a)
        self._adam.step()

    def _after(self) -> None:
        for name, parameter in self._gated.items():
            self._full[name].copy_(parameter.detach())
        self._put(stretched(self._a.detach().sigmoid()))

    def callbacks(self, built: Built) -> list[Callback]:
        import torch

        def begin(trainer: Trainer) -> None:
            if self._register is not None:
                self._register()  # after the hooks of all others, which find w and its gradients
                self._register = None
            random = generator(self._seed, "swr", trainer.global_step)
            u = torch.rand(self._sizes.shape, dtype=torch.float64, generator=random)
            self._gates = sampled(self._a, u.clamp(1e-9, 1 - 1e-9))
            self._put(self._gates.detach())

        return [] if self.is_neutral() else [before_each_step(begin)]

    def state_dict(self) -> dict[str, Any]:
        if self.is_neutral():
            return {}
        return {"a": self._a.detach(), "adam": self._adam.state_dict(), "full": dict(self._full)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        import torch

        if self.is_neutral():
            return
        with torch.no_grad():
            self._a.copy_(state["a"])
            for name, full in state["full"].items():
                self._full[name].copy_(full)
        self._adam.load_state_dict(state["adam"])

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if self.is_neutral() or not trained.moved:
            return {}
        size = {name: built.reference[name].numel() for name in self._gated}
        moved = sum(size[name] for name in self._gated if name in trained.moved)
        return {"retrained_share": moved / sum(size.values()), "distance": distance(built)}

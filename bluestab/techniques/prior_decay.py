"""Prior decay: weight decay towards the pretrained weights instead of towards zero (L2-SP).

Idea      Zero is no good prior for a pretrained network; the checkpoint is. Only what has no
          pretrained value is decayed towards zero.
Formula   Penalty alpha/2 ||w - u||^2 over pretrained weights, beta/2 ||w||^2 over fresh ones,
          applied decoupled, as AdamW applies its decay: after the optimizer's update,
          w <- w - lr alpha (w - u), w <- w - lr beta w, with the parameter's own learning rate. As
          a gradient it would pass through Adam's denominator, which cancels the strength.
Source    Li, Grandvalet & Davoine 2018 (ICML, arXiv 1802.01483): L2-SP, for images; decoupled as in
          the code of Zhang et al. 2021 and Du & Nguyen 2023 (who decay after the Adam step).
Settings  alpha: Zhang et al. 1e-3, Du & Nguyen 0.01, Lee et al. 2020 0.01. Du & Nguyen leave biases
          and LayerNorms alone and decay head and pooler to zero.
Decay     It replaces `optim.weight_decay` on every pretrained tensor, biases and LayerNorms
          included: two decays would pull to two points. With `beta: null` fresh weights keep
          `optim.weight_decay`; with a number they have that instead.
Cost      A copy of the pretrained weights, one pass over the weights per step. No extra passes.
Not with  `recadam`, which pulls to the same point by a schedule of its own.
Against   Zhang et al. 2021, Table 2: RTE 69.6 +- 2.1 against 69.5 +- 2.5. Du & Nguyen 2023, BERT
          RTE: standard deviation 5.58 against 1.77. Zhang et al.'s code, meaning to leave out the
          head, pulls it to its random start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, at_least
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import distance
from bluestab.techniques.packing import Packable
from bluestab.techniques.parameters import pretrained

if TYPE_CHECKING:
    import torch

    from bluestab.models.param_plan import ParamPlan


def pull_(weight: torch.Tensor, anchor: torch.Tensor | None, strength: float) -> None:
    """Go the share `strength` of the way to `anchor` (None: to zero), in place."""
    if anchor is None:
        weight.mul_(1.0 - strength)
    else:
        weight.sub_(weight - anchor, alpha=strength)


class PriorDecay(Packable, Technique):
    """alpha: decay to the pretrained weights, 0 switches it off; beta: of fresh weights to zero."""

    embeddings_by_row: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"alpha": 0.0}
    scalars: ClassVar[frozenset[str]] = frozenset({"alpha", "beta"})

    def __init__(self, *, alpha: float, beta: float | None) -> None:
        self.alpha = alpha
        self.beta = beta

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "alpha": at_least(0),
            "beta": at_least(0, null=True),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        problems = []
        lr = cfg["optim"]["lr"]
        for knob, value in (("alpha", self.alpha), ("beta", self.beta or 0.0)):
            if isinstance(lr, int | float) and lr * value > 1:
                problems.append(
                    f"technique.prior_decay.{knob} is {value!r}: with optim.lr={lr} a step would "
                    f"go beyond the point it decays to; expected at most {1 / lr:g}"
                )
        if self.alpha == 0 and self.beta is not None:
            problems.append(
                f"technique.prior_decay.beta is {self.beta!r}, but technique.prior_decay.alpha=0 "
                f"switches all of prior_decay off; say technique.prior_decay.beta=null"
            )
        if "recadam" in cfg["technique"]:
            problems.append(
                "techniques prior_decay and recadam both pull to the pretrained weights, by "
                "schedules of their own; choose one"
            )
        return problems

    def _anchored(self, built: Built) -> list[str]:
        return [] if self.is_neutral() else pretrained(built)

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        replaced = self._anchored(built)
        if self.beta is not None:
            replaced += sorted(built.fresh | built.layers.head)
        self._undecayed = [name for name in replaced if plan[name].weight_decay > 0]
        return plan.undecayed(replaced)

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        """The same optimizer, with something to do after each of its steps."""
        import torch

        if self.is_neutral():
            return optimizer
        parameters = dict(built.model.named_parameters())
        anchors = {n: built.reference[n].to(parameters[n].device) for n in self._anchored(built)}
        fresh = built.fresh | built.layers.head if self.beta is not None else frozenset()

        @torch.no_grad()
        def decay(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                for name, parameter in zip(group["names"], group["params"], strict=True):
                    if parameter.grad is None:  # has not been moved
                        continue
                    if name in anchors:
                        pull_(parameter, anchors[name], group["lr"] * self.alpha)
                    elif name in fresh:
                        assert self.beta is not None
                        pull_(parameter, None, group["lr"] * self.beta)

        optimizer.register_step_post_hook(decay)
        return optimizer

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if self.is_neutral() or not trained.moved:
            return {}
        off = trained.lr_scale.keys() & set(self._undecayed)
        return {"undecayed_tensors": len(off), "distance": distance(built)}

"""RecAdam: the objective shifts from "stay where you are" to the task, along a sigmoid.

Idea      Learn the task while recalling the pretraining, for which the distance from the
          checkpoint stands; begin with recalling, end with the task.
Formula   Loss = a(t) L_task + (1 - a(t)) gamma/2 ||w - u||^2, a(t) = 1 / (1 + exp(-k (t - t0))), t
          the optimizer step from 1. Decoupled: Adam's moments see the task's gradient alone, then
          w <- w - lr a(t) adam;  w <- w - lr (1 - a(t)) gamma (w - u);  w <- w - lr wd w
          in this order, with lr the scheduled rate of the parameter and wd its weight decay.
Source    Chen et al. 2020 (EMNLP, arXiv 2004.12651); order and moments as in their published
          optimizer.
Settings  gamma 5000; k in {0.05, 0.1, 0.2, 0.5, 1}; t0 in {250, 500, 1000} of 7,800 to 13,400 steps
          on the small tasks of GLUE, {100, 250, 500} for ALBERT; BERT-base at lr 2e-5. Runs here
          can be shorter than that: t0 below 1 is a share of the steps, and the default is one.
Fresh     Head and re-initialised layers have nothing to recall: plain AdamW, as in their code.
Cost      A copy of the pretrained weights, one pass over the weights per step. No extra passes.
Not with  `prior_decay`, which pulls to the same point. `optim.lr` times gamma above 1: a step would
          jump beyond the pretrained point, further each time.
Against   Until t0 nothing is learnt below the head. The authors train far longer than the usual
          three epochs, after which their plain fine-tuning had not converged either: compare at
          equal length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, above, at_least
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique, before_each_step
from bluestab.techniques.effects import distance
from bluestab.techniques.packing import Packable
from bluestab.techniques.parameters import pretrained

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer


def task_share(step: int, k: float, t0: float) -> float:
    """Weight of the task in the objective at the `step`-th optimizer step (from 1): in [0, 1]."""
    return 0.5 * (1.0 + math.tanh(0.5 * k * (step - t0)))  # the sigmoid, without its overflow


def middle(t0: float, total_steps: int) -> float:
    """The step at which task and recall weigh the same; `t0` below 1 is a share of all steps."""
    return t0 * total_steps if t0 < 1 else t0


def divide_groups(optimizer: torch.optim.Optimizer, names: set[str]) -> None:
    """Split every group that holds some, but not all of its parameters in `names`."""
    groups = []
    for group in optimizer.param_groups:
        for inside in (True, False):
            chosen = [i for i, name in enumerate(group["names"]) if (name in names) is inside]
            if chosen:
                part = {key: [group[key][i] for i in chosen] for key in ("names", "params")}
                groups.append({**group, **part})
    optimizer.param_groups[:] = groups


class RecAdam(Packable, Technique):
    """gamma: strength of the recall; k: slope per step; t0: middle, in steps or a share of them."""

    embeddings_by_row: ClassVar[bool] = True
    scalars: ClassVar[frozenset[str]] = frozenset({"gamma", "k", "t0"})

    def __init__(self, *, gamma: float, k: float, t0: float) -> None:
        self.gamma = gamma
        self.k = k
        self.t0 = t0

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "gamma": above(0),
            "k": above(0),
            "t0": at_least(0),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        lr = cfg["optim"]["lr"]
        if isinstance(lr, int | float) and lr * self.gamma > 1:
            return [
                f"technique.recadam.gamma is {self.gamma!r}: with optim.lr={lr} a step would jump "
                f"beyond the pretrained weights; expected at most {1 / lr:g}"
            ]
        return []

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        """The same optimizer, with its rate and decay held back during a step and applied after."""
        import torch

        self._t, self._t0 = 1, self.t0
        parameters = dict(built.model.named_parameters())
        anchors = {n: built.reference[n].to(parameters[n].device) for n in pretrained(built)}
        divide_groups(optimizer, set(anchors))
        held: list[tuple[float, float]] = []

        def recalled(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
            return [g for g in optimizer.param_groups if g["names"][0] in anchors]

        def before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            share = task_share(self._t, self.k, self._t0)
            for group in recalled(optimizer):
                held.append((group["lr"], group["weight_decay"]))
                group["lr"], group["weight_decay"] = group["lr"] * share, 0.0

        @torch.no_grad()
        def after(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            share = task_share(self._t, self.k, self._t0)
            for group, (lr, weight_decay) in zip(recalled(optimizer), held, strict=True):
                group["lr"], group["weight_decay"] = lr, weight_decay
                for name, parameter in zip(group["names"], group["params"], strict=True):
                    if parameter.grad is None:  # has not been moved
                        continue
                    recall = lr * (1.0 - share) * self.gamma
                    parameter.sub_(parameter - anchors[name], alpha=recall)
                    parameter.mul_(1.0 - lr * weight_decay)
            held.clear()

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)
        return optimizer

    def callbacks(self, built: Built) -> list[Callback]:
        def begin(trainer: Trainer) -> None:
            self._t = trainer.global_step + 1
            self._t0 = middle(self.t0, trainer.max_steps)

        return [before_each_step(begin)]

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return {"distance": distance(built)} if trained.moved else {}

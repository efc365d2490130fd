"""SaRA: of every matrix, only the smallest weights train.

Idea      Weights of small magnitude hardly matter to what a network does: the new task may have
          them, and what was learnt before stays.
Formula   Of each matrix the share of entries with the smallest |w| trains: M = |w| <= q, q the
          quantile. At `reselect` of the steps M <- M and (|w| <= q): what has grown by then stays
          as it is. The gradient gets rank_penalty times that of the nuclear norm |M w|_* of one
          matrix, drawn anew in every step.
Source    Hu et al. 2024 (SaRA, arXiv 2409.06633), for diffusion models.
Settings  Theirs: the smallest 10 to 20 %, one threshold for all tensors (2e-3), penalty 5e-4, lr
          5e-4, selected again after half of the steps. Here the quantile is that of each matrix.
Applies   To the linear layers of the blocks. Their other entries, biases, LayerNorms and embeddings
          keep their values; head and re-initialised layers train as ever.
Signs     Are kept. In the authors' default optimizer (commit ea21192) the chosen weights begin as
          their absolute values, and the gradient of the penalty arrives at tensors that are not
          trained; both are tests here.
Cost      A copy per step, and one singular value decomposition if there is a penalty. Unlike
          theirs it saves no memory: gradients are dense.
Not with  `train_only`, `lora`, `ia3`, `vera`, `pst` and `pela`, other answers to what trains;
          `recadam`, whose decay after an update reaches what stays.
Against   A study of sparse masks for language models (arXiv 2412.13488) finds a fixed mask by
          gradients better than those that change. No result with encoders is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bluestab.core.rules import Rule, at_least, within
from bluestab.core.seeding import Seeds, stream_seed
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.around_layers import WRAPPERS
from bluestab.techniques.base import MaskedGradients, before_each_step, when_gradients_are_final
from bluestab.techniques.effects import frozen
from bluestab.techniques.parameters import block_matrices, held, pretrained

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer

    from bluestab.models.param_plan import ParamPlan


def quantile(w: torch.Tensor, share: float) -> torch.Tensor:
    """The magnitude that this share of the entries, at least one, does not exceed."""
    # on the CPU: on a GPU `kthvalue` is not deterministic, which the trainer forbids
    flat = w.detach().abs().flatten().cpu()
    bound, _ = flat.kthvalue(max(1, math.floor(share * flat.numel())))
    return bound.to(w.device)


def nuclear_gradient(w: torch.Tensor) -> torch.Tensor:
    """Of the sum of the singular values: U V' of those above rounding."""
    import torch

    u, s, vh = torch.linalg.svd(w, full_matrices=False)
    above = s > s.max() * max(w.shape) * torch.finfo(w.dtype).eps
    return (u * above) @ vh  # type: ignore[no-any-return]


class Sara(MaskedGradients):
    """share: of each matrix, in (0, 1); reselect: share of the steps after which, null: never;
    rank_penalty: >= 0."""

    def __init__(self, *, share: float, reselect: float | None, rank_penalty: float) -> None:
        self.share = share
        self.reselect = reselect
        self.rank_penalty = rank_penalty

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "share": within("(0, 1)"),
            "reselect": within("(0, 1)", null=True),
            "rank_penalty": at_least(0),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        others = cfg["technique"]
        problems = [
            f"techniques sara and {name} both say what alone trains; choose one"
            for name in ("train_only", *WRAPPERS)
            if name in others
        ]
        if "recadam" in others:
            problems.append(
                "technique recadam decays all weights after an update, also those that technique "
                "sara leaves as they are; choose one"
            )
        if others.get("freeze", {}).get("depth") == model.layers:
            problems.append(
                f"technique.freeze.depth={model.layers} freezes all blocks, where technique sara "
                "has something to train; lower technique.freeze.depth"
            )
        return problems

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        self._seed, self._step = seeds.dropout, 0
        return built

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        return plan.frozen(set(pretrained(built)).difference(block_matrices(built)))

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        """The same optimizer: it finds masked gradients, and what is masked is put back."""
        import torch

        self._chosen = held(optimizer, set(block_matrices(built)))
        self._bounds = {n: quantile(p, self.share) for n, p in self._chosen.items()}
        self._masks = {n: p.detach().abs() <= self._bounds[n] for n, p in self._chosen.items()}
        self._masked = set()
        start: dict[str, torch.Tensor] = {}

        @torch.no_grad()
        def hold(*_: Any) -> None:
            start.update({name: p.detach().clone() for name, p in self._chosen.items()})

        @torch.no_grad()
        def mask() -> None:
            penalised = self._penalised()
            for name, parameter in self._chosen.items():
                if parameter.grad is None:
                    continue
                self._count(name, parameter.grad)
                if name == penalised:
                    rank = nuclear_gradient(start[name] * self._masks[name])
                    parameter.grad.add_(rank, alpha=self.rank_penalty)
                parameter.grad.mul_(self._masks[name])

        @torch.no_grad()
        def put_back(*_: Any) -> None:
            for name, parameter in self._chosen.items():
                parameter.copy_(torch.where(self._masks[name], parameter, start[name]))
            start.clear()

        optimizer.register_step_pre_hook(hold)
        when_gradients_are_final(optimizer, mask)
        optimizer.register_step_post_hook(put_back)
        return optimizer

    def _penalised(self) -> str | None:
        """The matrix whose rank is penalised in this step."""
        if not self.rank_penalty or not self._chosen:
            return None
        names = sorted(self._chosen)
        return names[stream_seed(self._seed, "sara", self._step) % len(names)]

    def callbacks(self, built: Built) -> list[Callback]:
        def begin(trainer: Trainer) -> None:
            self._step = trainer.global_step
            if self.reselect is None:
                return
            if self._step == max(1, math.ceil(self.reselect * trainer.max_steps)):
                for name, parameter in self._chosen.items():
                    self._masks[name] &= parameter.detach().abs() <= self._bounds[name]

        return [before_each_step(begin)]

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return {"masked_tensors": len(self._masked), **frozen(built, trained)}

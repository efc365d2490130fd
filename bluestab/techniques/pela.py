"""PELA: every linear layer becomes two thin ones, and hidden states learn to be the original's.

Idea      A network of low rank is smaller; a stage in which it imitates the original repairs what
          the cut took away, before and while it learns the task.
Formula   W ~ (U sqrt(S)) (sqrt(S) V'), the largest singular values, rank = out * in / (compression
          * (out + in)) rounded down, or all of them. In the first `stage` of the steps L = task +
          distill * the mean, over blocks and real word pieces, of the squared difference between
          their hidden states and those of the network that training starts from, without dropout;
          afterwards L = task.
Source    Guo et al. 2024 (PELA, CVPR, arXiv 2310.10700) and its code (Apache-2.0).
Settings  The code: compression 3, or 2 for DeiT; 0.1 times the hidden states' error. Its stage is a
          further pretraining on large corpora, ours the texts of the task; its bound on the largest
          error of a matrix is left out.
Applies   To the linear layers of the blocks. Biases, LayerNorms, embeddings and head train as ever.
Kept      Kept weights are the products, dense, under the names plain transformers knows: they have
          low rank, and another program may factorise them again; they are not smaller.
Cost      In the stage a pass of the original more, without a backward pass; its weights stay in
          memory. At compression 3 the factors have a third of the matrices' entries.
Not with  What needs the blocks' pretrained weights: `freeze`, `reinit`, `train_only`, `recadam`,
          `prior_decay`, `swr`, `sara`, `powerprop`; `lora`, `ia3`, `vera`, `pst`: one thing around
          a layer; techniques that remember earlier tasks.
Against   A third to two thirds of the parameters for about 0.6 points is their result for three
          vision networks and one of images and text; with the few texts of a small task the stage
          has little to repair from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, at_least, one_of, within
from bluestab.core.seeding import Seeds
from bluestab.core.types import Batch, ModelFacts, Step, StepOutput
from bluestab.models.built import Built, Trained
from bluestab.models.passes import inputs_of
from bluestab.techniques.around_layers import WRAPPERS, AroundLayers, acting, is_adapter
from bluestab.techniques.base import before_each_step

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer
    from torch import nn

    from bluestab.models.param_plan import ParamPlan

NEED_WEIGHTS = ("freeze", "reinit", "train_only", "prior_decay", "recadam", "swr")


def rank_of(outs: int, ins: int, compression: float | None) -> int:
    """Singular values that stay."""
    full = min(outs, ins)
    if compression is None:
        return full
    return max(1, min(full, math.floor(outs * ins / (compression * (outs + ins)))))


def factors(w: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, in) -> (out, rank), (rank, in), whose product is the nearest matrix of that rank."""
    import torch

    u, s, vh = torch.linalg.svd(w.detach().double(), full_matrices=False)
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).to(w.dtype), (root.unsqueeze(1) * vh[:rank]).to(w.dtype)


@cache
def layer_class() -> type[nn.Module]:
    from torch import nn
    from torch.nn.functional import linear

    class PelaLinear(nn.Module):
        """x -> U (V x) + b, or, as the original, W x + b."""

        def __init__(self, base: nn.Linear, compression: float | None) -> None:
            super().__init__()
            self.base_layer, self.original = base, False
            outs, ins = base.weight.shape
            u, v = factors(base.weight, rank_of(outs, ins, compression))
            self.pela_u, self.pela_v = nn.Parameter(u), nn.Parameter(v)

        def forward(self, features: torch.Tensor) -> torch.Tensor:  # (..., in) -> (..., out)
            if self.original:
                return self.base_layer(features)  # type: ignore[no-any-return]
            return linear(linear(features, self.pela_v), self.pela_u, self.base_layer.bias)

    return PelaLinear


class Pela(AroundLayers):
    """compression: >= 1, null for the full rank; distill: >= 0; stage: share of the steps, in
    [0, 1]; targets: which layers."""

    technique: ClassVar[str] = "pela"
    reads_embeddings: ClassVar[bool] = True  # the original computes all its blocks itself

    def __init__(
        self, *, compression: float | None, distill: float, stage: float, targets: str
    ) -> None:
        self.compression = compression
        self.distill = distill
        self.stage = stage
        self.targets = targets

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "compression": at_least(1, null=True),
            "distill": at_least(0),
            "stage": within("[0, 1]"),
            "targets": one_of(*self.kinds),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        others = cfg["technique"]
        problems = [
            f"technique {name} needs the pretrained weights of the blocks, in whose place "
            "technique pela trains factors; choose one"
            for name in NEED_WEIGHTS
            if name in others
        ]
        problems += [
            f"techniques pela and {name} both put something around linear layers; choose one"
            for name in WRAPPERS
            if name in others and name > self.technique  # said once, by the first
        ]
        return problems

    def inject(self, model: nn.Module, paths: Sequence[str], seeds: Seeds) -> None:
        self._layers: list[Any] = []
        for path in paths:
            base: Any = model.get_submodule(path)
            self._layers.append(layer_class()(base, self.compression))
            model.set_submodule(path, self._layers[-1])

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        import torch

        built = super().edit_model(built, seeds)
        new = {n: torch.zeros_like(w) for n, w in built.reference.items() if is_adapter(n)}
        return replace(  # factors have no pretrained value; without them a layer is the original
            built, fresh=built.fresh | new.keys(), reference={**built.reference, **new}
        )

    def merge(
        self, path: str, leaf: str, value: torch.Tensor, learnt: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        u, v = learnt["pela_u"], learnt["pela_v"]
        return u @ v if leaf == "weight" and u.any() else value

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        return plan.frozen(n for n in plan if n.endswith(".base_layer.weight"))

    def wrap_step(self, step: Step, built: Built) -> Step:
        import torch

        if not self.distill or not self.stage:
            return step
        model, self._states = built.model, dict[int, torch.Tensor]()
        device = next(model.parameters()).device
        before = {
            n: built.reference[n].to(device)
            for n, p in model.named_parameters()
            if not is_adapter(n) and p.requires_grad
        }
        for depth in range(1, built.layers.n_layers + 1):
            block = model.get_submodule(built.layers.modules[depth][-1])
            block.register_forward_hook(partial(self._note, depth))

        def distilling(batch: Batch) -> StepOutput:
            if not self._begun:
                return step(batch)
            self._reading = True
            out = step(batch)
            ours = dict(self._states)
            with torch.no_grad(), self._as_original(model):
                torch.func.functional_call(model, before, (), inputs_of(batch))
            theirs, self._reading = dict(self._states), False
            self._states.clear()
            real = batch["attention_mask"].unsqueeze(-1)  # (B, T, 1)
            errors = []
            for depth, state in theirs.items():
                wide = torch.promote_types(state.dtype, torch.float32)
                apart = (ours[depth].to(wide) - state.to(wide))[:, : real.shape[1]] * real
                errors.append(apart.square().sum() / (real.sum() * state.shape[-1]))
            return StepOutput(out.loss + self.distill * torch.stack(errors).mean(), out.logits)

        return distilling

    def _note(self, depth: int, block: nn.Module, inputs: Any, output: Any) -> None:
        """The hidden states (B, T, H) that a block gives in the last pass."""
        if self._reading:
            self._states[depth] = output if hasattr(output, "shape") else output[0]

    @contextmanager
    def _as_original(self, model: nn.Module) -> Iterator[None]:
        """The network that training starts from, without dropout."""
        training = [module for module in model.modules() if module.training]
        model.eval()
        for layer in self._layers:
            layer.original = True
        try:
            yield
        finally:
            for layer in self._layers:
                layer.original = False
            for module in training:
                module.training = True

    def callbacks(self, built: Built) -> list[Callback]:
        def begin(trainer: Trainer) -> None:
            self._begun = trainer.global_step < self.stage * trainer.max_steps

        self._begun = self._reading = False
        return [before_each_step(begin)]

    def n_adapters(self, trained: Trained) -> int:
        return acting((one.pela_u @ one.pela_v, one.base_layer.weight) for one in self._layers)

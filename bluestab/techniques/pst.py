"""PST: matrices become sparse while they learn, and both what they learn and which entries stay
have low rank.

Idea      Parameter-efficient sparse training: to prune by what the task says of every entry, one
          need not learn a number per entry.
Formula   W' = W + beta U V, score S = |W'| + a1 A B + a2 (R 1' + 1 C'). The share s of the entries
          with the lowest scores is 0, the others are those of W'. s rises from 0 after `warmup` of
          the steps to `sparsity` at the last `hold` of them: sparsity (1 - (1 - progress)^3). The
          gradient of the mask is handed to S as it is (straight through), none to |W'|, also while
          s is 0; with sparsity=0 there are no scores. U = B = 0, R = C = 0 at the start, V and A
          ~ U(-1/sqrt(in), 1/sqrt(in)) and U(-1/sqrt(rank), 1/sqrt(rank)).
          Only U, V, A, B, R, C and what `also` names train in the blocks; embeddings do not; what
          stands above the blocks trains as ever.
Source    Li et al. 2022 (IJCAI, arXiv 2205.11005).
Settings  BERT-base: 20 epochs, lr 3e-5, batch 32; RoBERTa: 5e-5, 16. The released code: both ranks
          8, beta = a1 = a2 = 1, sparsity 0.9, warmup 0.1, hold 0.3, every linear layer, biases
          frozen.
Best      Weights of an early step are scored and kept at the sparsity that the run ended with,
          though validation chose them at a lower one.
Frozen    A layer that never trains (`freeze`) stays whole.
Kept      Kept weights are the sparse matrices, dense in memory, under the names plain transformers
          knows. Zeros in no order make no network faster on usual machines.
Cost      Two thin products and, per step, a selection among the entries of every matrix (on the
          CPU, since that of a GPU is not deterministic).
Not with  `lora`, `ia3`, `vera`: one thing around a layer. `reinit`, `train_only`, `powerprop`,
          `sara`, `freeze` of all blocks, techniques that remember earlier tasks. `child_tuning`
          with mode D: while U = 0 no V has a gradient.
Against   The paper's 1.5 % of parameters needs smaller ranks than the code's defaults, which are
          2.6 % of BERT-base. At 0.9 the authors' own GLUE means lie below full tuning; on little
          data a network that is pruned within few steps has no time to recover.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from bluestab.core.rules import Rule, at_least, whole, within
from bluestab.core.seeding import Seeds, generator
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.around_layers import AroundLayers, acting
from bluestab.techniques.base import before_each_step

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer
    from torch import nn


def sparsity_at(step: int, total: int, final: float, warmup: float, hold: float) -> float:
    """Share of zeros in this step (0-based) of `total`."""
    begin, end = warmup * total, (1.0 - hold) * total
    if step <= begin:
        return 0.0
    return final if step >= end else final * (1.0 - (1.0 - (step - begin) / (end - begin)) ** 3)


def pruning_mask(scores: torch.Tensor, sparsity: float) -> torch.Tensor:
    """False for the share `sparsity` of all entries with the lowest scores."""
    import torch

    n = math.floor(sparsity * scores.numel())
    if n == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    flat = scores.detach().flatten().cpu()  # on a GPU `kthvalue` is not deterministic
    return scores.detach() > flat.kthvalue(n).values.to(scores.device)


@cache
def layer_class() -> type[nn.Module]:
    import torch
    from torch import nn
    from torch.nn.functional import linear

    class PstLinear(nn.Module):
        """A linear layer with U (out, r), V (r, in), A (out, q), B (q, in), R (out,), C (in,)."""

        pst_s: torch.Tensor

        def __init__(self, base: nn.Linear, knobs: Pst, random: torch.Generator) -> None:
            super().__init__()
            outs, ins = base.weight.shape
            self.base_layer, self.knobs = base, knobs

            def zeros(*shape: int) -> nn.Parameter:
                return nn.Parameter(torch.zeros(shape))

            def uniform(bound: float, *shape: int) -> nn.Parameter:
                return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=random))

            self.pst_v = uniform(ins**-0.5, knobs.rank, ins)
            self.pst_u = zeros(outs, knobs.rank)
            self.pst_a = uniform(knobs.score_rank**-0.5, outs, knobs.score_rank)
            self.pst_b = zeros(knobs.score_rank, ins)
            self.pst_r, self.pst_c = zeros(outs), zeros(ins)
            self.register_buffer("pst_s", torch.zeros((), dtype=torch.float64))
            self.sparsity = 0.0
            self._mask: torch.Tensor | None = None

        def set_sparsity(self, sparsity: float) -> None:
            self.sparsity = sparsity
            self.pst_s.fill_(sparsity)
            self._mask = None

        def train(self, mode: bool = True) -> Self:
            self._mask = None  # an evaluation begins, or ends
            return super().train(mode)

        def learnt(self) -> dict[str, torch.Tensor]:
            return {name: p for name, p in self.named_parameters() if name.startswith("pst_")}

        def weight(self) -> torch.Tensor:
            """(out, in), as the layer applies it."""
            learnt = self.learnt()
            # in bfloat16 other entries would be chosen than where weights are merged
            with torch.autocast(self.pst_s.device.type, enabled=False):
                dense = self.knobs.dense(self.base_layer.weight, learnt)
                scores = self.knobs.scores(dense, learnt)
            if not self.knobs.sparsity:
                return dense
            if self._mask is None:  # once per step or evaluation, not per pass
                self._mask = pruning_mask(scores, self.sparsity)
            return dense * (self._mask + (scores - scores.detach()))

        def forward(self, features: torch.Tensor) -> torch.Tensor:  # (..., in) -> (..., out)
            return linear(features, self.weight(), self.base_layer.bias)

    return PstLinear


class Pst(AroundLayers):
    """sparsity: at the end, in [0, 1); rank, score_rank: of updates and scores; beta, a1, a2: >= 0;
    warmup, hold: shares of the steps; targets: which layers; also: what trains besides."""

    technique: ClassVar[str] = "pst"
    half_waits: ClassVar[bool] = True

    def __init__(
        self,
        *,
        sparsity: float,
        rank: int,
        score_rank: int,
        beta: float,
        a1: float,
        a2: float,
        warmup: float,
        hold: float,
        targets: str,
        also: Sequence[str],
    ) -> None:
        self.sparsity = sparsity
        self.rank = rank
        self.score_rank = score_rank
        self.beta = beta
        self.a1 = a1
        self.a2 = a2
        self.warmup = warmup
        self.hold = hold
        self.targets = targets
        self.also = also

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        ranks = whole(1, high=model.hidden_size)
        weights = dict.fromkeys(("beta", "a1", "a2"), at_least(0))
        shares = dict.fromkeys(("warmup", "hold"), within("[0, 1)"))
        own = {"sparsity": within("[0, 1)"), "rank": ranks, "score_rank": ranks}
        return {**super().rules(model), **own, **weights, **shares}

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        problems = super().check(cfg, model)
        if self.warmup + self.hold >= 1:
            problems.append(
                f"technique.pst.warmup={self.warmup} and technique.pst.hold={self.hold} leave no "
                "steps in which sparsity rises: their sum is to be below 1"
            )
        return problems

    def dense(self, w: torch.Tensor, learnt: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """W', (out, in)."""
        return w + self.beta * (learnt["pst_u"] @ learnt["pst_v"])

    def scores(self, dense: torch.Tensor, learnt: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """S, (out, in)."""
        lines = learnt["pst_r"].unsqueeze(1) + learnt["pst_c"]
        low_rank = learnt["pst_a"] @ learnt["pst_b"]
        return dense.detach().abs() + self.a1 * low_rank + self.a2 * lines

    def inject(self, model: nn.Module, paths: Sequence[str], seeds: Seeds) -> None:
        self._layers: list[Any] = []
        for path in paths:
            layer: Any = model.get_submodule(path)
            new = layer_class()(layer, self, generator(seeds.init, "pst", path))
            self._layers.append(new)
            model.set_submodule(path, new)

    def merge(
        self, path: str, leaf: str, value: torch.Tensor, learnt: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        if leaf != "weight":
            return value
        dense, sparsity = self.dense(value, learnt), float(learnt.get("pst_s", 0.0))
        return dense * pruning_mask(self.scores(dense, learnt), sparsity) if sparsity else dense

    def callbacks(self, built: Built) -> list[Callback]:
        # as the plan has it: what others open or shut from step to step is no matter here
        train = [layer for layer in self._layers if layer.pst_u.requires_grad]

        def begin(trainer: Trainer) -> None:
            step, total = trainer.global_step, trainer.max_steps
            for layer in train:
                layer.set_sparsity(sparsity_at(step, total, self.sparsity, self.warmup, self.hold))

        return [before_each_step(begin)] if self.sparsity else []

    def state_dict(self) -> dict[str, Any]:
        return {"sparsity": [layer.sparsity for layer in self._layers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for layer, sparsity in zip(self._layers, state["sparsity"], strict=True):
            layer.set_sparsity(sparsity)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        for layer in self._layers:
            layer.set_sparsity(layer.sparsity)  # choose anew, by the weights of the end
        zeros = sum(int((layer.weight() == 0).sum()) for layer in self._layers)
        return {**super().effects(built, trained), "zeros": zeros}

    def n_adapters(self, trained: Trained) -> int:
        return acting((layer.weight(), layer.base_layer.weight) for layer in self._layers)

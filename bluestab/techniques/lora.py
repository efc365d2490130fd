"""LoRA: linear layers keep their weights and learn an update of low rank beside them.

Idea      What fine-tuning adds to a weight has low rank; learn only that.
Formula   h = W x + b + s B A x, W (out, in), A (r, in), B (out, r), s = alpha / r; with `rslora`
          s = alpha / sqrt(r). B = 0 and A ~ U(-1/sqrt(in), 1/sqrt(in)) at the start: the update
          begins as nothing. Embeddings and blocks are frozen but for the updates and what `also`
          names; what stands above the blocks (pooler, final norm, head) trains as ever.
Source    Hu et al. 2021 (arXiv 2106.09685), section 4.1; the law of A is that of their code and of
          peft, whose layers these are (the paper says Gaussian). rslora: Kalajdzievski 2023 (arXiv
          2312.03732).
Settings  Hu et al., RoBERTa: r 8, alpha 16 on query and value, lr 4e-4 to 5e-4 where full tuning
          has 1e-5, weight decay 0.1, warm-up 0.06; RTE 80 epochs (base).
Targets   query_value: as in the paper; attention: query, key, value and the layer that follows;
          all: every linear layer of the blocks. ModernBERT has query, key and value in one layer:
          all three share one A, and `query_value` adapts the key with them.
Start     A is drawn per layer from the `init` stream: head, order, dropout are the baseline's. An
          update counts as pretrained, with its start as the pretrained value: `freeze` may freeze
          it (its block then stays the checkpoint's), `llrd` scales it with its block, `mixout` and
          `child_tuning` act on A and B, `prior_decay` and `recadam` pull A and B to their start,
          `ema` and `swa` average A and B, not their product.
Dropout   On what an update sees, in training alone; keyed by (dropout seed, layer, step, pass), so
          that the dropout of the network is the baseline's. mixout's `keep_dropout` leaves it.
Kept      Scores are those of W and update side by side. Kept weights are W + s B A under the names
          plain transformers knows: logits differ by rounding.
Precision A and B are float32; under bfloat16 they compute as the layers around them do.
Cost      Two thin products per layer more, forward and back. No gradients and no optimizer state
          for what is frozen.
Not with  `reinit`: random weights would be frozen for ever. `train_only`, the other answer to what
          trains. `child_tuning` with mode D: while B = 0 no A has a gradient, so its scores would
          leave every A out. `freeze` of all blocks: no update would train.
Against   Much the same scores as full tuning, not the same training: at its small learning rates an
          update hardly moves. Hu et al.'s RTE runs start from an adapter trained on MNLI, and their
          numbers for full tuning come from another paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import FLAG, Rule, above, whole, within
from bluestab.core.seeding import Seeds, generator, stream_seed
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built
from bluestab.techniques.around_layers import ADAPTER, AroundLayers
from bluestab.techniques.base import before_each_step

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer
    from torch import nn


def scale_of(r: int, alpha: float, rslora: bool) -> float:
    """What B A is multiplied by."""
    return alpha / (math.sqrt(r) if rslora else r)


def keyed_dropout(p: float, random: Callable[[torch.device], torch.Generator]) -> nn.Module:
    """Dropout that draws from the generator it is given, anew at every call."""
    import torch
    from torch import nn

    class KeyedDropout(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:  # (..., in)
            if not self.training:
                return features
            keep = torch.empty_like(features).bernoulli_(1.0 - p, generator=random(features.device))
            return features * keep / (1.0 - p)

    return KeyedDropout()


class Lora(AroundLayers):
    """r: rank; alpha: scale times r; dropout: in [0, 1); targets: which layers.

    also: of biases, layernorms, what trains besides; rslora: scale alpha / sqrt(r).
    """

    technique: ClassVar[str] = "lora"
    moves: ClassVar[str] = "lora_B"
    half_waits: ClassVar[bool] = True

    def __init__(
        self,
        *,
        r: int,
        alpha: float,
        dropout: float,
        targets: str,
        also: Sequence[str],
        rslora: bool,
    ) -> None:
        self.r = r
        self.alpha = alpha
        self.dropout = dropout
        self.targets = targets
        self.also = also
        self.rslora = rslora

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            **super().rules(model),
            "r": whole(1, high=model.hidden_size),
            "alpha": above(0),
            "dropout": within("[0, 1)"),
            "rslora": FLAG,
        }

    def inject(self, model: nn.Module, paths: Sequence[str], seeds: Seeds) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        self._seed, self._step = seeds.dropout, 0
        self._passes: dict[str, int] = {}
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type] # a float does as well
            use_rslora=self.rslora,
            target_modules=list(paths),
        )
        inject_adapter_in_model(config, model, ADAPTER)

    def begin(self, path: str, layer: Any, seeds: Seeds) -> None:
        bound = layer.in_features**-0.5
        a = layer.lora_A[ADAPTER].weight  # (r, in)
        a.uniform_(-bound, bound, generator=generator(seeds.init, "lora", path))
        layer.lora_B[ADAPTER].weight.zero_()  # (out, r)
        if self.dropout:
            layer.lora_dropout[ADAPTER] = keyed_dropout(self.dropout, self._random(path))

    def merge(
        self, path: str, leaf: str, value: torch.Tensor, learnt: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        if leaf != "weight":
            return value
        scale = scale_of(self.r, self.alpha, self.rslora)
        return value + scale * (learnt["lora_B"] @ learnt["lora_A"])

    def _random(self, path: str) -> Callable[[torch.device], torch.Generator]:
        """Device -> the stream of this layer, step and pass."""
        import torch

        def random(device: torch.device) -> torch.Generator:
            use = self._passes[path] = self._passes.get(path, -1) + 1
            seed = stream_seed(self._seed, "lora", path, self._step, use)
            return torch.Generator(device).manual_seed(seed)

        return random

    def one_device(self) -> str:
        return (
            "the passes that its dropout sees are numbered by one process" if self.dropout else ""
        )

    def callbacks(self, built: Built) -> list[Callback]:
        def begin(trainer: Trainer) -> None:
            self._step = trainer.global_step
            self._passes.clear()

        return [before_each_step(begin)] if self.dropout else []

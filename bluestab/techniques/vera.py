"""VeRA: updates of low rank whose matrices are random and shared; only two vectors per layer learn.

Idea      What LoRA learns in two matrices per layer, two vectors do that scale fixed random ones.
Formula   h = W x + c + b * B (d * A x), W (out, in), A (r, in), B (out, r) random, the same for all
          layers (cut to their sizes), d (r,), b (out,). b = 0 and d = d_initial at the start: the
          update begins as nothing. A, B ~ U(-sqrt(6 / fan_in), sqrt(6 / fan_in)) of the largest
          size (Kaiming, as in peft). Embeddings and blocks are frozen but for the vectors and what
          `also` names; what stands above the blocks trains as ever.
Source    Kopiczko et al. 2024 (ICLR, arXiv 2310.11454), section 3; the layers are peft's.
Settings  GLUE with RoBERTa: query and value, d_initial 0.1, rank 1024 (base) and 256 (large), rates
          of 1e-3 to 1e-2 for the vectors. Here one optim.lr is that of vectors and head.
Start     A and B are drawn from the `init` stream; head, order, dropout are the baseline's.
Together  As for `lora`: vectors count as pretrained, with their start as the pretrained value.
Kept      Kept weights are W + diag(b) B diag(d) A under the names plain transformers knows.
Cost      Two thin products per layer, of the rank that is asked for. A hundred times fewer
          parameters than LoRA at its usual rank, not less time.
Not with  `lora`, `ia3`: one thing around a layer. `reinit`, `train_only`, `powerprop`,
          `sara`, `freeze` of all blocks, techniques that remember earlier tasks. `child_tuning`
          with mode D: while b = 0 no d has a gradient.
Against   The authors' own GLUE table: the mean is LoRA's, within the spread over five seeds; the
          search of rates and epochs per task is theirs alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, above, whole
from bluestab.core.seeding import Seeds, stream_seed
from bluestab.core.types import ModelFacts
from bluestab.techniques.around_layers import ADAPTER, AroundLayers

if TYPE_CHECKING:
    import torch
    from torch import nn


class Vera(AroundLayers):
    """r: rank; d_initial: start of d, > 0; targets: which layers.

    also: of biases, layernorms, what trains besides.
    """

    technique: ClassVar[str] = "vera"
    moves: ClassVar[str] = "vera_lambda_b"
    half_waits: ClassVar[bool] = True

    def __init__(self, *, r: int, d_initial: float, targets: str, also: Sequence[str]) -> None:
        self.r = r
        self.d_initial = d_initial
        self.targets = targets
        self.also = also

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {**super().rules(model), "r": whole(1), "d_initial": above(0)}

    def inject(self, model: nn.Module, paths: Sequence[str], seeds: Seeds) -> None:
        from peft import VeraConfig
        from peft.tuners.vera import VeraModel

        self._layers: dict[str, Any] = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Specified to not save vera_A and vera_B")
            config = VeraConfig(
                r=self.r,
                d_initial=self.d_initial,
                target_modules=list(paths),
                projection_prng_key=stream_seed(seeds.init, "vera"),
                save_projection=False,  # drawn again, not stored
            )
        # peft's `inject_adapter_in_model` refuses what layers share; the tuner itself does the same
        VeraModel(model, config, ADAPTER)

    def begin(self, path: str, layer: Any, seeds: Seeds) -> None:
        self._layers[path] = layer

    def merge(
        self, path: str, leaf: str, value: torch.Tensor, learnt: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        if leaf != "weight":
            return value
        layer, (outs, ins) = self._layers[path], value.shape
        a = layer.vera_A[ADAPTER][:, :ins].to(value)  # (r, in)
        b = layer.vera_B[ADAPTER][:outs].to(value)  # (out, r)
        d, scale = learnt["vera_lambda_d"], learnt["vera_lambda_b"]
        merged: torch.Tensor = value + (scale.unsqueeze(1) * b) @ (d.unsqueeze(1) * a)
        return merged

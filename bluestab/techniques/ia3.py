"""(IA)3: what a layer gives, or is given, is multiplied by a learnt vector; weights stay.

Idea      Infused Adapter by Inhibiting and Amplifying Inner Activations: to turn single features of
          keys, values and the inner layer up or down is enough.
Formula   Key and value: h = l * (W x + b), l (out,). Second layer of the feed-forward part:
          h = W (l * x) + b, l (in,). l = 1 at the start: the network begins as it was. Embeddings
          and blocks are frozen but for the vectors and what `also` names; what stands above the
          blocks (pooler, final norm, head) trains as ever.
Source    Liu et al. 2022 (T-Few, arXiv 2205.05638), section 3.3; the layers are peft's.
Settings  T-Few, T0 of 3 and 11 billion parameters: lr 3e-3, batch 8, 1000 steps, Adafactor. Far
          above the rates of full tuning: with those it hardly moves.
Targets   key_value_ff: as in the paper; key_value: without the second layer; all: every linear
          layer of the blocks, second layers by their inputs, others by their outputs. In ModernBERT
          query, key and value are one layer: the query is scaled with them.
Decay     None on l: weight decay would pull it to 0, which silences the layer, not to 1.
Together  A vector counts as pretrained, with 1 as its value: `prior_decay` and `recadam` pull it
          there, `llrd` scales it with its block, `freeze` may freeze it.
Kept      Kept weights have W and b multiplied, under the names plain transformers knows.
Cost      One product of vectors per layer. No optimizer state for what is frozen.
Not with  `lora`, `vera`: one thing around a layer. `reinit`, `train_only`, `powerprop`,
          `sara`, `freeze` of all blocks, techniques that remember earlier tasks.
Against   The authors' comparison is with T5-like models in the few-shot case, after a further
          pretraining of l itself; for encoders peft's own example is all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.seeding import Seeds
from bluestab.techniques.around_layers import ADAPTER, AroundLayers
from bluestab.techniques.parameters import is_attention

if TYPE_CHECKING:
    import torch
    from torch import nn

KEY_VALUE = frozenset(
    (
        *("key", "value", "Wqkv"),
        *("k_lin", "v_lin"),  # DistilBERT
        *("key_proj", "value_proj"),  # DeBERTa
        *("k", "v"),  # MPNet
        *("k_proj", "v_proj"),  # EuroBERT
    )
)

SECOND = frozenset(("output.dense", "mlp.Wo", "ffn.lin2", "ffn_output", "mlp.down_proj"))
"""Last names of the second layer of a feed-forward part: BERT and its like, ModernBERT, DistilBERT,
ALBERT, EuroBERT."""


def is_second(path: str) -> bool:
    """Whether the linear layer with this path inside a block is the second of a feed-forward
    part."""
    last = path.split(".")
    return not is_attention(path) and (".".join(last[-2:]) in SECOND or last[-1] in SECOND)


def is_key_or_value(path: str) -> bool:
    return path.rpartition(".")[2] in KEY_VALUE


class Ia3(AroundLayers):
    """targets: which layers; also: of biases, layernorms, what trains besides."""

    technique: ClassVar[str] = "ia3"
    moves: ClassVar[str] = "ia3_l"
    kinds: ClassVar[Mapping[str, Callable[[str], bool]]] = {
        "key_value_ff": lambda path: is_key_or_value(path) or is_second(path),
        "key_value": is_key_or_value,
        "all": lambda path: True,
    }

    def __init__(self, *, targets: str, also: Sequence[str]) -> None:
        self.targets = targets
        self.also = also

    def inject(self, model: nn.Module, paths: Sequence[str], seeds: Seeds) -> None:
        from peft import IA3Config, inject_adapter_in_model

        self._second = frozenset(filter(is_second, paths))
        seconds = sorted(self._second)
        config = IA3Config(target_modules=list(paths), feedforward_modules=seconds)
        inject_adapter_in_model(config, model, ADAPTER)

    def begin(self, path: str, layer: Any, seeds: Seeds) -> None:
        from torch import nn

        # a vector, as those that weight decay leaves alone
        layer.ia3_l[ADAPTER] = nn.Parameter(layer.ia3_l[ADAPTER].detach().flatten())

    def merge(
        self, path: str, leaf: str, value: torch.Tensor, learnt: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        scale = learnt["ia3_l"]  # (in,) of a second layer, else (out,)
        if path in self._second:
            return value * scale if leaf == "weight" else value
        return value * (scale.unsqueeze(1) if leaf == "weight" else scale)

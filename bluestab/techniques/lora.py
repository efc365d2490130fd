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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import ConfigError
from bluestab.core.rules import FLAG, Rule, above, list_of, one_of, whole, within
from bluestab.core.seeding import Seeds, generator, stream_seed
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique, before_each_step
from bluestab.techniques.effects import frozen
from bluestab.techniques.parameters import is_attention, is_bias, is_layernorm

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer
    from torch import nn

    from bluestab.models.param_plan import ParamPlan

ADAPTER = "default"
"""peft's name for the one update of a layer."""

QUERY_VALUE = frozenset(
    (
        *("query", "value", "Wqkv"),
        *("q_lin", "v_lin"),  # DistilBERT
        *("query_proj", "value_proj"),  # DeBERTa
        *("q", "v"),  # MPNet
        *("q_proj", "v_proj"),  # EuroBERT
    )
)

TARGETS: Mapping[str, Callable[[str], bool]] = {
    "query_value": lambda path: path.rpartition(".")[2] in QUERY_VALUE,
    "attention": is_attention,
    "all": lambda path: True,
}
"""Name -> whether it means the linear layer with this path inside a block."""

ALSO: Mapping[str, Callable[[nn.Module, str], bool]] = {
    "biases": is_bias,
    "layernorms": is_layernorm,
}
"""Part -> whether the parameter of this name in a model belongs to it."""


def scale_of(r: int, alpha: float, rslora: bool) -> float:
    """What B A is multiplied by."""
    return alpha / (math.sqrt(r) if rslora else r)


def is_adapter(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def plain_name(name: str) -> str:
    """peft's name of a parameter -> the one it has without peft."""
    return name.replace(".base_layer.", ".")


def merged(weights: Mapping[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """Weights with updates -> weights without, W + scale B A, by their plain names; W (out, in),
    B (out, r), A (r, in)."""
    found = {}
    for name, weight in weights.items():
        if is_adapter(name):
            continue
        path, inside, leaf = name.rpartition(".base_layer.")
        if inside and leaf == "weight":
            a, b = (weights[f"{path}.lora_{part}.{ADAPTER}.weight"] for part in "AB")
            weight = weight + scale * (b @ a)
        found[plain_name(name)] = weight
    return found


def by_new_names(
    old: Mapping[str, Any], names: Iterable[str], adapter: Callable[[str], Any]
) -> dict[str, Any]:
    """What `old` says by plain names, by the names in a network with updates, in their order.

    adapter  name of an update's parameter -> what is said of it
    """
    return {n: adapter(n) if is_adapter(n) else old[plain_name(n)] for n in names}


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


class Lora(Technique):
    """r: rank; alpha: scale times r; dropout: in [0, 1); targets: which layers.

    also: of biases, layernorms, what trains besides; rslora: scale alpha / sqrt(r).
    """

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
            "r": whole(1, high=model.hidden_size),
            "alpha": above(0),
            "dropout": within("[0, 1)"),
            "targets": one_of(*TARGETS),
            "also": list_of(lambda part: part in ALSO, ", ".join(ALSO)),
            "rslora": FLAG,
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        others, problems = cfg["technique"], []
        if "reinit" in others:
            problems.append(
                "technique lora freezes all blocks, and technique reinit gives some of them new "
                "random values, which would never be trained; choose one"
            )
        if "train_only" in others:
            problems.append(
                "techniques lora and train_only both say what alone trains; choose one "
                "(technique.lora.also trains biases and LayerNorms besides)"
            )
        if others.get("child_tuning", {}).get("mode") == "D":
            problems.append(
                "technique.child_tuning.mode=D scores weights before the first step, where half "
                "of those of technique lora have no gradient yet; say technique.child_tuning.mode=F"
            )
        if others.get("freeze", {}).get("depth") == model.layers:
            problems.append(
                f"technique.freeze.depth={model.layers} freezes all blocks, the updates of "
                f"technique lora included: nothing of it would be trained; lower "
                f"technique.freeze.depth"
            )
        return problems

    def _paths(self, built: Built) -> list[str]:
        """The linear layers that get an update. Raises ConfigError if there are none."""
        from torch import nn

        means = TARGETS[self.targets]
        found = [
            path
            for depth in range(1, built.layers.n_layers + 1)
            for block in built.layers.modules[depth]
            for path, module in built.model.get_submodule(block).named_modules(prefix=block)
            if type(module) is nn.Linear and means(path.removeprefix(f"{block}."))
        ]
        if not found:
            raise ConfigError(
                f"technique.lora.targets is {self.targets!r}, but the blocks of this model have "
                f"no such linear layers; say technique.lora.targets=all"
            )
        return found

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        import torch
        from peft import LoraConfig, inject_adapter_in_model

        model, paths = built.model, self._paths(built)
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type] # a float does as well
            use_rslora=self.rslora,
            target_modules=paths,
        )
        modes = {path: model.get_submodule(path).training for path in paths}
        with torch.random.fork_rng(devices=[]):  # what peft draws is replaced below
            inject_adapter_in_model(config, model, ADAPTER)
        self._seed, self._step = seeds.dropout, 0
        self._passes: dict[str, int] = {}
        start: dict[str, torch.Tensor] = {}
        for path in paths:
            layer: Any = model.get_submodule(path)
            a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight  # (r, in), (out, r)
            bound = layer.in_features**-0.5
            with torch.no_grad():
                a.uniform_(-bound, bound, generator=generator(seeds.init, "lora", path))
                b.zero_()
            for part, weight in (("A", a), ("B", b)):
                start[f"{path}.lora_{part}.{ADAPTER}.weight"] = weight.detach().clone()
            if self.dropout:
                layer.lora_dropout[ADAPTER] = keyed_dropout(self.dropout, self._random(path))
            layer.train(modes[path])  # a block that stays in evaluation mode has it all so
        names = [name for name, _ in model.named_parameters()]
        old = built.layers.depth
        depth = by_new_names(old, names, lambda n: old[f"{n.partition('.lora_')[0]}.weight"])
        scale = scale_of(self.r, self.alpha, self.rslora)
        return replace(
            built,
            layers=replace(built.layers, depth=MappingProxyType(depth)),
            fresh=frozenset(n for n in names if plain_name(n) in built.fresh),
            reference=by_new_names(built.reference, names, start.__getitem__),
            plain=lambda weights: built.plain(merged(weights, scale)),
        )

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

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        """Raises ConfigError if a part in `also` has no parameters here."""
        layers, model = built.layers, built.model
        bare = [n for n in layers.names(*range(layers.n_layers + 1)) if not is_adapter(n)]
        also = {part: {n for n in bare if ALSO[part](model, n)} for part in self.also}
        for part, names in also.items():
            if not names:
                raise ConfigError(
                    f"technique.lora.also has {part!r}, of which this model has none below its head"
                )
        return plan.frozen(set(bare).difference(*also.values()))

    def callbacks(self, built: Built) -> list[Callback]:
        def begin(trainer: Trainer) -> None:
            self._step = trainer.global_step
            self._passes.clear()

        return [before_each_step(begin)] if self.dropout else []

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        size = {name: weight.numel() for name, weight in built.reference.items()}
        trains = [name for name in size if name in trained.lr_scale]
        return {
            "adapters": len([n for n in trained.moved if ".lora_B." in n]),
            "adapter_parameters": sum(size[n] for n in trains if is_adapter(n)),
            "trained_share": sum(size[n] for n in trains) / sum(size.values()),
            **frozen(built, trained),
        }

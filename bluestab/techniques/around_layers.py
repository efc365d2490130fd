"""What techniques share that put a layer, of peft or ours, around linear layers of the blocks.

The layer keeps its weight, which does not train, as `base_layer`; what is learnt stands beside it.
Kept weights are merged: one matrix per layer under the name plain transformers knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import ConfigError
from bluestab.core.rules import Rule, list_of, one_of
from bluestab.core.seeding import Seeds
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import frozen
from bluestab.techniques.parameters import is_attention, is_bias, is_layernorm

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bluestab.models.param_plan import ParamPlan

ADAPTER = "default"
"""peft's name for the one update of a layer."""

WRAPPERS = ("ia3", "lora", "pela", "pst", "vera")
"""The techniques, by the names of their yamls."""

LEARNT = re.compile(
    r"(.+)\.(lora_[AB]|ia3_l|vera_lambda_[bd]|pst_[uvabrcs]|pela_[uv])(?:\.default)?(?:\.weight)?"
)
"""Name of what is learnt beside a layer: path of the layer, and its own name."""

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


def is_adapter(name: str) -> bool:
    """Whether a parameter is what such a technique learns."""
    return LEARNT.fullmatch(name) is not None


def layer_of(name: str) -> str:
    """Name of what is learnt beside a layer -> the layer's path."""
    return LEARNT.sub(r"\1", name)


def plain_name(name: str) -> str:
    """peft's name of a parameter -> the one it has without peft."""
    return name.replace(".base_layer.", ".")


def by_new_names(
    old: Mapping[str, Any], names: Iterable[str], adapter: Callable[[str], Any]
) -> dict[str, Any]:
    """What `old` says by plain names, by the names in a network with updates, in their order.

    adapter  name of an update's parameter -> what is said of it
    """
    return {n: adapter(n) if is_adapter(n) else old[plain_name(n)] for n in names}


Merge = Callable[[str, str, "torch.Tensor", Mapping[str, "torch.Tensor"]], "torch.Tensor"]
"""(path of a layer, weight or bias, its value, what is learnt by its own names) -> merged value."""


def without_layers(weights: Mapping[str, torch.Tensor], merge: Merge) -> dict[str, torch.Tensor]:
    """Weights of a network with such layers -> those of one without, by their plain names."""
    learnt: dict[str, dict[str, torch.Tensor]] = {}
    for name, weight in weights.items():
        if found := LEARNT.fullmatch(name):
            learnt.setdefault(found[1], {})[found[2]] = weight
    plain = {}
    for name, weight in weights.items():
        if is_adapter(name):
            continue
        path, inside, leaf = name.rpartition(".base_layer.")
        plain[plain_name(name)] = merge(path, leaf, weight, learnt[path]) if inside else weight
    return plain


def acting(layers: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """How many of these applied weights (out, in) differ from the pretrained ones beside them, by
    more than rounding: also those that no gradient reaches."""
    return sum(not applied.allclose(base, 0.0, 2e-7) for applied, base in layers)


def not_beside(name: str, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
    """Why `name`, one of these techniques, does not go with others in a config."""
    others, problems = cfg["technique"], []
    if "reinit" in others:
        problems.append(
            f"technique {name} freezes all blocks, and technique reinit gives some of them new "
            "random values, which would never be trained; choose one"
        )
    if "train_only" in others:
        problems.append(
            f"techniques {name} and train_only both say what alone trains; choose one "
            f"(technique.{name}.also trains biases and LayerNorms besides)"
        )
    if others.get("freeze", {}).get("depth") == model.layers:
        problems.append(
            f"technique.freeze.depth={model.layers} freezes all blocks, the updates of "
            f"technique {name} included: nothing of it would be trained; lower "
            f"technique.freeze.depth"
        )
    problems += [
        f"techniques {name} and {other} both put something around linear layers; choose one"
        for other in WRAPPERS
        if other in others and other > name  # said once, by the first
    ]
    return problems


class AroundLayers(Technique):
    """targets: which layers; also: of biases, layernorms, what trains besides."""

    technique: ClassVar[str]
    """The name of its yaml."""
    kinds: ClassVar[Mapping[str, Callable[[str], bool]]] = TARGETS
    """Value of `targets` -> whether it means the linear layer with this path inside a block."""
    moves: ClassVar[str]
    """What is learnt without which, at its start, a layer is what it was: its own name."""
    half_waits: ClassVar[bool] = False
    """Part of what is learnt has no gradient before the first step."""
    targets: str
    also: Sequence[str]

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "targets": one_of(*self.kinds),
            "also": list_of(lambda part: part in ALSO, ", ".join(ALSO)),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        problems = not_beside(self.technique, cfg, model)
        if self.half_waits and cfg["technique"].get("child_tuning", {}).get("mode") == "D":
            problems.append(
                "technique.child_tuning.mode=D scores weights before the first step, where half "
                f"of those of technique {self.technique} have no gradient yet; say "
                "technique.child_tuning.mode=F"
            )
        return problems

    def inject(self, model: nn.Module, paths: Sequence[str], seeds: Seeds) -> None:
        """Put these layers into others, as their `base_layer`."""
        raise NotImplementedError

    def begin(self, path: str, layer: Any, seeds: Seeds) -> None:
        """Give what is learnt beside a layer its value at the start."""

    def merge(
        self, path: str, leaf: str, value: torch.Tensor, learnt: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Weight (out, in) or bias (out,) of a layer, as it acts with what is learnt beside it."""
        raise NotImplementedError

    def _paths(self, built: Built) -> list[str]:
        """The linear layers that are put into one. Raises ConfigError if there are none."""
        from torch import nn

        means = self.kinds[self.targets]
        found = [
            path
            for depth in range(1, built.layers.n_layers + 1)
            for block in built.layers.modules[depth]
            for path, module in built.model.get_submodule(block).named_modules(prefix=block)
            if type(module) is nn.Linear and means(path.removeprefix(f"{block}."))
        ]
        if not found:
            raise ConfigError(
                f"technique.{self.technique}.targets is {self.targets!r}, but the blocks of this "
                f"model have no such linear layers; say technique.{self.technique}.targets=all"
            )
        return found

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        import torch

        model, paths = built.model, self._paths(built)
        modes = {path: model.get_submodule(path).training for path in paths}
        with torch.random.fork_rng(devices=[]):  # what peft draws is replaced below
            self.inject(model, paths, seeds)
        for path in paths:
            layer = model.get_submodule(path)
            with torch.no_grad():
                self.begin(path, layer, seeds)
            layer.train(modes[path])  # a block that stays in evaluation mode has it all so
        parameters = dict(model.named_parameters())
        old = built.layers.depth
        depth = by_new_names(old, parameters, lambda n: old[f"{layer_of(n)}.weight"])
        return replace(
            built,
            layers=replace(built.layers, depth=MappingProxyType(depth)),
            fresh=frozenset(n for n in parameters if plain_name(n) in built.fresh),
            reference=by_new_names(
                built.reference, parameters, lambda n: parameters[n].detach().clone()
            ),
            plain=lambda weights: built.plain(without_layers(weights, self.merge)),
        )

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        """Raises ConfigError if a part in `also` has no parameters here."""
        layers, model = built.layers, built.model
        bare = [n for n in layers.names(*range(layers.n_layers + 1)) if not is_adapter(n)]
        also = {part: {n for n in bare if ALSO[part](model, n)} for part in self.also}
        for part, names in also.items():
            if not names:
                raise ConfigError(
                    f"technique.{self.technique}.also has {part!r}, of which this model has none "
                    "below its head"
                )
        return plan.frozen(set(bare).difference(*also.values()))

    def n_adapters(self, trained: Trained) -> int:
        """Layers that compute something else than before."""
        return len([n for n in trained.moved if f".{self.moves}" in n])

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        size = {name: weight.numel() for name, weight in built.reference.items()}
        trains = [name for name in size if name in trained.lr_scale]
        return {
            "adapters": self.n_adapters(trained),
            "adapter_parameters": sum(size[n] for n in trains if is_adapter(n)),
            "trained_share": sum(size[n] for n in trains) / sum(size.values()),
            **frozen(built, trained),
        }

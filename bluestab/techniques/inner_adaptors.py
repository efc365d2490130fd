"""Inner adaptors: layers inserted between the blocks of an encoder that keeps every bit.

Idea      What was learnt before lives in the encoder's weights, so leave them; what is new is
          learnt in layers of its own between the blocks, which the old abilities never pass.
Formula   After each block l in `after`: h <- h + g_l (f_l(h) - h), g_l = gate_scale * a learnt
          number that begins at 0: the network starts as the frozen encoder. All that has a
          pretrained value is frozen (pooler and final norm, too), embeddings and blocks without
          dropout; inserted layers and head train. The text route of the network
          (`models/insertions.py`) skips the inserted layers.
Source    Wang et al. 2025 (AAAI, arXiv 2408.12902) and their released code, which only infers: a
          frozen language model of 32 blocks learns images. The gate is ours (they replace h).
          bottleneck: Houlsby et al. 2019 (ICML); lora: Hu et al. 2021, see `lora`.
Settings  Theirs: whole layers after 14 of 32 blocks, two of every five. Learning rates, batch sizes
          and how inserted layers begin are not in what we could read; gate_scale is ours.
Kinds     layer: a copy of block l, all of which trains. lora: a copy of block l of which only
          updates of rank `size` beside its linear layers train. bottleneck: h + W2 gelu(W1 h), of
          `size` units.
Gate      Adam moves a number by about the learning rate per step, so a bare gate would hardly open
          in a short training at the rates of whole networks: gate_scale makes its steps larger.
Start     Updates and bottlenecks are drawn per layer from the `init` stream. An inserted layer
          counts as pretrained, with its start as the pretrained value, and as part of its block:
          `llrd` scales it, `thaw` opens it, `freeze` (further up than block l) keeps it shut, and
          `slimfit` rests it with its block; `prior_decay` and `recadam` pull it to its start.
Kept      The inserted layers and the head, and what the encoder is that they belong to; the whole
          network where that is a folder (`model.path`) or of an earlier run (`model.init_from`).
          bluestab reads it; plain transformers has no such layers, so that `bluestab export`
          refuses. Interruption files hold what changed alone.
Earlier   With `model.init_from=RUN score_earlier=true` the task of RUN is scored again after the
          training: on the same machine its scores are the same to the last bit.
Cost      A pass through the inserted layers more, forward and back. kind=layer adds a block's
          weights per place: fewer train than in the whole network, but not few. No gradients and
          no optimizer state for what is frozen.
Not with  `lora`, `ia3`, `vera`, `pst`, `pela`, `train_only`, `sara`: other answers to what
          trains. `reinit`: random weights would be frozen for ever. `mixout`: it mixes weights of
          the encoder, which are frozen here. `child_tuning`: it leaves out entries of gradients,
          and a layer hangs on one gate. Techniques that hold on to earlier tasks: nothing of those
          can be lost here. Not on ALBERT, which passes one block many times.
Against   No published comparison on small encoders or small text data. What is frozen cannot adapt
          to a task either: full tuning may well score higher on the new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bluestab.core.rules import Rule
from bluestab.core.seeding import Seeds, generator
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.models.insertion_places import (
    INSIDE,
    is_copied,
    is_inserted,
    place_rules,
    published,
)
from bluestab.techniques.around_layers import WRAPPERS
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import frozen
from bluestab.techniques.parameters import pin_eval, pretrained

if TYPE_CHECKING:
    from bluestab.models.param_plan import ParamPlan

OTHER_ANSWERS = (*WRAPPERS, "sara", "train_only")


class InnerAdaptors(Technique):
    """after: list of blocks from 1, null: as published; kind: layer, lora or bottleneck.

    size: rank or width; gate_scale: of the learnt numbers that open the inserted layers.
    """

    def __init__(
        self, *, after: Sequence[int] | None, kind: str, size: int, gate_scale: float
    ) -> None:
        self.after = after
        self.kind = kind
        self.size = size
        self.gate_scale = gate_scale

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return place_rules(model.layers, model.hidden_size, null=True)

    def _places(self, layers: int) -> list[int]:
        return published(layers) if self.after is None else sorted(self.after)

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        others, last = cfg["technique"], max(self._places(model.layers))
        ours = "technique inner_adaptors"
        problems = [
            f"{ours} and technique {name} both say what alone trains; choose one"
            for name in OTHER_ANSWERS
            if name in others
        ]
        if "reinit" in others:
            problems.append(
                f"{ours} freezes all blocks, and technique reinit gives some of them new random "
                "values, which would never be trained; choose one"
            )
        if "mixout" in others:
            problems.append(
                f"{ours} freezes the encoder, and technique mixout mixes its trained weights with "
                "the pretrained ones; choose one"
            )
        if "child_tuning" in others:
            problems.append(
                f"technique child_tuning leaves out entries of gradients at random, and in {ours} "
                "a whole layer hangs on a gate, which is one; choose one"
            )
        depth = others.get("freeze", {}).get("depth")
        if isinstance(depth, int) and depth >= last:
            problems.append(
                f"technique.freeze.depth={depth} freezes what {ours} inserts after blocks up to "
                f"{last}, too: nothing of it would be trained; lower technique.freeze.depth"
            )
        if model.family == "albert":
            problems.append(
                f"{ours} inserts a layer after one pass of a block, and {model.name} passes its "
                "block many times; choose another model"
            )
        return problems

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        from bluestab.models.insertions import fill, insert, insertions_of

        model, layers = built.model, built.layers
        places = self._places(layers.n_layers)
        paths = {number: layers.modules[number][0] for number in places}
        drawn = insert(model, paths, kind=self.kind, size=self.size, gate_scale=self.gate_scale)
        parameters = dict(model.named_parameters())
        for name in drawn:
            random = generator(seeds.init, "inner_adaptors", name)
            if self.kind == "lora":
                fill(parameters[name], name, random)
            else:
                built.initialise(name, random)
        new = {n: p for n, p in parameters.items() if is_inserted(n)}
        depth = {n: int(n.split(".")[1]) for n in new}
        modules = {
            number: (*own, f"{INSIDE}.{number}") if number in paths else own
            for number, own in layers.modules.items()
        }
        for insertion, path in zip(insertions_of(model), paths.values(), strict=True):
            if not model.get_submodule(path).training:  # `freeze` came first
                pin_eval(insertion)
        for number in range(layers.n_layers + 1):
            for path in layers.modules[number]:
                pin_eval(model.get_submodule(path))
        start = {n: p.detach().clone() for n, p in new.items()}
        return replace(
            built,
            layers=replace(
                layers,
                depth=MappingProxyType({**layers.depth, **depth}),
                modules=MappingProxyType(modules),
            ),
            reference={**built.reference, **start},
        )

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        return plan.frozen([name for name in pretrained(built) if not self._trains(name)])

    def _trains(self, name: str) -> bool:
        return is_inserted(name) and not is_copied(name, self.kind)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        size = {name: weight.numel() for name, weight in built.reference.items()}
        trains = [name for name in size if name in trained.lr_scale]
        return {
            "opened_gates": len([n for n in trained.moved if n.endswith(".gate")]),
            "inserted_parameters": sum(size[n] for n in trains if is_inserted(n)),
            "trained_share": sum(size[n] for n in trains) / sum(size.values()),
            **frozen(built, trained),
            "without_dropout": list(trained.pinned),
        }

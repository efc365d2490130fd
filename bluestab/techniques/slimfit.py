"""SlimFit: at every step most layers are frozen, chosen by how little each moved when it trained.

Idea      A layer that hardly moves need not train now: without it a step keeps no gradient, and
          less of what the forward pass computed.
Formula   d(unit) = mean over its weights of |w' - w| / max(|w|, floor), of the last step in which
          it trained. Before each step the floor(rate n) of n units with the smallest d are frozen.
          Units that never trained come first, in random order: all are tried before any returns.
Source    Ardakani et al. 2024 (NAACL, arXiv 2305.18513) and their code, which keeps no floor (a
          weight that is and stays 0 gives NaN there, and trains for ever) and no `per_rate`.
Settings  Their code, BERT-base: rate 0.80 (MNLI, QQP), 0.85 (STS-B), 0.90 (CoLA, MRPC, RTE), 0.95
          (SST-2, QNLI), lr 4e-5 to 1.25e-4, batch 32 (RTE 16), 3 epochs, no warm-up.
Units     tensor: every matrix, and the weight of every norm, as published. block: all of these of
          one layer (embeddings, each block, pooler) together. Biases, head and re-initialised
          layers train in every step.
Rate      With `anneal` the rate rises linearly from 0 over this share of the steps; the peak of
          memory is then that of plain training, at the start.
Distance  With `per_rate` it is divided by the schedule's factor: within a warm-up a unit that was
          tried early would else look as if it hardly moved, and in a decay as if it moved most.
          A step at rate 0 tells nothing and leaves d as it is.
Frozen    No gradient: AdamW neither moves nor decays it, and its moments stand still (`keep`, as
          published), are forgotten (`drop`: it starts as in a fresh optimizer), or wait in the
          memory of the host (`offload`: of use on a GPU alone).
Memory    By itself it spares gradients, and the inputs of frozen linear layers. The rest is
          `trainer.activations=compressed`, which goes well with it. `benchmarks/memory.py` counts.
Cost      A copy of the weights of the units that train, between backward pass and update.
Not with  `thaw`, which also says what trains in a step; `refresh`, which moves all weights; `ia3`
          and `vera`, which train vectors. Not in groups (`trainer.engine=packed`): siblings freeze
          different layers.
Against   Each rate and learning rate was chosen per task and with one seed in the published code.
          Weights near 0 dominate d: norms, whose weights are near 1, hardly ever return.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import FLAG, Rule, above, one_of, whole, within
from bluestab.core.seeding import Seeds, stream_seed
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.techniques.base import Technique
from bluestab.techniques.parameters import is_layernorm, pretrained

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer
    from torch import nn

UNITS = ("tensor", "block")
MOMENTS = ("keep", "drop", "offload")


def distance(
    before: Sequence[torch.Tensor], after: Sequence[torch.Tensor], floor: float
) -> torch.Tensor:
    """Mean over all elements of these tensors of |after - before| / max(|before|, floor)."""
    import torch

    sums = [
        ((new - old).abs_() / old.abs().clamp_(min=floor)).sum(dtype=torch.float32)
        for old, new in zip(before, after, strict=True)
    ]
    return torch.stack(sums).sum() / sum(old.numel() for old in before)


def ranked(
    distances: Mapping[str, float | None],
    last: Mapping[str, int],
    order: Mapping[str, int],
    step: int,
    reconsider: int | None,
) -> list[str]:
    """Units by their claim to train, the highest first.

    distances   d of each unit; None: not known yet
    last        step in which each trained last
    order       a random number for each, which ranks those that are not known yet
    reconsider  after how many steps without training a unit is tried again, the longest first
    """

    def claim(unit: str) -> tuple[int, float, int]:
        known = distances[unit]
        if known is None:
            return (0, 0.0, order[unit])
        if reconsider is not None and step - last[unit] > reconsider:
            return (1, float(last[unit]), order[unit])
        return (2, -known, order[unit])

    return sorted(distances, key=claim)


class SlimFit(Technique):
    """rate: share of the units that is frozen in a step, 0 switches it off; unit: tensor or block.

    anneal: share of the steps in which the rate rises; reconsider: steps after which a unit is
    tried again, null: never; per_rate, floor: of the distance; moments: keep, drop or offload.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"rate": 0.0}

    def __init__(
        self,
        *,
        rate: float,
        unit: str,
        anneal: float,
        reconsider: int | None,
        per_rate: bool,
        floor: float,
        moments: str,
    ) -> None:
        self.rate = rate
        self.unit = unit
        self.anneal = anneal
        self.reconsider = reconsider
        self.per_rate = per_rate
        self.floor = floor
        self.moments = moments

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {
            "rate": within("[0, 1)"),
            "unit": one_of(*UNITS),
            "anneal": within("[0, 1]"),
            "reconsider": whole(1, null=True),
            "per_rate": FLAG,
            "floor": above(0),
            "moments": one_of(*MOMENTS),
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        others = {
            "thaw": "both say what trains in a step",
            "refresh": "it moves what is frozen in the step, too",
            **dict.fromkeys(("ia3", "vera"), "it trains vectors, and slimfit chooses matrices"),
        }
        return [
            f"techniques slimfit and {name} do not go together: {why}; leave one out"
            for name, why in others.items()
            if name in cfg["technique"]
        ]

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        self._seed = seeds.dropout
        self._distances: dict[str, float | None] = {}
        self._last: dict[str, int] = {}
        self._trained: dict[str, int] = {}
        self._first: dict[str, int] = {}
        return built

    def _units(self, built: Built) -> dict[str, list[str]]:
        """Unit -> its parameters, of those that train."""
        named = dict(built.model.named_parameters())
        found: dict[str, list[str]] = {}
        for name in pretrained(built):
            parameter = named[name]
            if parameter.requires_grad and (parameter.ndim > 1 or _is_scale(built.model, name)):
                unit = name if self.unit == "tensor" else str(built.layers.depth[name])
                found.setdefault(unit, []).append(name)
        return found

    def frozen_units(self, step: int, total: int) -> list[str]:
        """Those that do not train in a step (0-based, of `total`), the smallest distance last."""
        rising = self.anneal * total
        rate = self.rate * min(1.0, step / rising) if rising else self.rate
        n = len(self._distances)
        order = {unit: stream_seed(self._seed, "slimfit", unit) for unit in self._distances}
        by_claim = ranked(self._distances, self._last, order, step, self.reconsider)
        return by_claim[n - math.floor(round(rate * n, 9)) :]

    def callbacks(self, built: Built) -> list[Callback]:
        import pytorch_lightning as pl

        if self.is_neutral():
            return []
        named = {n: p for n, p in built.model.named_parameters() if p.requires_grad}
        units = self._units(built)
        self._distances = dict.fromkeys(units)
        choose, note, measure = self._choose, self._note, self._measure

        class Scheduler(pl.Callback):
            """Chooses before a step what trains in it, and looks after it how far that moved."""

            def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
                choose(trainer, named, units)

            def on_before_optimizer_step(
                self, trainer: Trainer, module: Any, optimizer: torch.optim.Optimizer
            ) -> None:
                note(trainer.global_step, named, units, built)

            def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
                measure(trainer, named, units)

            def on_train_end(self, trainer: Trainer, *_: Any) -> None:
                for parameter in named.values():
                    parameter.requires_grad_(True)

        self._before: dict[str, list[torch.Tensor]] = {}
        return [Scheduler()]

    def _choose(
        self,
        trainer: Trainer,
        named: Mapping[str, nn.Parameter],
        units: Mapping[str, Sequence[str]],
    ) -> None:
        frozen = {
            name
            for unit in self.frozen_units(trainer.global_step, trainer.max_steps)
            for name in units[unit]
        }
        state = trainer.optimizers[0].state
        for name, parameter in named.items():
            parameter.requires_grad_(name not in frozen)
            if self.moments == "drop" and name in frozen:
                state.pop(parameter, None)
            elif self.moments == "offload" and parameter in state:
                device = "cpu" if name in frozen else parameter.device
                for part in ("exp_avg", "exp_avg_sq"):
                    state[parameter][part] = state[parameter][part].to(device)
        self._factor = _factor(trainer)

    def _note(
        self,
        step: int,
        named: Mapping[str, nn.Parameter],
        units: Mapping[str, Sequence[str]],
        built: Built,
    ) -> None:
        """The weights of what is about to move; once per step, however often its gradients are
        computed."""
        if self._before:
            return
        for name, parameter in named.items():
            if parameter.grad is not None:
                self._trained[name] = self._trained.get(name, 0) + 1
                self._first.setdefault(str(built.layers.depth[name]), step)
        for unit, names in units.items():
            if named[names[0]].requires_grad:
                self._last[unit] = step
                self._before[unit] = [named[name].detach().clone() for name in names]

    def _measure(
        self,
        trainer: Trainer,
        named: Mapping[str, nn.Parameter],
        units: Mapping[str, Sequence[str]],
    ) -> None:
        import torch

        before, self._before = self._before, {}
        if self._factor == 0 or not before:
            return
        found = torch.stack(
            [
                distance(old, [named[name].detach() for name in units[unit]], self.floor)
                for unit, old in before.items()
            ]
        )
        scale = self._factor if self.per_rate else 1.0
        self._distances.update(zip(before, (found / scale).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        names = ("distances", "last", "trained", "first")
        return {name: dict(getattr(self, f"_{name}")) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, values in state.items():
            getattr(self, f"_{name}").update(values)

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        """In how many steps each tensor trained that did not train in all."""
        seldom = {
            name: self._trained.get(name, 0)
            for name in trained.lr_scale
            if self._trained.get(name, 0) < trained.steps
        }
        if self.is_neutral() or not seldom:
            return {}
        found: dict[str, Any] = {"trained_steps": seldom}
        if any(self._first.values()):
            found["trains_from"] = dict(sorted(self._first.items(), key=lambda i: int(i[0])))
        return found


def _is_scale(model: nn.Module, name: str) -> bool:
    return name.endswith("weight") and is_layernorm(model, name)


def _factor(trainer: Trainer) -> float:
    """What the schedule multiplies learning rates by in the step that follows."""
    group = trainer.optimizers[0].param_groups[0]
    return float(group["lr"] / group["initial_lr"])

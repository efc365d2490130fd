"""What techniques share that hold weights near those which earlier tasks left.

L = task + strength / 2 * sum over penalties of d' F d, d = w - w_old: the term beta D_Psi of the
one objective of Wang et al. 2024 (ICLR, arXiv 2403.13249) with Psi = 1/2 w' F w. Its gradient,
strength * F d, is added once per optimizer step to the task's, before clipping: no graph is built,
and the loss in the curve is the task's alone. (The decay of `prior_decay` is F = 1, applied after
the step.)

Units     Each F is divided by the mean of its diagonal: `strength` means the same on every task,
          and F = 1 is L2.
auto      The strength at which the pull of F = 1 is as large as the task's gradient was in the
          first step, once every weight has gone lr * sqrt(steps / 3): as far as steps of Adam's
          length go on a linear schedule if they turn at random. Ours: CCFI (Hua et al. 2021, NAACL,
          arXiv 2201.01420) scales itself too, by formulas that we could not read. It knows nothing
          of validation: for a strength chosen there, search over `strength=NUMBER`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, is_number
from bluestab.core.seeding import Seeds
from bluestab.core.types import ModelFacts
from bluestab.models.built import Built, Trained
from bluestab.models.curvature import Curvature, Diagonal
from bluestab.models.earlier import EarlierTask, shared
from bluestab.models.importance import Importance
from bluestab.techniques.around_layers import WRAPPERS
from bluestab.techniques.base import Technique
from bluestab.techniques.effects import distance

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer

AUTO = "auto"

STRENGTH: Rule = (
    lambda value: value == AUTO or (is_number(value) and value >= 0),
    "a number >= 0, or auto",
)

AGAINST: Mapping[str, str] = {
    **{
        n: f"the weights of earlier tasks are behind those of {n}, by other names" for n in WRAPPERS
    },
    "inner_adaptors": "it keeps the encoder as it is, so that nothing of them can be lost",
}
"""Techniques that no other can hold on to earlier tasks beside, and why."""

Penalty = tuple[Curvature, Mapping[str, "torch.Tensor"]]
"""F, and the weights it pulls to."""


def earlier_run_problems(name: str, cfg: Mapping[str, Any]) -> list[str]:
    """What is wrong in a config for a technique that remembers earlier tasks."""
    problems = []
    if cfg["model"]["init_from"] is None:
        problems.append(
            f"technique {name} holds on to what an earlier run has learnt, and model.init_from "
            "names none; say model.init_from=KEY, or leave it out"
        )
    problems += [
        f"techniques {name} and {other} do not go together: {why}; leave one out"
        for other, why in AGAINST.items()
        if other in cfg["technique"]
    ]
    return problems


class Anchored(Technique):
    """strength: of the pull, >= 0 or auto; 0 switches it off."""

    neutral: ClassVar[Mapping[str, Any]] = {"strength": 0.0}
    remembers: ClassVar[bool] = True
    name: ClassVar[str]

    strength: float | str

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        return {"strength": STRENGTH}

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        return [] if self.is_neutral() else earlier_run_problems(self.name, cfg)

    def one_device(self) -> str:
        return "its pull is added on each of them"

    def penalties(self, earlier: Sequence[EarlierTask], built: Built) -> list[Penalty]:
        """What to hold on to, the F not yet divided by their means."""
        raise NotImplementedError

    def recall(self, earlier: Sequence[EarlierTask], built: Built, seeds: Seeds) -> None:
        if self.is_neutral():
            return
        self._parameters = dict(built.model.named_parameters())
        self._penalties = [
            (curvature.normalised(anchor), anchor)
            for curvature, anchor in self.penalties(earlier, built)
        ]
        self._found = None if self.strength == AUTO else float(self.strength)

    def memory_numel(self) -> int:
        return sum(c.numbers() + sum(w.numel() for w in a.values()) for c, a in self._penalties)

    def pull(self) -> dict[str, torch.Tensor]:
        """Sum of F d, by name, at the weights as they are."""
        import torch

        total: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            for curvature, anchor in self._penalties:
                change = {n: self._parameters[n] - w for n, w in anchor.items()}
                for name, value in curvature.times(change).items():
                    total[name] = total[name] + value if name in total else value
        return total

    def _auto(self, lr: float, steps: int) -> float:
        """The strength that `auto` stands for, from the task's gradient as it stands."""
        import torch

        pulls = Counter(n for curvature, _ in self._penalties for n in curvature.names)
        gradient = pull = 0.0  # squared lengths
        for name, n_pulls in pulls.items():
            if (found := self._parameters[name].grad) is not None:
                gradient += float(torch.linalg.vector_norm(found)) ** 2
                pull += n_pulls**2 * found.numel()
        way = lr * math.sqrt(steps / 3) * math.sqrt(pull)
        return math.sqrt(gradient) / way if way > 0 else 0.0

    def callbacks(self, built: Built) -> list[Callback]:
        import pytorch_lightning as pl

        add = self._add

        class BeforeClipping(pl.Callback):
            def on_before_optimizer_step(
                self, trainer: Trainer, module: Any, optimizer: torch.optim.Optimizer
            ) -> None:
                add(optimizer.param_groups[0]["initial_lr"], trainer.max_steps)

        return [] if self.is_neutral() else [BeforeClipping()]

    def _add(self, lr: float, steps: int) -> None:
        """Add the pull to the gradients. (lr, steps: of the whole training, for `auto`.)"""
        if self._found is None:
            self._found = self._auto(lr, steps)
        for name, value in self.pull().items():
            parameter = self._parameters[name]
            if parameter.grad is not None:
                parameter.grad.add_(value.to(parameter.grad), alpha=self._found)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.is_neutral() else {"strength": self._found}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._found = state.get("strength")

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if self.is_neutral() or not trained.moved:
            return {}
        return {
            "distance": distance(built),
            "strength_used": self._found,
            "numbers_kept": self.memory_numel(),
        }


def weights_of(task: EarlierTask, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The anchor that an earlier task left: copies, since its network may be used further."""
    own = dict(task.network.named_parameters())
    return {name: own[name].detach().clone() for name in names}


def penalties_of(
    earlier: Sequence[EarlierTask], built: Built, importance: Importance
) -> Iterator[Penalty]:
    """For each task the importance of its weights, measured now if its run has not kept it, and
    what it left; one after the other."""
    for task in earlier:
        names = shared(task, built)
        kept = task.importance(importance.name)
        curvature = importance.measure(task, names) if kept is None else kept.of(names)
        yield curvature, weights_of(task, names)


def summed(penalties: Iterable[Penalty], decay: float = 1.0) -> Penalty:
    """One of several diagonal ones, the oldest first: their sum, each `decay` times what it counted
    one task earlier, at the last anchor. One at a time is in memory beside the sum."""
    total: dict[str, Any] = {}
    last: Mapping[str, Any] = {}
    for curvature, anchor in penalties:
        last = anchor
        for block in curvature.blocks:
            assert isinstance(block, Diagonal)
            total[block.name] = block.f + decay * total.get(block.name, 0.0)
    return Curvature(tuple(Diagonal(n, f) for n, f in total.items() if n in last)), last

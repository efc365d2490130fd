"""The contract of a technique: six optional moments of a run, and two declarations.

The moments come in this order, each once per run, for all techniques of the arm in listed order:

1. `edit_data`       the training items, before they are tokenised
2. `edit_model`      the network, after the checkpoint is loaded and the head is drawn
3. `edit_plan`       what the optimizer may do with each parameter (edits commute)
4. `wrap_step`       the training step (the first listed technique is outermost)
5. `wrap_optimizer`  the optimizer (one technique at most replaces it; hooks on it compose)
6. `callbacks`       Lightning callbacks, for what happens over time

Validation and test never pass through a technique: every arm is judged by the same code. Around the
moments stand the declarations: `rules` and `check` before anything heavy is loaded, `effects` after
training. What a technique remembers from one step to the next (a running average, a counter in a
wrapped step) belongs into `state_dict`, or an interrupted run cannot go on as if nothing had
happened. A wrapped step is called once per micro-batch; a wrapped optimizer keeps the groups it was
given, whole or divided, with their `names` and `depth`.

Modules of techniques import torch inside their functions, so that checking a sweep of a thousand
runs does not load it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from bluestab.rules import Rule, whole
from bluestab.types import Built, Example, ModelFacts, Step, Trained

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer
    from torch import nn

    from bluestab.plan import ParamPlan
    from bluestab.seeding import Seeds


class StackedLayer(Protocol):
    """A linear layer that holds a weight per sibling, (S, out, in).

    used  what becomes of that weight in a pass of training; None: it is used as it is
    """

    weight: torch.nn.Parameter
    used: Callable[[torch.Tensor], torch.Tensor] | None


class Siblings(Protocol):
    """What `pack_step` is told of the stacked network that S runs train in (`bluestab.packed`).

    n        S
    linears  path -> those of its linear layers whose weight trains
    """

    n: int

    @property
    def linears(self) -> Mapping[str, StackedLayer]: ...

    def apart(self, values: torch.Tensor) -> torch.Tensor:
        """(S * B, ...) -> (S, B, ...)."""

    def other_dropout(self, *names: str | int) -> AbstractContextManager[None]:
        """Passes inside drop other units than the first pass of the step does."""

    def pass_number(self) -> int:
        """Which pass of the step is under way: 0 is the first, and all that drop the same."""


class Technique:
    """Does nothing; children override the moments they need.

    A child's constructor takes its knobs keyword-only and without defaults (they live in the yaml)
    and keeps them as attributes of the same names.
    """

    neutral: ClassVar[Mapping[str, Any]] = {}
    """Knob -> the value at which the technique rightly does nothing (decay 1.0)."""
    reads_embeddings: ClassVar[bool] = False
    """Its wrapped step changes, or asks for gradients of, what enters the blocks: the output of
    frozen ones cannot be computed once for it."""
    packs: ClassVar[bool] = False
    """Whether sibling runs with it can train as one (`trainer.engine=packed`). All moments are
    those of a single run but `wrap_step`, in whose place `pack_step` stands; `edit_data` has no
    part, and `callbacks` none but `before_each_step`."""
    scalars: ClassVar[frozenset[str]] = frozenset()
    """Knobs in which siblings may differ: numbers that leave what trains, and what drops units, as
    it is."""

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        """Knob -> what it may hold on this model; every knob has one."""
        return {}

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        """What else is wrong in this config, one sentence each; asked once all rules hold."""
        return []

    def one_device(self) -> str:
        """Why it does not go with `trainer.devices` > 1; "" if it does.

        Each device is a process that sees a part of every batch. What is drawn from torch's streams
        inside the step differs between the parts as it should; what a technique counts does not.
        """
        return ""

    def fresh_depths(self, model: ModelFacts) -> frozenset[int]:
        """Depths that will have no pretrained value; freezing one of them is refused."""
        return frozenset()

    def frozen_depths(self, model: ModelFacts) -> frozenset[int]:
        """Depths that never train."""
        return frozenset()

    def edit_data(self, train: Sequence[Example], seeds: Seeds) -> Sequence[Example]:
        return train

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        return built

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        return plan

    def wrap_step(self, step: Step, built: Built) -> Step:
        return step

    @classmethod
    def pack_step(
        cls, siblings: Sequence[Self], step: Step, network: Siblings, built: Sequence[Built]
    ) -> Step:
        """`wrap_step` for S runs at once: a step gives losses (S,) and logits (S, B, ...).

        siblings, built  technique and model of each run; all are neutral, or none is
        """
        return step

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        return optimizer

    def callbacks(self, built: Built) -> list[Callback]:
        return []

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption: tensors, numbers, texts, and plain containers of them.

        Weights, optimizer, learning rates, random streams and the state of callbacks are saved by
        others.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; called after all moments, before the next step."""

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        """What this technique did, read off `trained`; empty means nothing happened."""
        return {}

    def is_neutral(self) -> bool:
        """Some knob stands at the value that switches the technique off."""
        return any(getattr(self, knob) == value for knob, value in self.neutral.items())


def blocks(low: int, model: ModelFacts, null: bool = False, high: int | None = None) -> Rule:
    """A whole number from `low` to `high` (all blocks of the model); says how many it has."""
    holds, expected = whole(low, null, model.layers if high is None else high)
    return holds, f"{expected} ({model.name} has {model.layers} blocks)"


def before_each_step(act: Callable[[Trainer], None]) -> Callback:
    """A callback: `act(trainer)` before the first forward pass of every optimizer step.

    `trainer.global_step` (0-based) and `trainer.max_steps` are those of the uninterrupted run also
    after a resume: what follows from them alone needs no state.
    """
    import pytorch_lightning as pl

    class BeforeEachStep(pl.Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            act(trainer)

    return BeforeEachStep()


def pretrained(built: Built) -> list[str]:
    """Parameters that still have a pretrained value: no head, nothing re-initialised."""
    random = built.fresh | built.layers.head
    return [name for name in built.layers.depth if name not in random]


def is_bias(model: nn.Module, name: str) -> bool:
    return name.endswith("bias")


def is_layernorm(model: nn.Module, name: str) -> bool:
    """Whether the module that holds this parameter is a norm of any family."""
    return "norm" in type(model.get_submodule(name.rpartition(".")[0])).__name__.lower()


def is_attention(name: str) -> bool:
    """Whether a path, of a module or of a parameter, leads through an attention."""
    return bool({"attention", "attn"}.intersection(name.split(".")))


def frozen(built: Built, trained: Trained) -> dict[str, Any]:
    """What never trained, and whether it moved all the same; empty if everything trained."""
    still = [name for name in built.layers.depth if name not in trained.lr_scale]
    if not still:
        return {}
    return {
        "frozen_tensors": len(still),
        "frozen_parameters": sum(built.reference[name].numel() for name in still),
        "moved_anyway": len(trained.moved.intersection(still)),
    }


def distance(built: Built) -> float:
    """L2 distance of all `pretrained` parameters together from the checkpoint, in float64."""
    parameters = dict(built.model.named_parameters())
    squares = (
        (parameters[n].detach().cpu().double() - built.reference[n].double()).square().sum()
        for n in pretrained(built)
    )
    return math.sqrt(sum(float(square) for square in squares))


def extra_forwards(trained: Trained) -> dict[str, Any]:
    """Forward passes that plain training would not have made; empty if there are none."""
    extra = trained.forwards - trained.batches
    return {"extra_forwards": extra} if extra else {}

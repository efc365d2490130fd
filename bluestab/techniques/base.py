"""The contract of a technique: seven optional moments of a run, and two declarations around them.

Each moment comes once per run, for all techniques of the arm in listed order. Validation and test
never pass through a technique: every arm is judged by the same code. Techniques of which siblings
can train as one also inherit `packing.Packable`. Modules of techniques import torch inside their
functions, so that checking a sweep of a thousand runs does not load it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import ConfigError
from bluestab.core.instantiate import load_class
from bluestab.core.rules import Rule
from bluestab.core.types import Example, ModelFacts, Step
from bluestab.models.built import Built, Trained

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import Callback, Trainer
    from torch import nn

    from bluestab.core.seeding import Seeds
    from bluestab.models.earlier import EarlierTask
    from bluestab.models.importance import Importance
    from bluestab.models.param_plan import ParamPlan


class Technique:
    """Does nothing; children override what they need, here in the order in which it is called.

    A child's constructor takes its knobs keyword-only and without defaults (they live in the yaml)
    and keeps them as attributes of the same names.
    """

    neutral: ClassVar[Mapping[str, Any]] = {}
    """Knob -> the value at which the technique rightly does nothing (decay 1.0)."""
    reads_embeddings: ClassVar[bool] = False
    """Its wrapped step changes, or asks for gradients of, what enters the blocks: the output of
    frozen ones cannot be computed once for it."""
    embeddings_by_row: ClassVar[bool] = False
    """What it does to a row of the word embeddings follows from that row alone, and without a
    gradient it at most scales it: `trainer.embedding_rows` may do without rows of no item. Not
    inherited: a child says it itself."""
    remembers: ClassVar[bool] = False
    """It holds on to the tasks of earlier runs (`model.init_from`, and where those started)."""
    keeps_items: ClassVar[bool] = False
    """It asks training items of these tasks again in its steps."""
    reads_path_integral: ClassVar[bool] = False
    """It needs what these runs leave under `keep_path_integral`."""
    reads_groups: ClassVar[bool] = False
    """It needs two groups of training items at least (`task.group`)."""
    pretrains: ClassVar[bool] = False
    """It acts in pretraining alone."""

    # --- declared before anything heavy is loaded ---

    @property
    def importance(self) -> Importance | None:
        """What it needs to know of the weights that earlier runs left, each of which may keep it
        (`keep_importance`)."""
        return None

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        """Knob -> what it may hold on this model; every knob has one."""
        return {}

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        """What else is wrong in this config, one sentence each; asked once all rules hold."""
        return []

    def fresh_depths(self, model: ModelFacts) -> frozenset[int]:
        """Depths that will have no pretrained value; freezing one of them is refused."""
        return frozenset()

    def frozen_depths(self, model: ModelFacts) -> frozenset[int]:
        """Depths that never train."""
        return frozenset()

    def one_device(self) -> str:
        """Why it does not go with `trainer.devices` > 1 (each device is a process that sees a part
        of every batch: what is drawn inside the step may differ, a count may not); "" if it does.
        """
        return ""

    def needs_items(self, kept: Collection[str]) -> bool:
        """Whether it asks training items of an earlier task whose run kept these importances."""
        wanted = self.importance
        return self.keeps_items or (wanted is not None and wanted.name not in kept)

    def selects_from(self, total_steps: int) -> int:
        """Steps after which validation may choose the best weights, all to be compared with one
        another; until then they are those of another network."""
        return 0

    def is_neutral(self) -> bool:
        """Some knob stands at the value that switches the technique off."""
        return any(getattr(self, knob) == value for knob, value in self.neutral.items())

    # --- the seven moments ---

    def edit_data(self, train: Sequence[Example], seeds: Seeds) -> Sequence[Example]:
        """The training items, before they are tokenised."""
        return train

    def edit_model(self, built: Built, seeds: Seeds) -> Built:
        """The network, after the checkpoint is loaded and the head is drawn."""
        return built

    def recall(self, earlier: Sequence[EarlierTask], built: Built, seeds: Seeds) -> None:
        """Of what it `remembers`, the tasks so far, the first first; before the first step, and
        again when a run is resumed."""

    def memory_numel(self) -> int:
        """How many numbers it holds in memory of earlier tasks, after `recall`."""
        return 0

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        """What the optimizer may do with each parameter; edits commute."""
        return plan

    def wrap_step(self, step: Step, built: Built) -> Step:
        """The training step, called once per micro-batch; the first listed is outermost."""
        return step

    def wrap_optimizer(
        self, optimizer: torch.optim.Optimizer, built: Built
    ) -> torch.optim.Optimizer:
        """The optimizer: one technique at most replaces it, hooks on it compose. It keeps the
        groups it was given, whole or divided, with their `names` and `depth`."""
        return optimizer

    def callbacks(self, built: Built) -> list[Callback]:
        """Lightning callbacks, for what happens over time."""
        return []

    # --- what must survive an interruption ---

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; called after all moments, before the next step."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers from step to step (an average, a counter), in plain containers: without
        it a resumed run is another one. Weights, optimizer, rates, random streams and the state of
        callbacks are saved by others."""
        return {}

    # --- declared after training ---

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        """What this technique did, read off `trained`; empty means nothing happened."""
        return {}


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


class MaskedGradients(Technique):
    """One that multiplies gradients by masks, and says of how many tensors it did so.

    What it has counted holds over interruptions, as its masks do.
    """

    _chosen: dict[str, nn.Parameter]
    _masks: dict[str, torch.Tensor]
    _masked: set[str]

    def _count(self, name: str, gradient: torch.Tensor) -> None:
        """A tensor whose gradient is masked now; one that was 0 anyway does not count."""
        if name not in self._masked and gradient.any():
            self._masked.add(name)

    def state_dict(self) -> dict[str, Any]:
        return {**self._masks, "masked": sorted(self._masked)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        masks = dict(state)
        self._masked = {*masks.pop("masked", ())}  # checkpoints of 0.2.0 lack it
        self._masks = {name: mask.to(self._chosen[name].device) for name, mask in masks.items()}


def when_gradients_are_final(optimizer: torch.optim.Optimizer, act: Callable[[], None]) -> None:
    """Call `act` between the backward pass with its clipping and the update it leads to.

    The trainer does both inside the closure that it hands to `optimizer.step`.
    """

    def before(_: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        closure = kwargs.get("closure")
        if closure is None:
            act()
            return None

        def closed() -> Any:
            loss = closure()
            act()
            return loss

        return args, {**kwargs, "closure": closed}

    optimizer.register_step_pre_hook(before)


def after_an_update(techniques: Mapping[str, Any], *also: str) -> list[str]:
    """Of a config's techniques those that change weights once more when an optimizer's step is
    done, and those of `also`: none goes with what has others in the place of the weights then."""
    found = [name for name in ("recadam", "prior_decay", *also) if name in techniques]
    return [*found, *(["smart"] if techniques.get("smart", {}).get("proximal") else [])]


def output_of(task: Mapping[str, Any]) -> Any:
    """What a task's class says that it predicts (`tasks/outputs.py`), None if nothing; what is
    wrong with the class itself is said elsewhere."""
    try:
        return getattr(load_class(task["_target_"], object, "task"), "output", None)
    except ConfigError:
        return None


def predicts_a_number(task: Mapping[str, Any]) -> bool:
    return bool(getattr(output_of(task), "numeric", False))

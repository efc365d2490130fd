"""A network as techniques are handed it, and what training made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bluestab.core.types import Batch

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bluestab.models.layers import LayerMap
    from bluestab.models.param_plan import ParamPlan


@dataclass(frozen=True)
class Built:
    """The model as techniques see it.

    model       the network that will be trained (edited in place by `edit_model`)
    layers      parameter name -> depth
    fresh       parameters without a pretrained value: head, re-initialised layers
    reference   the parameters that training starts from, before any edit, by name (never modified):
                the checkpoint's, with `model.init_from` those of an earlier run
    initialise  fills one parameter, by name, as the model family does, from a generator
    loss        the task's loss: (logits, batch) -> scalar; what the plain step computes
    shared_head  earlier tasks have the head of this one, not one of their own
    unheld      parameter -> how many of its numbers this network does without (`used_rows.py`)
    plain       weights of the model by name -> by the names, and with the values, that a plain
                transformers network needs to give the same logits: what a run keeps
    """

    model: nn.Module
    layers: LayerMap
    fresh: frozenset[str]
    reference: Mapping[str, torch.Tensor]
    initialise: Callable[[str, torch.Generator], None]
    loss: Callable[[torch.Tensor, Batch], torch.Tensor]
    plain: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]] = dict
    shared_head: bool = False
    unheld: Mapping[str, int] = field(default_factory=dict)

    def numel(self, name: str) -> int:
        """Size of a parameter of the model, by name, whatever of it this network holds."""
        return self.model.get_parameter(name).numel() + self.unheld.get(name, 0)


@dataclass(frozen=True)
class Trained:
    """What a training really did, observed from outside the techniques.

    plan      the finished plan
    lr_scale  parameter name -> learning-rate multiplier found in the optimizer's groups
    edited    parameters whose value before the first step differs from the checkpoint
    moved     parameters whose value after the last step differs from the one before the first
    pinned    module paths that stayed in evaluation mode (dropout off) during training
    forwards  forward passes of the model during training
    batches   (micro-)batches trained on: the forward passes that plain training would have made
    steps     optimizer steps taken
    """

    plan: ParamPlan
    lr_scale: Mapping[str, float]
    edited: frozenset[str]
    moved: frozenset[str]
    pinned: Sequence[str]
    forwards: int
    batches: int
    steps: int

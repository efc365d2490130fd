"""What a training did, read off its network and optimizer: no technique is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from bluestab.models.built import Built, Trained
from bluestab.models.param_plan import ParamPlan


def lr_scale_by_name(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Parameter name -> learning-rate multiplier, read off the optimizer that trained."""
    return {name: group["lr_scale"] for group in optimizer.param_groups for name in group["names"]}


def changed(
    parameters: Mapping[str, torch.Tensor], reference: Mapping[str, torch.Tensor]
) -> frozenset[str]:
    """Names whose values differ, bit for bit, from the reference."""
    return frozenset(
        name for name, p in parameters.items() if not torch.equal(p.detach().cpu(), reference[name])
    )


def pinned_modules(model: nn.Module, paths: Sequence[str]) -> list[str]:
    """Of these module paths, those that stay in evaluation mode when the model is set to train."""
    was_training = model.training
    model.train()
    pinned = [path for path in paths if not model.get_submodule(path).training]
    model.train(was_training)
    return pinned


def observed(
    built: Built,
    plan: ParamPlan,
    *,
    optimizer: torch.optim.Optimizer,
    edited: frozenset[str],
    start: Mapping[str, torch.Tensor],
    forwards: int,
    batches: int,
    steps: int,
) -> Trained:
    """What a training that has just ended did; see `Trained`."""
    parameters = dict(built.model.named_parameters())
    return Trained(
        plan=plan,
        lr_scale=lr_scale_by_name(optimizer),
        edited=edited,
        moved=changed(parameters, {**built.reference, **start}),
        pinned=pinned_modules(
            built.model, [path for paths in built.layers.modules.values() for path in paths]
        ),
        forwards=forwards,
        batches=batches,
        steps=steps,
    )

"""A network of eleven numbers with given gradients: formulas are compared on it in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from bluestab.core.errors import ConfigError
from bluestab.core.seeding import Seeds, generator
from bluestab.models.built import Built
from bluestab.models.layers import layer_map
from bluestab.models.param_plan import base_plan, param_groups
from bluestab.techniques.base import Technique

Make = Callable[..., Any]
F64 = torch.float64


def refusals(make_run: Make, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        make_run("task=biosses", "model=tiny", *overrides)
    return caught.value.problems


def network() -> nn.Module:
    """Embedding (2, 2), one block (2, 2) + (2,), head (1,): 4 + 4 + 2 + 1 numbers in float64."""
    block = nn.Module()
    block.dense = nn.Linear(2, 2, dtype=F64)
    encoder = nn.Module()
    encoder.layer = nn.ModuleList([block])
    bert = nn.Module()
    bert.embeddings, bert.encoder = nn.Embedding(2, 2, dtype=F64), encoder
    model = nn.Module()
    model.bert, model.classifier = bert, nn.Linear(1, 1, bias=False, dtype=F64)
    random = generator(7, "network")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=F64, generator=random))
    return model


HEAD = "classifier.weight"
BIAS = "bert.encoder.layer.0.dense.bias"
OPTIM = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "wd": 0.1}


def built_of(model: nn.Module, away: float = 0.5) -> Built:
    """As a run has it, with all weights `away` from the checkpoint."""
    names = [name for name, _ in model.named_parameters()]
    reference = {name: p.detach() - away for name, p in model.named_parameters()}
    layers = layer_map(
        names, encoder="bert", embeddings=["embeddings"], blocks="encoder.layer", above=[],
        n_layers=1,
    )  # fmt: skip
    return Built(
        model=model,
        layers=layers,
        fresh=frozenset({HEAD}),
        reference=reference,
        initialise=lambda *_: None,
        loss=lambda logits, batch: logits.sum(),
    )


def optimizer_of(technique: Technique, built: Built) -> torch.optim.Optimizer:
    """As `assemble` makes it."""
    parameters = dict(built.model.named_parameters())
    plan = technique.edit_plan(base_plan(parameters, OPTIM["wd"]), built)
    groups = param_groups(plan, parameters, built.layers, OPTIM["lr"])
    betas = (OPTIM["beta1"], OPTIM["beta2"])
    return technique.wrap_optimizer(torch.optim.AdamW(groups, betas=betas, eps=OPTIM["eps"]), built)


def gradients(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
    random = generator(7, "gradients", step)
    return {
        name: torch.randn(p.shape, dtype=F64, generator=random)
        for name, p in model.named_parameters()
    }


def adam(history: Sequence[torch.Tensor]) -> torch.Tensor:
    """Adam's direction after these gradients, with bias correction (Kingma & Ba 2015)."""
    m = v = torch.zeros_like(history[0])
    for g in history:
        m = OPTIM["beta1"] * m + (1 - OPTIM["beta1"]) * g
        v = OPTIM["beta2"] * v + (1 - OPTIM["beta2"]) * g * g
    m = m / (1 - OPTIM["beta1"] ** len(history))
    v = v / (1 - OPTIM["beta2"] ** len(history))
    return m / (v.sqrt() + OPTIM["eps"])


class Clock:
    """Of a trainer, what `before_each_step` is promised."""

    def __init__(self, total: int) -> None:
        self.global_step, self.max_steps = 0, total


def trained_by_hand(
    technique: Technique, n_steps: int, given: Callable[[nn.Module, int], Mapping[str, Any]]
) -> tuple[dict[str, torch.Tensor], Built, torch.optim.Optimizer]:
    """Weights after `n_steps` with given gradients, as the trainer would step."""
    model = network()
    built = technique.edit_model(built_of(model), Seeds(0, 0, 0, 0))
    optimizer, clock = optimizer_of(technique, built), Clock(n_steps)
    callbacks = technique.callbacks(built)
    for step in range(n_steps):
        clock.global_step = step
        for callback in callbacks:
            callback.on_train_batch_start(clock, None, None, 0)  # type: ignore[arg-type]

        def closure(step: int = step) -> None:
            for name, gradient in given(model, step).items():
                model.get_parameter(name).grad = gradient.clone()

        optimizer.step(closure=closure)  # type: ignore[arg-type]
    return {n: p.detach() for n, p in model.named_parameters()}, built, optimizer


def close(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-12, atol=1e-14, msg=name)

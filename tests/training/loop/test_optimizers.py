"""AdamW without bias correction: steps by hand, in a training, in the key, and going on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.testing.observed_training import watch  # noqa: E402
from bluestab.training.loop.optimizers import UncorrectedAdamW, adamw  # noqa: E402
from tests.support.averages import FAST, fitted  # noqa: E402
from tests.training.test_resume import compare  # noqa: E402

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


@pytest.mark.parametrize(("step", "factor"), [(1, 0.316), (10, 0.153), (50, 0.222), (1000, 0.795)])
def test_length_of_a_step_without_correction(step: int, factor: float) -> None:
    """The gradient is always 1 and eps 0: AdamW then moves by lr, the other by lr times factor."""
    exact = math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    assert exact == pytest.approx(factor, abs=5e-4)
    moved = {}
    for corrected in (True, False):
        weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        group = {"params": [weight], "lr": 0.01, "weight_decay": 0.0}
        optimizer = adamw([group], betas=(0.9, 0.999), eps=0.0, bias_correction=corrected)
        for _ in range(step):
            before = weight.detach().clone()
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        moved[corrected] = float((before - weight).detach()[0])
    assert moved[True] == pytest.approx(0.01, rel=1e-9)
    # constant gradients: m = (1 - b1^t), v = (1 - b2^t), so the step is lr * (1-b1^t)/sqrt(1-b2^t)
    assert moved[False] == pytest.approx(0.01 / exact, rel=1e-9)


def test_uncorrected_steps_by_hand() -> None:
    """Five steps of two tensors in two groups, against the three lines of the rule in numbers."""
    rates, decays = (0.1, 0.02), (0.05, 0.0)
    random = torch.Generator().manual_seed(0)
    start = [torch.randn(4, 3, generator=random, dtype=torch.float64) for _ in range(2)]
    gradients = [
        [torch.randn(4, 3, generator=random, dtype=torch.float64) for _ in range(2)]
        for _ in range(5)
    ]
    weights = [torch.nn.Parameter(w.clone()) for w in start]
    idle = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    groups = [
        {"params": [w, idle] if i == 0 else [w], "lr": rates[i], "weight_decay": decays[i]}
        for i, w in enumerate(weights)
    ]
    optimizer = UncorrectedAdamW(groups, betas=(0.8, 0.95), eps=1e-3)
    for given in gradients:
        for weight, gradient in zip(weights, given, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
    for i, weight in enumerate(weights):
        for place in ((0, 0), (3, 2)):
            w, m, v = float(start[i][place]), 0.0, 0.0
            for given in gradients:
                g = float(given[i][place])
                m = 0.8 * m + 0.2 * g
                v = 0.95 * v + 0.05 * g * g
                w -= rates[i] * (m / (math.sqrt(v) + 1e-3) + decays[i] * w)
            assert float(weight.detach()[place]) == pytest.approx(w, rel=1e-12)
    assert torch.equal(idle, torch.ones(2, dtype=torch.float64)), "no gradient, no decay"


def test_a_closure_is_called_once_with_gradients() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = UncorrectedAdamW(
        [{"params": [weight], "lr": 0.1, "weight_decay": 0.0}], betas=(0.9, 0.999), eps=1e-6
    )
    calls = []

    def closure() -> float:
        calls.append(1)
        loss = (weight**2).sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 2.0
    assert calls == [1]
    assert (weight < 1).all()


def test_training_without_correction(make_assembly: Make) -> None:
    """The same losses as a loop of our own over the batches, and others than with correction."""
    common = ("task=gad", "optim.steps=6", "optim.warmup=0", "optim.clip=null")
    assembly = make_assembly(*FAST, *common, "optim.bias_correction=false")
    for module in assembly.built.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    twin = copy.deepcopy(assembly.built.model).train()
    for module in twin.modules():
        vars(module).pop("forward", None)
    parameters = {n: p for n, p in twin.named_parameters() if p.requires_grad}
    moments = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in parameters.items()}
    sampler = assembly.loaders["train"].sampler
    batches = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches += list(assembly.loaders["train"])
    sampler.set_epoch(0)
    expected = []
    for step, batch in enumerate(batches[:6]):
        twin.zero_grad()
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "items")}
        loss = torch.nn.functional.cross_entropy(twin(**inputs).logits, batch["labels"])
        loss.backward()
        expected.append(float(loss.detach()))
        with torch.no_grad():
            for name, p in parameters.items():
                m, v = moments[name]
                m.mul_(0.9).add_(0.1 * p.grad)
                v.mul_(0.999).add_(0.001 * p.grad**2)
                decay = 0.01 if p.ndim > 1 else 0.0
                p -= 3e-3 * (1 - step / 6) * (m / (v.sqrt() + 1e-6) + decay * p)
    found = watch(assembly, {}).losses
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 1e-2
    assert fitted(make_assembly, *common)[1].losses[2:] != found[2:]


def test_bias_correction_in_the_key_only_where_it_is_off(make_run: Make) -> None:
    plain, said, off = (
        make_run("task=gad", *FAST, *extra)
        for extra in ((), ("optim.bias_correction=true",), ("optim.bias_correction=false",))
    )
    assert plain.key == said.key != off.key
    assert "bias_correction" not in plain.hashed["optim"]
    assert off.hashed["optim"]["bias_correction"] is False


@pytest.mark.parametrize("step", [3, 5])
def test_uncorrected_goes_on(making: Make, tmp_path: Path, step: int) -> None:
    compare(making("task=biosses", "model=tiny", "optim.bias_correction=false"), tmp_path, step)

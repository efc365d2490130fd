"""SWR against its own definition by autograd, in float64, and what a closed gate leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.seeding import generator  # noqa: E402
from bluestab.techniques.swr import Swr, expected_share, sampled, stretched  # noqa: E402
from tests.support.eleven_numbers import (  # noqa: E402
    F64,
    HEAD,
    OPTIM,
    adam,
    close,
    network,
    refusals,
    trained_by_hand,
)

KNOBS = {"budget": 0.3, "strength": 4.0, "gate_lr": 0.2}


def goal(name: str, shape: Any) -> torch.Tensor:
    return torch.randn(shape, dtype=F64, generator=generator(3, name))


def towards(model: Any, step: int) -> dict[str, torch.Tensor]:
    """Gradients of half the squared distance from the goal, at the weights of the moment."""
    return {n: p.detach() - goal(n, p.shape) for n, p in model.named_parameters()}


def by_definition(steps: int) -> dict[str, torch.Tensor]:
    start = {n: p.detach() - 0.5 for n, p in network().named_parameters()}  # the checkpoint
    p = {n: w + 0.5 for n, w in start.items()}
    names = [n for n in p if n != HEAD]
    a = torch.full((len(names),), 2.5, dtype=F64)
    sizes = torch.tensor([p[n].numel() for n in names], dtype=F64)
    history: dict[str, list[torch.Tensor]] = {n: [] for n in p}
    m = v = torch.zeros_like(a)
    for step in range(steps):
        p = {n: w.clone().requires_grad_() for n, w in p.items()}
        a = a.detach().requires_grad_()
        random = generator(0, "swr", step)
        u = torch.rand(len(names), dtype=F64, generator=random)
        s = torch.sigmoid((torch.log(u / (1 - u)) + a) * 1.5)
        z = torch.minimum(torch.ones_like(s), torch.relu(1.2 * s - 0.1))
        weights = {n: start[n] + z[i] * (p[n] - start[n]) for i, n in enumerate(names)}
        weights[HEAD] = p[HEAD]
        loss = sum((w - goal(n, w.shape)).square().sum() / 2 for n, w in weights.items())
        opened = torch.sigmoid(a - 2 / 3 * math.log(1 / 11))
        over = torch.relu((opened @ sizes) / sizes.sum() - KNOBS["budget"])
        (loss + KNOBS["strength"] * over**2).backward()
        with torch.no_grad():
            for n, w in p.items():
                history[n].append(w.grad)
                decay = OPTIM["wd"] if w.ndim > 1 else 0.0
                p[n] = w - OPTIM["lr"] * decay * w - OPTIM["lr"] * adam(history[n])
            g, t = a.grad, step + 1
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            root = (v / (1 - 0.999**t)).sqrt() + 1e-8
            a = a - KNOBS["gate_lr"] * (m / (1 - 0.9**t)) / root
    z = torch.clamp(1.2 * torch.sigmoid(a) - 0.1, 0, 1)
    return {
        n: start[n] + z[names.index(n)] * (w - start[n]) if n != HEAD else w for n, w in p.items()
    }


def test_ten_steps_are_those_of_autograd() -> None:
    weights, _, _ = trained_by_hand(Swr(**KNOBS), 10, towards)
    close(weights, by_definition(10))
    plain, _, _ = trained_by_hand(Swr(**{**KNOBS, "budget": 1.0}), 10, towards)
    assert any(not torch.equal(plain[n], weights[n]) for n in weights), "otherwise nothing is shown"


def test_closed_gates_leave_the_checkpoint_bit_for_bit() -> None:
    """A penalty that nothing outweighs closes what does not fit the budget."""
    technique = Swr(budget=0.01, strength=1e9, gate_lr=0.5)
    weights, built, _ = trained_by_hand(technique, 60, towards)
    closed = [n for n in weights if torch.equal(weights[n], built.reference[n])]
    assert closed
    assert HEAD not in closed


def test_budget_one_is_plain_training() -> None:
    plain, _, _ = trained_by_hand(Swr(budget=1.0, strength=1.0, gate_lr=0.1), 5, towards)
    p = {n: w.detach() for n, w in network().named_parameters()}
    history: dict[str, list[torch.Tensor]] = {n: [] for n in p}
    for _ in range(5):
        for n, w in p.items():
            history[n].append(w - goal(n, w.shape))
            decay = OPTIM["wd"] if w.ndim > 1 else 0.0
            p[n] = w - OPTIM["lr"] * decay * w - OPTIM["lr"] * adam(history[n])
    close(plain, p)


def test_gates() -> None:
    s = torch.tensor([0.0, 1 / 12, 0.5, 11 / 12, 1.0], dtype=F64)
    assert stretched(s).tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-12)
    a = torch.zeros(100_000, dtype=F64)
    u = torch.rand(a.shape, dtype=F64, generator=generator(1, "u"))
    opened = float((sampled(a, u) > 0).double().mean())
    assert opened == pytest.approx(float(expected_share(a, torch.ones_like(a))), abs=0.01)


@pytest.mark.parametrize("other", ["recadam", "prior_decay", "powerprop", "sara"])
def test_what_it_does_not_go_with(make_run: Callable[..., Any], other: str) -> None:
    (problem,) = refusals(make_run, f"technique=[swr,{other}]")
    assert "swr" in problem
    assert other in problem


@pytest.mark.parametrize(
    ("knob", "value", "expected"),
    [("budget", "0", "(0, 1]"), ("strength", "0", "> 0"), ("gate_lr", "-1", "> 0")],
)
def test_knobs(make_run: Callable[..., Any], knob: str, value: str, expected: str) -> None:
    (problem,) = refusals(make_run, "technique=swr", f"technique.swr.{knob}={value}")
    assert f"technique.swr.{knob} is {value}" in problem
    assert expected in problem


def test_freezing_all_blocks_is_refused(make_run: Callable[..., Any]) -> None:
    (problem,) = refusals(make_run, "technique=[swr,freeze]", "technique.freeze.depth=2")
    assert "swr" in problem
    assert "freeze" in problem

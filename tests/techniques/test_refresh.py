"""Refresh against a loop that holds the formula of the released code, in float64."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bluestab.core.seeding import stream_seed  # noqa: E402
from bluestab.techniques.refresh import Refresh  # noqa: E402
from tests.support.earlier_toy import (  # noqa: E402
    LR,
    SEEDS,
    STEPS,
    Steps,
    answers,
    apart,
    built_of,
    by_formula,
    close,
    earlier,
    items,
    loss,
    started,
    trained,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

KNOBS = {"delta": 0.02, "noise": 0.1, "fisher_weight": 5.0, "decay": 0.3, "every": 2}


def refresh(**knobs: Any) -> Refresh:
    return Refresh(**{**KNOBS, **knobs})


def fisher_of_the_code(task: Any) -> dict[str, Any]:
    """Item by item: p times the squared gradient of log p, p per word the geometric mean."""
    total: dict[str, Any] = {}
    for row in range(task.size):
        item = task.batch([row])
        task.network.zero_grad()
        log_p = -loss(answers(task.network, item), item)
        log_p.backward()
        for name, parameter in task.network.named_parameters():
            if name.startswith("bert."):
                square = log_p.exp().detach() * parameter.grad**2 / task.size
                total[name] = total.get(name, 0.0) + square
    return total


def test_refresh_is_the_released_code_s_formula() -> None:
    """A scratch copy steps down minus the loss; the way there, as long as the tensor, with noise,
    over 1 + F; then the usual step."""
    first, last = (fisher_of_the_code(task) for task in earlier())
    f = {name: 0.3 * first[name] + last[name] for name in last}
    network: Any = started()
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    for number in range(STEPS):
        batch = items(5, 4, 100 + number)
        if number % 2 == 0:
            torch.manual_seed(stream_seed(SEEDS.dropout, "refresh", number))
            optimizer.zero_grad()
            loss(answers(network, batch), batch).backward()
            with torch.no_grad():
                for name, p in network.named_parameters():
                    way = 0.01 * p.grad
                    way = way * p.norm() / (way.norm() + 1e-20)
                    p += 0.02 * (way + 0.1 * torch.randn_like(p)) / (1 + 5.0 * f.get(name, 0.0))
        optimizer.zero_grad()
        loss(answers(network, batch), batch).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    found, _ = trained(refresh())
    close(found, {n: p.detach() for n, p in network.named_parameters()})
    assert apart(found, by_formula(lambda *_: 0.0))


def test_without_delta_it_is_the_base_bit_for_bit() -> None:
    found, _ = trained(refresh(delta=0.0))
    plain = by_formula(lambda *_: 0.0)
    assert all(torch.equal(found[n], plain[n]) for n in plain)


def test_the_step_goes_up_and_draws_nothing_from_the_run_s_streams() -> None:
    technique, network, batch = refresh(noise=0.0), started(), items(5, 4, 1)
    built = built_of(network)
    technique.recall(earlier(), built, SEEDS)
    before = loss(answers(network, batch), batch).item()
    torch.manual_seed(5)
    streams = torch.get_rng_state()
    technique._unlearn(Steps(), built, batch)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), streams)
    assert loss(answers(network, batch), batch).item() > before
    assert all(p.grad is None for p in network.parameters())

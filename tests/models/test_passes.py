"""More passes in a step: streams of dropout are put back, gradients are handed on."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.seeding import torch_streams  # noqa: E402
from bluestab.models.passes import (  # noqa: E402
    fork_dropout_stream,
    gradients,
    replay_dropout_stream,
    with_gradients,
)
from tests.support.linear_toy import float64  # noqa: E402

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def test_streams_are_put_back() -> None:
    torch.manual_seed(5)
    start = torch_streams(CPU)
    first = torch.rand(3)
    after = torch.get_rng_state()
    with replay_dropout_stream(start, CPU):
        assert torch.equal(torch.rand(3), first)
        torch.rand(100)
    assert torch.equal(torch.get_rng_state(), after)
    drawn = {}
    for name in ("a", "b", "a"):
        with fork_dropout_stream(CPU, name):
            drawn.setdefault(name, []).append(torch.rand(3))
        assert torch.equal(torch.get_rng_state(), after)
        assert torch.initial_seed() == 5
    assert torch.equal(*drawn["a"])
    assert not torch.equal(drawn["a"][0], drawn["b"][0])
    assert not torch.equal(drawn["a"][0], first)
    with pytest.raises(RuntimeError, match="planned"), fork_dropout_stream(CPU, "a"):
        raise RuntimeError("planned")
    assert torch.equal(torch.get_rng_state(), after)


def test_known_gradients_are_handed_on() -> None:
    weights = [torch.nn.Parameter(float64(1.0, 2.0)), torch.nn.Parameter(float64(3.0))]
    unused = torch.nn.Parameter(float64(4.0))
    loss = (weights[0] ** 2).sum() * weights[1].sum()
    known = gradients(loss, [*weights, unused])
    assert known[2] is None
    again = with_gradients(loss, [*weights, unused], known)
    assert again.item() == loss.item()
    (0.25 * again + weights[1].sum()).backward()
    assert torch.equal(weights[0].grad, 0.25 * float64(6.0, 12.0))
    assert torch.equal(weights[1].grad, float64(0.25 * 5 + 1))
    assert unused.grad is None

"""SaRA: ten steps by hand, the two faults of the released code, and what stays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.techniques.sara import Sara, nuclear_gradient, quantile  # noqa: E402
from tests.support.eleven_numbers import (  # noqa: E402
    HEAD,
    OPTIM,
    adam,
    close,
    gradients,
    network,
    refusals,
    trained_by_hand,
)

WEIGHT = "bert.encoder.layer.0.dense.weight"


@pytest.mark.parametrize("rank_penalty", [0.0, 0.3])
def test_ten_steps_by_hand(rank_penalty: float) -> None:
    """Half of the matrix trains, by its own AdamW; after four steps what has grown stays. The one
    matrix there is has the penalty of every step: it arrives at the weights that train."""
    technique = Sara(share=0.5, reselect=0.4, rank_penalty=rank_penalty)
    weights, _, _ = trained_by_hand(technique, 10, gradients)
    model, lr, wd = network(), OPTIM["lr"], OPTIM["wd"]
    expected = {n: p.detach().clone() for n, p in model.named_parameters()}
    head = [gradients(model, t)[HEAD] for t in range(10)]
    for t in range(10):
        expected[HEAD] = (1 - lr * wd) * expected[HEAD] - lr * adam(head[: t + 1])
    w = expected[WEIGHT]
    bound = w.abs().flatten().sort().values[1]
    mask = w.abs() <= bound
    assert int(mask.sum()) == 2
    given = []
    for t in range(10):
        if t == 4:
            mask = mask & (w.abs() <= bound)
        u, _, vh = torch.linalg.svd(w * mask)
        rank = int(torch.linalg.matrix_rank(w * mask))
        penalty = rank_penalty * (u[:, :rank] @ vh[:rank])
        given.append((gradients(model, t)[WEIGHT] + penalty) * mask)
        w = torch.where(mask, (1 - lr * wd) * w - lr * adam(given), w)
    expected[WEIGHT] = w
    close(weights, expected)
    assert not torch.equal(w, network().get_parameter(WEIGHT))


def test_signs_are_kept() -> None:
    """Before the first step every weight is the checkpoint's, the negative ones too."""
    weights, _, _ = trained_by_hand(Sara(share=0.5, reselect=None, rank_penalty=0.0), 0, gradients)
    w = network().get_parameter(WEIGHT).detach()
    assert bool((w < 0).any())
    assert torch.equal(weights[WEIGHT], w)


def test_the_smallest_share() -> None:
    w = torch.tensor([[-4.0, 1.0], [3.0, -2.0]])
    assert [float(quantile(w, share)) for share in (0.01, 0.5, 0.75, 0.99)] == [1, 2, 3, 3]


def test_the_nuclear_gradient_is_that_of_the_singular_values() -> None:
    w = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w.requires_grad_()
    torch.linalg.matrix_norm(w, "nuc").backward()
    torch.testing.assert_close(nuclear_gradient(w.detach()), w.grad)
    flat = torch.outer(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]))
    assert float(nuclear_gradient(flat).norm()) == pytest.approx(1.0), "nothing of rank 0"
    assert float(nuclear_gradient(torch.zeros(2, 2)).norm()) == 0.0
    assert math.isfinite(float(nuclear_gradient(torch.zeros(2, 2)).sum()))


@pytest.mark.parametrize("other", ["train_only", "lora", "recadam"])
def test_what_it_does_not_go_with(make_run: Callable[..., Any], other: str) -> None:
    (problem,) = refusals(make_run, f"technique=[sara,{other}]")
    assert "sara" in problem
    assert other in problem

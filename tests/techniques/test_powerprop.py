"""Powerpropagation against its own definition: phi trained by AdamW, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.techniques.powerprop import Powerprop, psi, psi_inverse  # noqa: E402
from tests.support.eleven_numbers import (  # noqa: E402
    OPTIM,
    adam,
    close,
    gradients,
    network,
    refusals,
    trained_by_hand,
)

WEIGHT = "bert.encoder.layer.0.dense.weight"


@pytest.mark.parametrize("alpha", [1.5, 3.0])
def test_ten_steps_of_phi(alpha: float) -> None:
    weights, _, _ = trained_by_hand(Powerprop(alpha=alpha), 10, gradients)
    model, lr, wd = network(), OPTIM["lr"], OPTIM["wd"]
    expected = {}
    for name, parameter in model.named_parameters():
        w, given = parameter.detach().clone(), []
        decay = wd if w.ndim > 1 else 0.0
        if name != WEIGHT:
            for t in range(10):
                given.append(gradients(model, t)[name])
                w = w - lr * decay * w - lr * adam(given)
            expected[name] = w
            continue
        phi = w.sign() * w.abs() ** (1 / alpha)
        for t in range(10):
            given.append(gradients(model, t)[name] * alpha * phi.abs() ** (alpha - 1))
            phi = phi - lr * decay * phi - lr * adam(given)
        expected[name] = phi * phi.abs() ** (alpha - 1)
    close(weights, expected)


def test_the_power_and_its_root() -> None:
    w = torch.tensor([-8.0, -0.5, 0.0, 0.25, 27.0], dtype=torch.float64)
    assert psi_inverse(w, 3.0).tolist() == pytest.approx(
        [-2.0, -(0.5 ** (1 / 3)), 0.0, 0.63, 3.0], abs=1e-3
    )
    torch.testing.assert_close(psi(psi_inverse(w, 3.0), 3.0), w)
    assert torch.equal(psi(w, 1.0), w)


def test_where_there_is_no_gradient_bits_stay() -> None:
    """No gradient and no decay: w + psi(phi) - psi(phi) is w, although phi is rounded."""

    def nothing(model: Any, step: int) -> dict[str, Any]:
        return {n: torch.zeros_like(p) for n, p in model.named_parameters()}

    still = dict(OPTIM)
    OPTIM["wd"] = 0.0
    try:
        weights, _, _ = trained_by_hand(Powerprop(alpha=3.0), 3, nothing)
    finally:
        OPTIM.update(still)
    assert all(torch.equal(w, network().get_parameter(n)) for n, w in weights.items())


@pytest.mark.parametrize("other", ["recadam", "prior_decay", "lora", "train_only"])
def test_what_it_does_not_go_with(make_run: Callable[..., Any], other: str) -> None:
    (problem,) = refusals(make_run, f"technique=[powerprop,{other}]")
    assert "powerprop" in problem
    assert other in problem
    (problem,) = refusals(make_run, "technique=powerprop", "technique.powerprop.alpha=0.5")
    assert "technique.powerprop.alpha is 0.5: expected a number >= 1" in problem

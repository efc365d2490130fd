"""Prior decay against closed forms by hand, and in trainings of the tiny models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bluestab.techniques.prior_decay import PriorDecay  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.support.eleven_numbers import (  # noqa: E402
    BIAS,
    HEAD,
    OPTIM,
    adam,
    close,
    gradients,
    network,
    refusals,
    trained_by_hand,
)

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

# --- a network of eleven numbers ------------------------------------------------------------------

BLOCK = "bert.encoder.layer.0.dense.weight"
EMBEDDINGS = "bert.embeddings.weight"


def zeros(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(p) for name, p in model.named_parameters()}


# --- prior decay ---------------------------------------------------------------------------------


def test_prior_decay_without_gradient_is_a_geometric_approach() -> None:
    """Also: no other decay is left, or the weights would not go to the pretrained point."""
    decay = PriorDecay(alpha=2.0, beta=None)
    weights, built, _ = trained_by_hand(decay, 50, zeros)
    start = dict(network().named_parameters())
    for name in (EMBEDDINGS, BLOCK, BIAS):
        u = built.reference[name]
        away = (1 - OPTIM["lr"] * 2.0) ** 50 * (start[name].detach() - u)
        torch.testing.assert_close(weights[name] - u, away, rtol=1e-12, atol=1e-14)
    head = start[HEAD].detach() * (1 - OPTIM["lr"] * OPTIM["wd"]) ** 50
    torch.testing.assert_close(weights[HEAD], head, rtol=1e-12, atol=1e-14)


def test_prior_decay_stays_at_the_pretrained_point() -> None:
    """With a second decay, towards zero, it could not."""

    def at_the_point(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
        if step == 0:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name != HEAD:
                        parameter.sub_(0.5)
        return zeros(model, step)

    weights, built, _ = trained_by_hand(PriorDecay(alpha=2.0, beta=None), 5, at_the_point)
    close({n: weights[n] for n in (EMBEDDINGS, BLOCK, BIAS)}, built.reference)


@pytest.mark.parametrize("beta", [None, 0.5])
def test_prior_decay_by_hand(beta: float | None) -> None:
    """AdamW's update without its decay, then the pull; the head by `beta` or by plain decay."""
    weights, built, _ = trained_by_hand(PriorDecay(alpha=2.0, beta=beta), 12, gradients)
    model, lr = network(), OPTIM["lr"]
    expected = {}
    for name, parameter in model.named_parameters():
        w, given = parameter.detach().clone(), []
        for step in range(12):
            given.append(gradients(model, step)[name])
            if name == HEAD and beta is None:
                w = w - lr * OPTIM["wd"] * w
            w = w - lr * adam(given)
            if name == HEAD:
                w = w - lr * (beta or 0.0) * w
            else:
                w = w - lr * 2.0 * (w - built.reference[name])
        expected[name] = w
    close(weights, expected)


def test_prior_decay_leaves_frozen_and_waiting_weights_alone() -> None:
    def without_block(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
        return {n: g for n, g in gradients(model, step).items() if n != BLOCK}

    weights, _, _ = trained_by_hand(PriorDecay(alpha=2.0, beta=None), 3, without_block)
    assert torch.equal(weights[BLOCK], network().get_parameter(BLOCK))


def test_prior_decay_scales_with_the_rate_of_the_layer(lab: Lab) -> None:
    """Beside llrd, each layer's pull has its own rate: decoupled decay does."""
    knobs = {"prior_decay__alpha": 100, "llrd__decay": 0.5}
    _, seen = lab.trained("biosses", "tiny", *chosen("prior_decay", "llrd", **knobs))
    assert {depth: set() for depth in range(4)} != seen.rates
    plain = lab.trained("biosses", "tiny", *chosen("llrd", llrd__decay=0.5))[1]
    far = {n: (w.end[n] - w.checkpoint[n]).norm() for w in (plain,) for n in w.checkpoint}
    near = {n: (seen.end[n] - seen.checkpoint[n]).norm() for n in seen.checkpoint}
    ratio = {n: float(near[n] / far[n]) for n in far if n.endswith("dense.weight")}
    top = [r for n, r in ratio.items() if "layer.1." in n]
    low = [r for n, r in ratio.items() if "layer.0." in n]
    assert max(top) < min(low) < 1


def test_prior_decay_refusals(make_run: Make) -> None:
    both = "technique=[prior_decay,recadam]"
    (problem,) = refusals(make_run, both, "optim.lr=1e-5")
    assert "prior_decay and recadam both pull" in problem
    (problem,) = refusals(make_run, "technique=prior_decay", "technique.prior_decay.alpha=2e5")
    assert "go beyond the point" in problem
    zero = ("technique.prior_decay.alpha=0", "technique.prior_decay.beta=0.1")
    (problem,) = refusals(make_run, "technique=prior_decay", *zero)
    assert "switches all of prior_decay off" in problem

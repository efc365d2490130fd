"""SMART: its ascent, its gradients through both sides and its proximal term, by hand."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.models.passes import noise, perturbed  # noqa: E402
from bluestab.techniques import smart  # noqa: E402
from bluestab.techniques.smart import Smart  # noqa: E402
from tests.support.linear_toy import BATCH, ByHand, Toy, float64, same  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def new_smart(**knobs: Any) -> Smart:
    usual = {"weight": 0.3, "steps": 2, "eps": 0.1, "step_size": 1.0, "start_noise": 0.01}
    return Smart(**{**usual, "proximal": 0.0, "momentum": 0.9, **knobs})


def test_smart_finds_the_worst_corner_of_a_linear_network() -> None:
    """Of w . (sum of d) in a cube: every d at +-eps by the sign of w. A step of 1 leaves the cube
    for the larger entry of w, and for the other, a quarter as large, with 0.25 as well."""
    hand = ByHand(Toy())
    torch.manual_seed(14)
    output = hand.wrapped(new_smart())(BATCH)
    pieces = float64(3.0, 2.0)
    worst = pieces * 0.1 * hand.toy.w.abs().sum()
    plain = hand.step(BATCH).loss
    assert output.loss.item() == pytest.approx((plain + 0.3 * (worst**2).mean()).item(), rel=1e-12)
    assert hand.calls == 2 + 2 + 1, "one clean pass, two of the search, one at the worst"


def test_smart_s_step_by_hand() -> None:
    delta = float64([[0.02, -0.01], [0.0, 0.0]], [[0.0, 0.0], [0.05, 0.0]])
    gradient = float64([[4.0, -1.0], [0.5, 2.0]], [[0.0, 0.0], [0.0, 0.0]])
    found = smart.ascended(delta, gradient, 0.04, 0.05)
    expected = float64([[0.05, -0.02], [0.005, 0.02]], [[0.0, 0.0], [0.05, 0.0]])
    assert torch.allclose(found, expected, rtol=1e-12)


def test_smart_gets_gradients_through_both_sides() -> None:
    """Of a curved network, against the formula written out with the perturbation given."""
    hand = ByHand(Toy(curved=True))
    technique = new_smart(steps=1, step_size=0.03)
    torch.manual_seed(15)
    output = hand.wrapped(technique)(BATCH)
    delta = (0.01 * noise(hand.toy, BATCH, "normal", "smart", "noise")).requires_grad_()
    answer = hand.step(BATCH).logits.detach()
    with perturbed(hand.toy, delta):
        apart = ((hand.step(BATCH).logits - answer) ** 2).sum() / 2
    (uphill,) = torch.autograd.grad(apart, [delta])
    largest = uphill.flatten(1).abs().max(dim=1).values.view(2, 1, 1)
    worst = (delta.detach() + 0.03 * uphill / largest).clamp(-0.1, 0.1)
    clean = hand.step(BATCH)
    with perturbed(hand.toy, worst):
        moved = hand.step(BATCH)
    expected = clean.loss + 0.3 * ((clean.logits - moved.logits) ** 2).mean()
    assert torch.allclose(output.loss, expected, rtol=1e-12)
    assert same(hand.gradients(output.loss), hand.gradients(expected))
    stopped = clean.loss + 0.3 * ((clean.logits.detach() - moved.logits) ** 2).mean()
    assert not same(hand.gradients(output.loss), hand.gradients(stopped))


def test_smart_s_proximal_term_by_hand() -> None:
    """After one step of the optimizer the mean of the weights is 0.9 of the old, 0.1 of the new."""
    hand, technique = ByHand(Toy()), new_smart(proximal=2.0)
    optimizer = torch.optim.SGD(hand.toy.parameters(), lr=0.05)
    assert technique.wrap_optimizer(optimizer, hand.built()) is optimizer
    step = hand.wrapped(technique)
    without = hand.wrapped(new_smart())
    torch.manual_seed(16)
    assert torch.equal(step(BATCH).loss, without(BATCH).loss), "it stands where it was"
    old = {n: p.detach().clone() for n, p in hand.toy.named_parameters()}
    hand.step(BATCH).loss.backward()
    optimizer.step()
    new = {n: p.detach().clone() for n, p in hand.toy.named_parameters()}
    mean = {n: 0.9 * old[n] + 0.1 * new[n] for n in new}
    assert all(torch.allclose(technique.state_dict()["mean"][n], mean[n]) for n in mean)
    torch.manual_seed(16)
    output, plain = step(BATCH), without(BATCH)
    assert all(torch.equal(p, new[n]) for n, p in hand.toy.named_parameters())
    mask = BATCH["attention_mask"].unsqueeze(-1)
    sums = (mean["table.weight"][BATCH["input_ids"]] * mask).sum(dim=1)
    before = (sums @ mean["w"]).unsqueeze(-1)
    expected = plain.loss + 2.0 * ((plain.logits - before) ** 2).mean()
    assert torch.allclose(output.loss, expected, rtol=1e-12)
    assert output.loss > plain.loss
    assert same(hand.gradients(output.loss), hand.gradients(expected))
    other = new_smart(proximal=2.0)
    other.wrap_optimizer(optimizer, hand.built())
    other.load_state_dict(technique.state_dict())
    torch.manual_seed(16)
    assert torch.equal(hand.wrapped(other)(BATCH).loss, output.loss)

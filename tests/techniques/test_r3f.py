"""R3F against a linear network, whose loss under noise can be written down."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.models.passes import noise  # noqa: E402
from bluestab.techniques.r3f import R3f  # noqa: E402
from tests.support.linear_toy import BATCH, ByHand, Toy, float64, same  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


@pytest.mark.parametrize("law", ["uniform", "normal"])
def test_r3f_of_a_linear_network_by_hand(law: Any) -> None:
    """f(e + z) - f(e) is w . (sum of z): the penalty is the mean of its squares."""
    hand = ByHand(Toy())
    technique = R3f(weight=0.3, eps=0.1, noise=law, same_dropout=True)
    torch.manual_seed(12)
    z = 0.1 * noise(hand.toy, BATCH, law, "r3f", "noise")
    assert torch.equal(z[1, 2], float64(0.0, 0.0)), "none at padding"
    output = hand.wrapped(technique)(BATCH)
    expected = hand.step(BATCH).loss + 0.3 * ((z.sum(dim=1) @ hand.toy.w) ** 2).mean()
    assert torch.allclose(output.loss, expected, rtol=1e-12)
    assert output.loss > hand.step(BATCH).loss
    assert same(hand.gradients(output.loss), hand.gradients(expected))


def test_sizes_of_the_noise() -> None:
    hand = ByHand(Toy())
    batch = {
        "input_ids": torch.ones(50, 40, dtype=torch.long),
        "attention_mask": torch.ones(50, 40),
    }
    torch.manual_seed(1)
    uniform = noise(hand.toy, batch, "uniform", "a")
    assert uniform.shape == (50, 40, 2)
    assert uniform.abs().max() <= 1
    assert uniform.std().item() == pytest.approx(3**-0.5, rel=0.05)
    assert noise(hand.toy, batch, "normal", "a").std().item() == pytest.approx(1, rel=0.05)
    assert torch.equal(uniform, noise(hand.toy, batch, "uniform", "a")), "of the step alone"
    assert not torch.equal(uniform, noise(hand.toy, batch, "uniform", "b"))
    torch.manual_seed(2)
    assert not torch.equal(uniform, noise(hand.toy, batch, "uniform", "a"))


def test_r3f_with_and_without_the_same_dropout() -> None:
    penalties = {}
    for same_dropout_ in (True, False):
        hand = ByHand(Toy(dropout=0.5))
        technique = R3f(weight=1.0, eps=1e-4, noise="uniform", same_dropout=same_dropout_)
        torch.manual_seed(13)
        output = hand.wrapped(technique)(BATCH)
        torch.manual_seed(13)
        plain = hand.step(BATCH)
        assert torch.equal(output.logits, plain.logits)
        penalties[same_dropout_] = (output.loss - plain.loss).item()
    assert 0 < penalties[True] < 1e-6
    assert penalties[False] > 1e-3

"""FreeLB: its start, its step and its gradient, by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from bluestab.models.passes import noise, perturbed  # noqa: E402
from bluestab.techniques import freelb  # noqa: E402
from bluestab.techniques.freelb import Freelb  # noqa: E402
from tests.support.linear_toy import BATCH, ByHand, Toy, float64, same  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def test_freelb_s_step_by_hand() -> None:
    delta = float64([[0.3, 0.0]], [[0.0, 0.1]], [[0.2, 0.0]])
    gradient = float64([[0.0, 5.0]], [[3e-9, 4e-9]], [[0.0, 0.0]])
    moved = freelb.ascended(delta, gradient, 0.4, None)
    assert torch.allclose(moved, float64([[0.3, 0.4]], [[0.24, 0.42]], [[0.2, 0.0]]))
    inside = freelb.ascended(delta, gradient, 0.4, 0.25)
    assert torch.allclose(inside[0], float64([0.15, 0.2]))
    assert inside[1].norm().item() == pytest.approx(0.25)
    assert torch.allclose(inside[2], float64([0.2, 0.0])), "inside the ball nothing is touched"


def test_freelb_s_start_by_hand() -> None:
    uniform = torch.ones(2, 3, 2, dtype=torch.float64) * BATCH["attention_mask"].unsqueeze(-1)
    start = freelb.start_of(uniform, BATCH["attention_mask"], 0.16)
    assert torch.allclose(start.flatten(1).norm(dim=1), float64(0.16, 0.16))
    assert start[0, 0, 0].item() == pytest.approx(0.16 / 6**0.5)
    assert start[1, 0, 0].item() == pytest.approx(0.16 / 4**0.5)
    assert start[1, 2, 0].item() == 0


@pytest.mark.parametrize("ascents", [2, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_freelb_s_gradient_is_that_of_the_mean_loss(ascents: int, dropout: float) -> None:
    """Against all K graphs kept and one backward pass through their mean."""
    hand = ByHand(Toy(curved=True, dropout=dropout))
    technique = Freelb(ascents=ascents, step_size=0.1, init=0.16, max_norm=0.2)
    torch.manual_seed(17)
    output = hand.wrapped(technique)(BATCH)
    assert hand.calls == ascents
    found = hand.gradients(0.25 * output.loss)
    uniform = noise(hand.toy, BATCH, "uniform", "freelb", "noise")
    delta, losses = freelb.start_of(uniform, BATCH["attention_mask"], 0.16), []
    for _ in range(ascents):
        delta.requires_grad_()
        torch.manual_seed(17)  # the same units are dropped in all passes
        with perturbed(hand.toy, delta):
            losses.append(hand.step(BATCH).loss)
        (uphill,) = torch.autograd.grad(losses[-1], [delta], retain_graph=True)
        delta = delta.detach() + 0.1 * uphill / uphill.flatten(1).norm(dim=1).view(2, 1, 1)
        norms = delta.flatten(1).norm(dim=1).view(2, 1, 1)
        delta = torch.where(norms > 0.2, 0.2 * delta / norms, delta)
    mean = torch.stack(losses).mean()
    assert torch.allclose(output.loss, mean, rtol=1e-12)
    assert same(found, hand.gradients(0.25 * mean))
    assert dropout or losses[-1] > losses[0], "the ascent makes it harder"

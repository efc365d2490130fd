"""R-Drop against cases worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.types import StepOutput  # noqa: E402
from bluestab.models.passes import fork_dropout_stream  # noqa: E402
from bluestab.techniques.rdrop import Rdrop  # noqa: E402
from tests.support.linear_toy import BATCH, ByHand, Toy, float64  # noqa: E402

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def test_rdrop_of_two_examples_by_hand() -> None:
    """Two classes; the passes say (1/2, 1/2) and (3/4, 1/4) of both, gold 0 and 1."""
    from torch.nn.functional import cross_entropy

    passes = iter([float64([0.0, 0.0], [0.0, 0.0]), float64([math.log(3), 0.0], [math.log(3), 0])])
    labels = torch.tensor([0, 1])

    def step(batch: Any) -> StepOutput:
        logits = next(passes)
        return StepOutput(cross_entropy(logits, batch["labels"]), logits)

    twice = Rdrop(alpha=0.7).wrap_step(step, None)  # type: ignore[arg-type]
    output = twice({"labels": labels, "input_ids": labels})
    first = -math.log(0.5)
    second = (-math.log(0.75) - math.log(0.25)) / 2
    kl = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    lk = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert output.loss.item() == pytest.approx(
        (first + second) / 2 + 0.7 * (kl + lk) / 2, rel=1e-12
    )
    assert torch.equal(output.logits, float64([0.0, 0.0], [0.0, 0.0]))


def test_rdrop_of_regression_by_hand() -> None:
    hand = ByHand(Toy(dropout=0.5))
    torch.manual_seed(11)
    output = hand.wrapped(Rdrop(alpha=0.7))(BATCH)
    torch.manual_seed(11)
    first = hand.step(BATCH)
    with fork_dropout_stream(CPU, "rdrop"):
        second = hand.step(BATCH)
    apart = ((first.logits - second.logits) ** 2).mean()
    assert apart > 0
    assert torch.equal(output.logits, first.logits), "the first pass is that of any arm"
    assert torch.allclose(output.loss, (first.loss + second.loss) / 2 + 0.35 * apart)


def test_rdrop_without_dropout_is_the_plain_loss() -> None:
    hand = ByHand(Toy())
    assert torch.equal(hand.wrapped(Rdrop(alpha=3.0))(BATCH).loss, hand.step(BATCH).loss)
    assert hand.calls == 3

"""The network with several sets of weights, under the other attention kernel."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from tests.conftest import Make
from tests.support.packed_groups import ASKED, fitted


@pytest.mark.parametrize("dropout", [0, 0.1])
def test_the_other_attention_kernel(make_run: Make, dropout: float) -> None:
    """Where nothing is dropped it is used; where something is, it cannot be told what."""
    kinds = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    asked = (*ASKED, *(f"+model.config.{kind}={dropout}" for kind in kinds))
    ends = []
    for kernel in ("eager", "sdpa"):
        for precision in ("32", "bf16"):
            knobs = (f"trainer.attention.cpu={kernel}", f"trainer.precision={precision}")
            group = fitted([make_run(*asked, *knobs, f"seed={s}") for s in range(2)])
            ends.append([s.history.rows[-1]["train_loss"] for s in group.siblings])
    assert ends[0] == pytest.approx(ends[2], rel=1e-5)
    assert ends[1] == pytest.approx(ends[3], rel=1e-2)

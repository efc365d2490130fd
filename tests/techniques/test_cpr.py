"""CPR against a loop of the formula, term by term and over 20 steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.techniques.cpr import Cpr, certainty  # noqa: E402

Make = Callable[..., Any]


def logits_of(*shape: int) -> Any:
    random = torch.Generator().manual_seed(3)
    return 3 * torch.randn(shape, generator=random, dtype=torch.float64)


def by_loop(rows: Any) -> float:
    """Mean of log C - H(p), class by class."""
    found = []
    for row in rows.tolist():
        powers = [math.exp(x) for x in row]
        p = [x / sum(powers) for x in powers]
        found.append(math.log(len(p)) + sum(x * math.log(x) for x in p))
    return sum(found) / len(found)


def test_classes_by_a_loop() -> None:
    logits = logits_of(7, 4)
    found = certainty(logits, torch.zeros(7, dtype=torch.long))
    assert float(found) == pytest.approx(by_loop(logits), abs=1e-12)
    assert float(certainty(torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))) == 0


def test_tags_count_labelled_pieces_only() -> None:
    logits, labels = logits_of(2, 3, 4), torch.tensor([[-100, 0, 2], [1, -100, -100]])
    real = torch.stack([logits[0, 1], logits[0, 2], logits[1, 0]])
    assert float(certainty(logits, labels)) == pytest.approx(by_loop(real), abs=1e-12)


def test_flags_are_answers_of_their_own() -> None:
    logits = logits_of(3, 5)
    pairs = torch.stack([logits, torch.zeros_like(logits)], dim=-1).reshape(-1, 2)
    assert float(certainty(logits, torch.zeros(3, 5))) == pytest.approx(by_loop(pairs), abs=1e-12)


def test_twenty_steps_are_those_of_a_loop() -> None:
    """Softmax regression by gradient descent: d KL / d logit_k = p_k (log p_k - sum p log p)."""
    random, beta, rate = torch.Generator().manual_seed(0), 0.3, 0.5
    x = torch.randn(12, 5, generator=random, dtype=torch.float64)
    y = torch.randint(0, 3, (12,), generator=random)
    weight = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    own = [[0.0] * 3 for _ in range(5)]
    for _ in range(20):
        logits = x @ weight
        loss = torch.nn.functional.cross_entropy(logits, y) + beta * certainty(logits, y)
        (gradient,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            weight -= rate * gradient
        change = [[0.0] * 3 for _ in range(5)]
        for row, label in zip(x.tolist(), y.tolist(), strict=True):
            z = [sum(row[i] * own[i][k] for i in range(5)) for k in range(3)]
            p = [math.exp(v) / sum(map(math.exp, z)) for v in z]
            mean = sum(v * math.log(v) for v in p)
            for k in range(3):
                slope = p[k] - (k == label) + beta * p[k] * (math.log(p[k]) - mean)
                for i in range(5):
                    change[i][k] += row[i] * slope / 12
        own = [[own[i][k] - rate * change[i][k] for k in range(3)] for i in range(5)]
    assert torch.allclose(weight, torch.tensor(own, dtype=torch.float64), rtol=0, atol=1e-6)


def test_it_reaches_the_training(make_assembly: Make) -> None:
    found = make_assembly("task=gad", "technique=cpr", "technique.cpr.beta=0.5").built.loss
    plain = make_assembly("task=gad").built.loss
    logits, batch = logits_of(4, 2), {"labels": torch.tensor([0, 1, 1, 0])}
    expected = float(plain(logits, batch)) + 0.5 * by_loop(logits)
    assert float(found(logits, batch)) == pytest.approx(expected, abs=1e-12)


def test_a_number_has_no_entropy(make_assembly: Make) -> None:
    with pytest.raises(ConfigError, match="predicts a number, which has no entropy"):
        make_assembly("task=biosses", "technique=cpr")
    assert Cpr(beta=0.0).is_neutral()

"""Divergences between two passes against closed forms and torch's own losses."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from bluestab.models.divergences import (  # noqa: E402
    divergence,
    kind_of,
    squared_difference,
    symmetric_bernoulli_kl,
    symmetric_kl,
)
from tests.support.linear_toy import float64, random_logits  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def test_symmetric_kl_by_hand() -> None:
    """p = (1/2, 1/2), q = (9/10, 1/10)."""
    expected = (
        0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
        + 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    )  # fmt: skip
    one, other = float64([7.0, 7.0]), float64([math.log(9.0), 0.0])
    assert symmetric_kl(one, other).item() == pytest.approx(expected, rel=1e-14)


def test_symmetric_kl_is_torch_s() -> None:
    from torch.distributions import Categorical, kl_divergence

    one, other = random_logits(5, 4, seed=1), random_logits(5, 4, seed=2)
    p, q = Categorical(logits=one), Categorical(logits=other)
    expected = kl_divergence(p, q) + kl_divergence(q, p)
    assert torch.allclose(symmetric_kl(one, other), expected, rtol=1e-12)


def test_bernoulli_and_regression_are_torch_s() -> None:
    from torch.distributions import Bernoulli, Normal, kl_divergence

    one, other = random_logits(5, 4, seed=1), random_logits(5, 4, seed=2)
    p, q = Bernoulli(logits=one), Bernoulli(logits=other)
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).sum(dim=-1)
    assert torch.allclose(symmetric_bernoulli_kl(one, other), expected, rtol=1e-12)
    a, b = one[:, :1], other[:, :1]
    r, s = Normal(a, 1.0), Normal(b, 1.0)
    expected = (kl_divergence(r, s) + kl_divergence(s, r)).squeeze(-1)
    assert torch.allclose(squared_difference(a, b), expected, rtol=1e-12)


def test_two_classes_are_one_decision() -> None:
    one, other = random_logits(6, 1, seed=3), random_logits(6, 1, seed=4)
    as_classes = [torch.cat([a, torch.zeros_like(a)], dim=1) for a in (one, other)]
    assert torch.allclose(symmetric_kl(*as_classes), symmetric_bernoulli_kl(one, other), rtol=1e-12)


HEADS = {
    "classification": ((5, 3), torch.tensor([0, 1, 2, 0, 1])),
    "multi_label": ((5, 3), torch.ones(5, 3)),
    "regression": ((5, 1), torch.ones(5)),
    "tagging": ((2, 4, 3), torch.tensor([[0, 1, -100, -100], [2, -100, 1, 0]])),
}


@pytest.mark.parametrize("kind", HEADS)
def test_divergence_of_every_head(kind: str) -> None:
    shape, labels = HEADS[kind]
    one, other = random_logits(*shape, seed=5), random_logits(*shape, seed=6)
    assert kind_of(one, labels) == kind
    apart = divergence(one, other, labels)
    assert apart.dtype == torch.float64
    assert apart.shape == ()
    assert apart > 0
    assert divergence(other, one, labels).item() == pytest.approx(apart.item(), rel=1e-14)
    assert divergence(one, one, labels).item() == 0
    one.requires_grad_()
    other.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: divergence(a, b, labels), (one, other))
    if kind == "classification":
        assert torch.allclose(apart, symmetric_kl(one, other).sum() / 5)
    if kind == "multi_label":
        assert torch.allclose(apart, symmetric_bernoulli_kl(one, other).sum() / 5)
    if kind == "regression":
        assert torch.allclose(apart, ((one - other) ** 2).sum() / 5)
    if kind == "tagging":
        kept = [(0, 0), (0, 1), (1, 0), (1, 2), (1, 3)]
        expected = sum(symmetric_kl(one[i], other[i]) for i in kept) / 5
        assert torch.allclose(apart, expected)


@pytest.mark.parametrize("kind", HEADS)
def test_divergences_are_float32_and_finite(kind: str) -> None:
    shape, labels = HEADS[kind]
    one, other = random_logits(*shape, seed=5), random_logits(*shape, seed=6)
    half = divergence(one.bfloat16(), other.bfloat16(), labels)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(divergence(one, other, labels).item(), rel=0.05)
    far = divergence((1e4 * one).float(), (-1e4 * one).float(), labels)
    assert torch.isfinite(far)


def test_shares_of_micro_batches_sum_up() -> None:
    from bluestab.training.loop.micro_batches import counted_items, counted_labels, micro_batches

    for kind, (shape, labels) in HEADS.items():
        one, other = random_logits(*shape, seed=5), random_logits(*shape, seed=6)
        mask = torch.ones((len(labels), 1 if labels.dim() == 1 else labels.shape[1]))
        batch = {"labels": labels, "items": torch.arange(len(labels)), "attention_mask": mask}
        batch |= {"one": one, "other": other}
        count = counted_labels if kind == "tagging" else counted_items
        parts = micro_batches(batch, 1, count)
        assert len(parts) == len(labels)
        total = sum(w * divergence(p["one"], p["other"], p["labels"]) for w, p in parts)
        assert torch.allclose(total, divergence(one, other, labels))

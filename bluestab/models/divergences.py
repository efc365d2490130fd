"""How far two sets of logits of the same inputs lie apart, for every kind of head.

Techniques that want a network to answer alike under two draws of dropout, or under a little noise,
all need this one number. Which kind of head it is follows from the labels, as in transformers. The
kinds agree with each other: the squared difference of two numbers is what the symmetric KL gives
for two normal distributions of variance 1 around them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from bluestab.core.types import IGNORED

if TYPE_CHECKING:
    import torch

Kind = Literal["classification", "multi_label", "regression", "tagging"]


def kind_of(logits: torch.Tensor, labels: torch.Tensor) -> Kind:
    """The kind of head: logits (B, T, C), or (B, C) with labels (B,) or (B, C)."""
    if logits.ndim == 3:
        return "tagging"
    if not labels.is_floating_point():
        return "classification"
    return "multi_label" if labels.ndim == 2 else "regression"


def symmetric_kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """KL(p, q) + KL(q, p) of the softmaxes p and q of logits (..., C): shape (...), >= 0."""
    log_p, log_q = one.log_softmax(dim=-1), other.log_softmax(dim=-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1)


def symmetric_bernoulli_kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The same for independent yes-or-no decisions, summed over the last axis.

    With p and q the sigmoids of logits a and b it is (p - q) (a - b): nothing overflows.
    """
    return ((one.sigmoid() - other.sigmoid()) * (one - other)).sum(dim=-1)


def squared_difference(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(a - b) ** 2, summed over the last axis."""
    return ((one - other) ** 2).sum(dim=-1)


MEASURES: Mapping[Kind, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "classification": symmetric_kl,
    "multi_label": symmetric_bernoulli_kl,
    "regression": squared_difference,
    "tagging": symmetric_kl,
}


def divergence(one: torch.Tensor, other: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean divergence per item, or per labelled word piece: a scalar >= 0, float32 at least.

    It is a mean over what the loss is a mean over, so that micro-batches weigh it rightly.

    one, other  logits of the same inputs, (B, C) or (B, T, C)
    labels      of the batch: (B,), (B, C), or (B, T) with -100 where nothing counts
    """
    import torch

    kind = kind_of(one, labels)
    exact = torch.promote_types(one.dtype, torch.float32)
    one, other = one.to(exact), other.to(exact)
    if kind == "tagging":
        counts = labels != IGNORED
        one, other = one[counts], other[counts]
    return MEASURES[kind](one, other).mean()

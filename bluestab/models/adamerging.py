"""Coefficients of task vectors, one per member and tensor, that make answers sure of themselves.

Formula   w = start + sum_k c_k (w_k - start) per tensor, c_k in [0, 1]. The c_k minimise the sum
          over tasks of the mean entropy of the answers to texts without labels, by Adam.
Source    Yang et al. 2024 (AdaMerging, arXiv 2310.02575), layer-wise: in their code a layer is a
          tensor. Settings theirs: c = 0.3 at the start, lr 1e-3, 500 steps of 16 texts per task.
Against   Low entropy is no accuracy: an answer that is sure of one class has none. Coefficients
          fitted to test texts make the score on them transductive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bluestab.core.types import IGNORED, Batch
from bluestab.models.merging import State
from bluestab.models.passes import inputs_of

if TYPE_CHECKING:
    import torch
    from torch import nn

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class UnlabelledTask:
    """A network with the head of its task, and texts without end.

    activation  that of its answers
    batches     of texts; of `labels` only where there is one (a word's first piece) is read
    """

    network: nn.Module
    activation: Literal["softmax", "sigmoid"]
    batches: Iterator[Batch]

    def entropy(self, weights: State) -> torch.Tensor:
        """The mean over the answers to the next batch, in nats, with these weights in place."""
        from torch.func import functional_call

        batch = next(self.batches)
        out = functional_call(self.network, dict(weights), (), inputs_of(batch)).logits
        labels = batch["labels"]
        if out.ndim == 3:
            out = out[labels != IGNORED]
        return entropy(out, self.activation).mean()


def entropy(logits: torch.Tensor, activation: Literal["softmax", "sigmoid"]) -> torch.Tensor:
    """Of each row of (R, C): of its class, or summed over its labels, (R,)."""
    from torch.nn import functional

    if activation == "softmax":
        log = logits.log_softmax(dim=-1)
        return -(log.exp() * log).sum(dim=-1)
    yes, no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    return -(yes.exp() * yes + no.exp() * no).sum(dim=-1)


def combined(start: State, vectors: Sequence[State], c: torch.Tensor) -> dict[str, torch.Tensor]:
    """start + sum over members of c (members, tensors) times their task vectors."""
    return {
        name: value + sum(c[k, i] * vector[name] for k, vector in enumerate(vectors))
        for i, (name, value) in enumerate(start.items())
    }


def adamerge(
    start: State,
    members: Sequence[State],
    tasks: Sequence[UnlabelledTask],
    *,
    initial: float,
    steps: int,
) -> tuple[dict[str, torch.Tensor], Mapping[str, list[float]]]:
    """The merged weights, and per tensor the coefficient of each member."""
    import torch

    vectors = [{n: m[n] - value for n, value in start.items()} for m in members]
    some = next(iter(start.values()))
    c = torch.full((len(members), len(start)), initial, dtype=some.dtype, device=some.device)
    c.requires_grad_()
    optimizer = torch.optim.Adam([c], lr=LEARNING_RATE)
    was = [task.network.training for task in tasks]
    for task in tasks:
        task.network.eval()
    for _ in range(steps):
        weights = combined(start, vectors, c)
        loss = sum(task.entropy(weights) for task in tasks)
        (c.grad,) = torch.autograd.grad(loss, [c])  # type: ignore[arg-type]
        optimizer.step()
        with torch.no_grad():
            c.clamp_(0.0, 1.0)
    for task, training in zip(tasks, was, strict=True):
        task.network.train(training)
    found = c.detach()
    said = dict(zip(start, found.T.tolist(), strict=True))
    return combined(start, vectors, found), said

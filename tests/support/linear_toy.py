"""A network so small that what R-Drop, R3F, SMART and FreeLB must find can be written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bluestab.core.types import StepOutput
from bluestab.models.built import Built


def float64(*values: Any) -> Any:
    return torch.tensor(values, dtype=torch.float64)


def random_logits(*shape: int, seed: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Toy(torch.nn.Module):
    """The sum over real word pieces of e . w, or a little more of it: a number per item."""

    def __init__(self, curved: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(6, 2, dtype=torch.float64)
        self.w = torch.nn.Parameter(float64(0.5, -2.0))
        self.dropout = torch.nn.Dropout(dropout)
        self.curved = curved
        with torch.no_grad():
            self.table.weight.copy_(random_logits(6, 2, seed=8))

    def get_input_embeddings(self) -> Any:
        return self.table

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        sums = (self.table(input_ids) * attention_mask.unsqueeze(-1)).sum(dim=1)
        out = self.dropout(sums) @ self.w
        return (out.tanh() + out**2 if self.curved else out).unsqueeze(-1)


BATCH = {
    "input_ids": torch.tensor([[1, 2, 3], [4, 5, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
    "labels": torch.tensor([1.0, -1.0], dtype=torch.float64),
    "items": torch.arange(2),
}


@dataclass
class ByHand:
    """A toy network, its plain step, and what techniques are told of it."""

    toy: Toy
    calls: int = 0

    def step(self, batch: Any) -> StepOutput:
        self.calls += 1
        logits = self.toy(batch["input_ids"], batch["attention_mask"])
        return StepOutput(((logits.squeeze(-1) - batch["labels"]) ** 2).mean(), logits)

    def wrapped(self, technique: Any) -> Any:
        return technique.wrap_step(self.step, self.built())

    def built(self) -> Built:
        return Built(self.toy, None, frozenset(), {}, None, None)  # type: ignore[arg-type]

    def gradients(self, loss: Any) -> list[Any]:
        weights = [self.toy.table.weight, self.toy.w]
        return list(torch.autograd.grad(loss, weights, retain_graph=True))


def same(one: list[Any], other: list[Any]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(one, other, strict=True))

"""AdaMerging against ten steps written down in float64."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.models.adamerging import UnlabelledTask, adamerge, entropy  # noqa: E402
from bluestab.models.merging import task_arithmetic  # noqa: E402

F64 = torch.float64


class Answers(torch.nn.Module):
    """A matrix that is merged, and a head of its own."""

    def __init__(self, seed: int, words: bool) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.shared = torch.nn.Linear(3, 4, bias=False, dtype=F64)
        self.head = torch.nn.Linear(4, 2, dtype=F64)
        self.words = words

    def forward(self, input_ids: Any) -> Any:
        return SimpleNamespace(logits=self.head(self.shared(input_ids)))


def batches(seed: int, words: bool) -> list[dict[str, Any]]:
    random = torch.Generator().manual_seed(seed)
    shape = (5, 2, 3) if words else (5, 3)
    found = []
    for _ in range(3):
        labels = torch.tensor([[0, -100]] * 5) if words else torch.zeros(5, dtype=torch.long)
        x = torch.randn(shape, generator=random, dtype=F64)
        found.append({"input_ids": x, "labels": labels, "items": torch.arange(5)})
    return found


def test_ten_steps_by_hand() -> None:
    """Texts and words; what is no word's first piece has no part; coefficients stay in [0, 1]."""
    networks = [Answers(0, False), Answers(1, True)]
    given = [batches(2, False), batches(3, True)]
    tasks = [
        UnlabelledTask(network, kind, itertools.cycle(own))
        for network, kind, own in zip(networks, ("softmax", "sigmoid"), given, strict=True)
    ]
    random = torch.Generator().manual_seed(9)
    start = {"shared.weight": torch.randn(4, 3, generator=random, dtype=F64)}
    members = [{"shared.weight": n.shared.weight.detach()} for n in networks]
    begin = 0.995  # so that the border is met
    merged, said = adamerge(start, members, tasks, initial=begin, steps=10)

    a, b = ((m["shared.weight"] - start["shared.weight"]) for m in members)
    c, m, v = (
        torch.full((2,), begin, dtype=F64),
        torch.zeros(2, dtype=F64),
        torch.zeros(2, dtype=F64),
    )
    for t in range(10):
        leaf = c.clone().requires_grad_()
        w = start["shared.weight"] + leaf[0] * a + leaf[1] * b
        p = given[0][t % 3]["input_ids"] @ w.T @ networks[0].head.weight.T + networks[0].head.bias
        p = p.softmax(-1)
        loss = -(p * p.log()).sum(-1).mean()
        x = given[1][t % 3]["input_ids"][:, 0]
        q = (x @ w.T @ networks[1].head.weight.T + networks[1].head.bias).sigmoid()
        loss = loss - (q * q.log() + (1 - q) * (1 - q).log()).sum(-1).mean()
        (g,) = torch.autograd.grad(loss, leaf)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = (m / (1 - 0.9 ** (t + 1))) / ((v / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
        c = (c - 1e-3 * step).clamp(0, 1)
    assert said["shared.weight"] == pytest.approx(c.tolist(), rel=1e-10)
    assert any(value != begin for value in said["shared.weight"])
    want = start["shared.weight"] + c[0] * a + c[1] * b
    torch.testing.assert_close(merged["shared.weight"], want)
    assert networks[0].head.weight.grad is None


def test_without_steps_it_is_task_arithmetic() -> None:
    start = {"w": torch.tensor([1.0, 2.0], dtype=F64)}
    members = [
        {"w": torch.tensor([2.0, 2.0], dtype=F64)},
        {"w": torch.tensor([1.0, 4.0], dtype=F64)},
    ]
    merged, said = adamerge(start, members, [], initial=0.3, steps=0)
    torch.testing.assert_close(merged["w"], task_arithmetic(start, members, 0.3)["w"])
    assert said == {"w": [0.3, 0.3]}


def test_entropies_by_hand() -> None:
    assert entropy(torch.zeros(1, 4), "softmax").tolist() == pytest.approx([1.386294])
    assert entropy(torch.zeros(1, 3), "sigmoid").tolist() == pytest.approx([3 * 0.693147])
    assert entropy(torch.tensor([[200.0, -200.0]]), "softmax").tolist() == [0.0]
    assert entropy(torch.tensor([[200.0, -200.0]]), "sigmoid").tolist() == [0.0]

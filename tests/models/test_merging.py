"""Merging against closed forms: by hand, and against least squares of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bluestab.models.curvature import InputFactor  # noqa: E402
from bluestab.models.fisher import input_factors  # noqa: E402
from bluestab.models.merging import mean, regmean, task_arithmetic, ties  # noqa: E402


def state(*values: float) -> dict[str, Any]:
    return {"w": torch.tensor(values)}


def test_ties_by_hand() -> None:
    """Trim to 2 of 5 entries, elect signs, average what agrees; then half of it is added."""
    start = state(1.0, 1.0, 1.0, 1.0, 1.0)
    a = state(5.0, -2.0, 1.5, 1.0, 1.0)  # adds 4, -3, 0.5, 0, 0
    b = state(-1.0, -4.0, 1.0, 1.25, 1.0)  # adds -2, -5, 0, 0.25, 0
    c = state(1.5, 1.0, 7.0, 1.0, 3.0)  # adds 0.5, 0, 6, 0, 2
    # after trimming: (4, -3, 0, 0, 0), (-2, -5, 0, 0, 0), (0, 0, 6, 0, 2)
    # signs of the sums: +, -, +, none, +; means of what agrees: 4, -4, 6, 0, 2
    found = ties(start, [a, b, c], 0.5, 0.4)["w"]
    assert found.tolist() == [3.0, -1.0, 4.0, 1.0, 2.0]


def test_ties_trims_over_all_tensors_together() -> None:
    start = {"u": torch.zeros(2), "v": torch.zeros(2)}
    member = {"u": torch.tensor([1.0, 2.0]), "v": torch.tensor([3.0, -4.0])}
    found = ties(start, [member], 1.0, 0.5)
    assert found["u"].tolist() == [0.0, 0.0]
    assert found["v"].tolist() == [3.0, -4.0]


def test_where_signs_cancel_the_majority_decides() -> None:
    """+2 and -2 cancel in the first weight; the others are positive, so it gets +2."""
    found = ties(state(0.0, 0.0, 0.0), [state(2.0, 3.0, 1.0), state(-2.0, 3.0, 1.0)], 1.0, 1.0)
    assert found["w"].tolist() == [2.0, 3.0, 1.0]


def test_task_arithmetic_goes_from_the_start_over_the_mean() -> None:
    start, members = state(1.0, 0.0), [state(2.0, 0.0), state(1.0, 4.0)]
    assert torch.equal(task_arithmetic(start, members, 0.0)["w"], start["w"])
    assert torch.equal(task_arithmetic(start, members, 0.5)["w"], mean(members)["w"])
    assert task_arithmetic(start, members, 1.0)["w"].tolist() == [2.0, 4.0]


def test_the_mean_leaves_integers() -> None:
    found = mean([{"n": torch.tensor([1, 2])}, {"n": torch.tensor([1, 2])}])
    assert torch.equal(found["n"], torch.tensor([1, 2]))


class Maps(torch.nn.Module):
    """A word's vector and a linear map of it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words = torch.nn.Embedding(7, 4)
        self.map = torch.nn.Linear(4, 3)

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.map(self.words(input_ids))


def test_factors_of_many_items_at_once_are_those_of_each() -> None:
    """Positions, which are looked up once for all items, count for each of them."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12}
    network = BertForSequenceClassification(
        BertConfig(vocab_size=50, num_hidden_layers=2, max_position_embeddings=16, **sizes)
    ).double()
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (9, 12), generator=random)
    mask = (torch.arange(12) < 3 + torch.arange(9)[:, None]).long()
    batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.zeros(9)}
    names = dict(network.named_parameters())
    together = input_factors(network, names, [batch])
    alone = input_factors(
        network, names, [{n: v[i : i + 1] for n, v in batch.items()} for i in range(9)]
    )
    assert len(together) == len(alone) > 10
    for one, other in zip(together, alone, strict=True):
        assert one.weight == other.weight
        torch.testing.assert_close(one.a, other.a)


def test_regmean_is_least_squares() -> None:
    """The factors are those that a network sees, padding left out; the fit is numpy's, and the
    plain mean fits worse."""
    networks = [Maps(0).double(), Maps(1).double()]
    inputs, factors = [], []
    for seed, network in enumerate(networks):
        random = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, 7, (20, 5), generator=random)
        mask = (torch.arange(5) < torch.arange(20)[:, None] % 5 + 1).long()
        batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.zeros(20)}
        factors.append(input_factors(network, dict(network.named_parameters()), [batch]))
        inputs.append(network.words(ids)[mask.bool()].detach().numpy())
    states = [dict(network.named_parameters()) for network in networks]
    found = regmean(states, factors, 1.0)
    # the sum over members of the MEAN squared error: rows are weighted by 1 / sqrt(rows)
    own = [np.c_[x, np.ones(len(x))] / np.sqrt(len(x)) for x in inputs]
    want = [
        a @ np.c_[n.map.weight.detach().numpy(), n.map.bias.detach().numpy()].T
        for a, n in zip(own, networks, strict=True)
    ]
    solved = np.linalg.lstsq(np.concatenate(own), np.concatenate(want), rcond=None)[0].T
    assert found["map.weight"].detach().numpy() == pytest.approx(solved[:, :-1], abs=1e-9)
    assert found["map.bias"].detach().numpy() == pytest.approx(solved[:, -1], abs=1e-9)
    weights = [torch.bincount(torch.as_tensor(_ids(seed)), minlength=7) for seed in (0, 1)]
    shares = [w / w.sum() for w in weights]
    rows = sum(s[:, None] * n.words.weight for s, n in zip(shares, networks, strict=True))
    want_rows = (rows / sum(shares)[:, None]).detach()
    assert torch.allclose(found["words.weight"].detach(), want_rows)


def _ids(seed: int) -> list[int]:
    """The word pieces of `test_regmean_is_least_squares`, without padding."""
    ids = torch.randint(0, 7, (20, 5), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(5) < torch.arange(20)[:, None] % 5 + 1
    return ids[mask].tolist()  # type: ignore[no-any-return]


def test_directions_without_inputs_keep_the_mean() -> None:
    """One input, (1, 0, 0): the first column is fitted to it, the others are the mean."""
    a = torch.zeros(3, 3).double()
    a[0, 0] = 1.0
    members = [{"l.weight": torch.ones(1, 3)}, {"l.weight": torch.full((1, 3), 3.0)}]
    factors = [[InputFactor("l.weight", None, share * a)] for share in (1.0, 3.0)]
    assert regmean(members, factors, 1.0)["l.weight"].tolist() == [[2.5, 2.0, 2.0]]
    rows = {"e.weight": torch.tensor([[1.0], [5.0]])}, {"e.weight": torch.tensor([[3.0], [7.0]])}
    counts = [[InputFactor("e.weight", None, torch.tensor([3.0, 0.0]))] for _ in rows]
    assert regmean(rows, counts, 1.0)["e.weight"].tolist() == [[2.0], [6.0]]

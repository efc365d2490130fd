"""Masks from SFC64: the law of dropout, and the same masks wherever torch's stream is put back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from bluestab.core.seeding import restore_torch_streams, torch_streams
from bluestab.training.loop.dropout_masks import LEVELS, Sfc64Dropout, kept

CPU = torch.device("cpu")


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_units_are_dropped_with_their_share_and_no_pattern(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mask = kept((999, 1001), round(p * LEVELS), torch.empty(0, dtype=dtype)).float()
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    n, std = mask.numel(), (p * (1 - p)) ** 0.5
    assert abs(mask.mean() - (1 - p)) < 5 * std / n**0.5
    centred = (mask - (1 - p)) / std
    for one, other in ((centred[:-1], centred[1:]), (centred[:, :-1], centred[:, 1:])):
        assert abs((one * other).mean()) < 5 / n**0.5, "neighbours are independent"
    for means in (centred.mean(dim=0), centred.mean(dim=1)):
        assert abs(float(means.std()) * 1000**0.5 - 1) < 0.12, "rows and columns, too"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_stays_is_scaled_and_its_gradient_alike(dtype: torch.dtype) -> None:
    values = torch.ones(2000, dtype=dtype, requires_grad=True)
    with Sfc64Dropout():
        found = nn.Dropout(0.25)(values)
    found.sum().backward()
    assert set(found.tolist()) == {0.0, float(torch.tensor(4 / 3, dtype=dtype))}
    assert torch.equal(values.grad, found.detach())


def test_only_training_drops() -> None:
    values = torch.randn(50, 4)
    with Sfc64Dropout():
        for same in (nn.Dropout(0.5).eval()(values), functional.dropout(values, 0.0)):
            assert torch.equal(same, values)
        assert not functional.dropout(values, 1.0).any()
        own = values.clone()
        functional.dropout(own, 0.5, inplace=True)
        assert (own == 0).any()


def test_the_stream_of_torch_decides() -> None:
    values = torch.ones(100, 10)
    torch.manual_seed(5)
    start = torch_streams(CPU)
    with Sfc64Dropout():
        first, second = (functional.dropout(values, 0.3) for _ in range(2))
        restore_torch_streams(start, CPU)
        assert torch.equal(functional.dropout(values, 0.3), first)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert not torch.equal(functional.dropout(values, 0.3), first), "outside it is torch's own"

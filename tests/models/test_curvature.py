"""Blocks of curvature in float64; `test_fisher.py` has those that are estimated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.models.curvature import Curvature, KroneckerBlock, LookupBlock  # noqa: E402

F64 = torch.float64


def test_rows_that_were_never_looked_up_are_free() -> None:
    a, g, change = (torch.rand(shape, dtype=F64) for shape in ((7,), (4, 4), (7, 4)))
    a[[0, 3, 6]] = 0.0
    found = LookupBlock("table.weight", a, g).times({"table.weight": change})["table.weight"]
    torch.testing.assert_close(found, a[:, None] * (change @ g), rtol=1e-12, atol=0)
    assert not found[[0, 3, 6]].any()


def test_identity_factors_are_l2() -> None:
    random = torch.Generator().manual_seed(5)
    shapes = {"inner.weight": (4, 4), "inner.bias": (4,), "table.weight": (7, 4)}
    delta = {n: torch.randn(s, generator=random, dtype=F64) for n, s in shapes.items()}
    eye: Callable[[int], Any] = partial(torch.eye, dtype=F64)
    identity = Curvature(
        (
            KroneckerBlock("inner.weight", "inner.bias", eye(5), eye(4)),
            LookupBlock("table.weight", torch.ones(7, dtype=F64), eye(4)),
        )
    )  # fmt: skip
    for name, value in identity.times(delta).items():
        assert torch.equal(value, delta[name])
    assert identity.half_quadratic(delta) == pytest.approx(
        0.5 * sum(float((d**2).sum()) for d in delta.values())
    )
    for scaled in (identity.scaled(7.0), identity.scaled(1e-5)):
        for name, value in scaled.normalised(delta).times(delta).items():
            torch.testing.assert_close(value, delta[name], rtol=1e-12, atol=0)

"""Layer-wise decay of learning rates in ULMFiT's convention."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.techniques.llrd import multiplier
from bluestab.testing.laboratory import Lab
from bluestab.testing.technique_arms import chosen
from tests.support.eleven_numbers import refusals

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def test_llrd_ulmfit() -> None:
    for n_layers in (2, 12):
        rates = [multiplier(d, n_layers, None, "ulmfit") for d in range(n_layers + 2)]
        assert rates[-1] == 1.0
        for below, above in itertools.pairwise(rates):
            assert above / below == pytest.approx(2.6, rel=1e-12)


def test_llrd_ulmfit_wants_no_decay(make_run: Make) -> None:
    ulmfit = ("technique=llrd", "technique.llrd.convention=ulmfit")
    (problem,) = refusals(make_run, *ulmfit)
    assert "technique.llrd.decay=null" in problem
    assert make_run("task=biosses", "model=tiny", *ulmfit, "technique.llrd.decay=null")
    (problem,) = refusals(make_run, "technique=llrd", "technique.llrd.decay=null")
    assert "technique.llrd.decay is None" in problem


def test_llrd_ulmfit_trains(lab: Lab) -> None:
    knobs = {"llrd__convention": "ulmfit", "llrd__decay": None}
    assembly, _ = lab.trained("gad", "tiny", *chosen("llrd", **knobs))
    by_depth = assembly.effects()["llrd"]["lr_multiplier_by_depth"]
    assert by_depth == {str(d): pytest.approx(2.6 ** (d - 3)) for d in range(4)}

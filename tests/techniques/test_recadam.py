"""RecAdam: its schedule, its steps by hand, and what it recalls in a real run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bluestab.techniques import recadam  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.support.eleven_numbers import (  # noqa: E402
    BIAS,
    HEAD,
    OPTIM,
    adam,
    close,
    gradients,
    network,
    refusals,
    trained_by_hand,
)

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def test_recadam_schedule() -> None:
    for step, k, t0 in [(1, 0.1, 250), (250, 0.1, 250), (251, 1.0, 250), (400, 0.05, 250)]:
        assert recadam.task_share(step, k, t0) == pytest.approx(
            1 / (1 + math.exp(-k * (step - t0))), rel=1e-9
        )
    assert recadam.task_share(250, 0.5, 250) == 0.5
    assert recadam.task_share(1, 1.0, 10_000) == 0.0, "no overflow"
    assert recadam.task_share(10_000, 1.0, 1) == 1.0
    assert recadam.middle(0.25, 80) == 20
    assert recadam.middle(250, 80) == 250
    assert recadam.middle(0, 80) == 0


def test_recadam_by_hand() -> None:
    """The published order: task's step scaled by the share, then recall, then weight decay."""
    technique = recadam.RecAdam(gamma=20.0, k=0.7, t0=4)
    weights, built, optimizer = trained_by_hand(technique, 12, gradients)
    model, lr, wd = network(), OPTIM["lr"], OPTIM["wd"]
    expected = {}
    for name, parameter in model.named_parameters():
        w, given = parameter.detach().clone(), []
        for t in range(1, 13):
            given.append(gradients(model, t - 1)[name])
            if name == HEAD:  # plain AdamW
                w = w - lr * wd * w
                w = w - lr * adam(given)
                continue
            share = 1 / (1 + math.exp(-0.7 * (t - 4)))
            w = w - lr * share * adam(given)
            w = w - lr * (1 - share) * 20.0 * (w - built.reference[name])
            if name != BIAS:
                w = w - lr * wd * w
        expected[name] = w
    close(weights, expected)
    assert {group["lr"] for group in optimizer.param_groups} == {lr}, "put back after each step"
    held = [name for group in optimizer.param_groups for name in group["names"]]
    assert sorted(held) == sorted(weights)


def test_recadam_divides_groups_that_hold_both() -> None:
    a, b, c = (nn.Parameter(torch.zeros(1)) for _ in "abc")
    optimizer = torch.optim.AdamW(
        [{"params": [a, b], "names": ["a", "b"], "depth": 3}, {"params": [c], "names": ["c"]}]
    )
    recadam.divide_groups(optimizer, {"b", "c"})
    assert [group["names"] for group in optimizer.param_groups] == [["b"], ["a"], ["c"]]
    assert [group["params"] for group in optimizer.param_groups] == [[b], [a], [c]]
    assert [group.get("depth") for group in optimizer.param_groups] == [3, 3, None]


def test_recadam_recalls_the_pooler_and_not_the_head(lab: Lab) -> None:
    """Both are at the same depth, in one group of plain training."""
    knobs = {"recadam__t0": 1000, "recadam__gamma": 900}  # nothing but recall
    _, seen = lab.trained("biosses", "tiny", *chosen("recadam", **knobs))
    plain = lab.trained("biosses", "tiny", "technique=none")[1]

    def moved(witness: Any, name: str) -> float:
        return float((witness.end[name] - witness.start[name]).norm())

    pooler = "bert.pooler.dense.weight"
    assert moved(seen, pooler) < 0.2 * moved(plain, pooler)
    assert moved(seen, HEAD) > 0.5 * moved(plain, HEAD)


def test_recadam_refuses_to_jump(make_run: Make) -> None:
    (problem,) = refusals(make_run, "technique=recadam", "optim.lr=1e-3")
    assert "technique.recadam.gamma is 5000" in problem
    assert "at most 1000" in problem
    assert make_run("task=biosses", "model=tiny", "technique=recadam", "optim.lr=2e-4")

"""The plan: edits commute, never change a plan in place, and compile to groups that partition."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bluestab.models.layers import layer_map
from bluestab.models.param_plan import ParamPlan, Rule, base_plan, param_groups
from bluestab.techniques.llrd import multiplier

SHAPES = {
    "bert.embeddings.word.weight": (5, 4),
    "bert.embeddings.norm.weight": (4,),
    "bert.encoder.layer.0.dense.weight": (4, 4),
    "bert.encoder.layer.0.dense.bias": (4,),
    "bert.encoder.layer.1.dense.weight": (4, 4),
    "bert.encoder.layer.1.dense.bias": (4,),
    "classifier.weight": (2, 4),
    "classifier.bias": (2,),
}
NAMES = list(SHAPES)
PARAMETERS = {name: nn.Parameter(torch.zeros(shape)) for name, shape in SHAPES.items()}
LAYERS = layer_map(
    NAMES,
    encoder="bert",
    embeddings=["embeddings"],
    blocks="encoder.layer",
    above=[],
    n_layers=2,
)

Edit = Callable[[ParamPlan], ParamPlan]
freezing = st.lists(st.sampled_from(NAMES), unique=True).map(lambda n: lambda p: p.frozen(n))
undecaying = st.lists(st.sampled_from(NAMES), unique=True).map(lambda n: lambda p: p.undecayed(n))
scaling = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.0, 0.25, 0.5, 2.0])).map(
    lambda f: lambda p: p.scaled(f)
)


def test_matrices_decay_vectors_do_not() -> None:
    plan = base_plan(PARAMETERS, 0.01)
    assert list(plan) == NAMES
    for name, rule in plan.items():
        assert rule == Rule(1.0, 0.01 if len(SHAPES[name]) == 2 else 0.0, trainable=True)


@given(st.lists(freezing | scaling | undecaying, max_size=4))
def test_edits_commute(edits: list[Edit]) -> None:
    plans = []
    for order in itertools.permutations(edits):
        plan = base_plan(PARAMETERS, 0.01)
        for edit in order:
            plan = edit(plan)
        plans.append(dict(plan))
    assert all(plan == plans[0] for plan in plans)


def test_edits_return_a_new_plan() -> None:
    plan = base_plan(PARAMETERS, 0.01)
    plan.frozen(NAMES)
    plan.scaled(dict.fromkeys(NAMES, 0.5))
    assert {rule.weight_decay for rule in plan.undecayed(NAMES).values()} == {0.0}
    assert dict(plan) == dict(base_plan(PARAMETERS, 0.01))


def test_scales_multiply_and_frozen_stays_frozen() -> None:
    plan = base_plan(PARAMETERS, 0.01).scaled({NAMES[0]: 0.5}).frozen([NAMES[0]])
    plan = plan.scaled({NAMES[0]: 0.5}).frozen([])
    assert plan[NAMES[0]] == Rule(0.25, 0.01, trainable=False)
    assert plan[NAMES[1]] == Rule(1.0, 0.0, trainable=True)


@pytest.mark.parametrize(
    "edit", [lambda p: p.frozen(["bert.typo"]), lambda p: p.scaled({"bert.typo": 1.0})]
)
def test_an_unknown_name_is_an_error(edit: Edit) -> None:
    with pytest.raises(KeyError, match=r"no such parameter in the plan: bert\.typo"):
        edit(base_plan(PARAMETERS, 0.01))


@given(st.lists(freezing | scaling, max_size=4))
def test_groups_hold_every_trainable_parameter_once(edits: list[Edit]) -> None:
    plan = base_plan(PARAMETERS, 0.01)
    for edit in edits:
        plan = edit(plan)
    trainable = [name for name in NAMES if plan[name].trainable]
    if not trainable:
        with pytest.raises(ValueError, match="nothing is left to train"):
            param_groups(plan, PARAMETERS, LAYERS, 1e-3)
        return
    groups = param_groups(plan, PARAMETERS, LAYERS, 1e-3)
    held = [name for group in groups for name in group["names"]]
    assert sorted(held) == sorted(trainable)
    for group in groups:
        assert [id(PARAMETERS[n]) for n in group["names"]] == [id(p) for p in group["params"]]
        for name in group["names"]:
            rule = plan[name]
            assert group["lr"] == 1e-3 * rule.lr_scale
            assert (group["lr_scale"], group["weight_decay"], group["depth"]) == (
                rule.lr_scale,
                rule.weight_decay,
                LAYERS.depth[name],
            )
    slots = [(g["depth"], g["lr_scale"], g["weight_decay"]) for g in groups]
    assert len(slots) == len(set(slots)), "one group per layer, rate and decay, not per tensor"


def test_groups_suit_the_optimizer_and_follow_a_schedule() -> None:
    plan = base_plan(PARAMETERS, 0.01).scaled(dict.fromkeys(NAMES[:2], 0.5))
    optimizer = torch.optim.AdamW(param_groups(plan, PARAMETERS, LAYERS, 1e-3))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    assert [g["lr"] for g in optimizer.param_groups[:2]] == [5e-4, 5e-4]
    optimizer.step()
    schedule.step()
    assert {g["lr"] / g["lr_scale"] for g in optimizer.param_groups} == {5e-4}


def test_a_parameter_outside_the_plan_or_the_model_is_an_error() -> None:
    less = {name: PARAMETERS[name] for name in NAMES[1:]}
    with pytest.raises(ValueError, match="do not partition"):
        param_groups(base_plan(PARAMETERS, 0.01), less, LAYERS, 1e-3)
    with pytest.raises(KeyError):
        param_groups(base_plan(less, 0.01), PARAMETERS, LAYERS, 1e-3)


def test_layer_wise_decay_by_hand() -> None:
    """A base model: 12 blocks, 0.8; ELECTRA's code skips a level below the head."""
    zhang = [multiplier(depth, 12, 0.8, "zhang") for depth in range(14)]
    assert zhang[13] == 1.0
    assert zhang[12] == 0.8
    assert zhang[0] == pytest.approx(0.8**13)
    electra = [multiplier(depth, 12, 0.8, "electra") for depth in range(14)]
    assert electra[13] == 1.0
    assert electra[12] == pytest.approx(0.64)
    assert electra[0] == pytest.approx(0.8**14)
    for series in (zhang, electra):
        assert series == sorted(series)
    assert {multiplier(d, 12, 1.0, c) for d in range(14) for c in ("zhang", "electra")} == {1.0}

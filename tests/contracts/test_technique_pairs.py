"""Techniques together: every pair composes and keeps the contract, or is refused with a sentence.

What must not depend on the order of the list does not; what may, is counted in the summary.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from bluestab.core.errors import ConfigError
from bluestab.models.built import Built
from bluestab.models.param_plan import ParamPlan
from bluestab.techniques.base import Technique
from bluestab.testing.claimed_effects import agree, effects_problems
from bluestab.testing.laboratory import Lab
from bluestab.testing.observed_training import ObservedTraining, depth_of, equal_weights, weights
from bluestab.testing.technique_arms import HEADS, NAMES, chosen, overrides, refusal

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

PAIRS = list(itertools.combinations(NAMES, 2))

MUST = ("freeze", "llrd", "reinit", "mixout", "prior_decay", "ema", "rdrop", "train_only")
"""All pairs of these compose, none excepted."""

MAY_ORDER = ("edit_data", "wrap_step", "wrap_optimizer")
"""Moments at which one technique meets what another has made; at all others edits commute."""

MODES: dict[str, list[dict[str, Any]]] = {
    "child_tuning": [{"mode": "D"}, {"mode": "D", "fisher_batch": 1}],
    "ema": [{"warmup": "false"}],
    "freelb": [{"max_norm": None, "ascents": 2}],
    "freeze": [{"eval_mode": "false"}, {"embeddings": "false"}, {"depth": 2}],
    "llrd": [{"convention": "ulmfit", "decay": None}, {"convention": "electra"}],
    "mixout": [{"unit": "weight", "keep_dropout": "true"}],
    "prior_decay": [{"beta": 0.1}],
    "r3f": [{"same_dropout": "false", "noise": "normal"}],
    "recadam": [{"t0": 2}],
    "reinit": [{"layernorms_only": "true"}, {"pooler": "false"}],
    "sam": [{"adaptive": "true"}],
    "slimfit": [{"unit": "block", "moments": "drop"}, {"anneal": 0.5, "per_rate": "false"}],
    "smart": [{"proximal": 1, "steps": 2}],
    "swa": [{"rate": 0.5}],
    "thaw": [{"phases": 1}],
    "train_only": [{"parts": "[attention]", "patterns": "[word_embeddings]"}],
}
"""Technique -> knobs that make it another one."""


def mode(name: str, knobs: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}__{knob}": value for knob, value in knobs.items()}


def place_of(lab: Lab, *names: str) -> tuple[str, str]:
    """The first task that goes with each of these techniques."""
    for task in HEADS.values():
        if not any(refusal(lab, task, "tiny", *chosen(name)) for name in names):
            return task, "tiny"
    raise AssertionError(f"no task goes with {names}")


def same_end(one: ObservedTraining, other: ObservedTraining) -> bool:
    return equal_weights(one.end, other.end)


def assert_order_is_nothing(
    lab: Lab, one: tuple[Any, ObservedTraining], other: tuple[Any, ObservedTraining], ordered: bool
) -> bool:
    """Whether two orders of the same techniques gave the same bits, which they must unless they
    are `ordered`. Plan, start, batches and rates are the same always."""
    (first, seen), (second, turned) = one, other
    assert list(second.techniques) == list(reversed(first.techniques))
    assert dict(second.plan) == dict(first.plan)
    assert turned.batches == seen.batches
    assert turned.rates == seen.rates
    assert equal_weights(turned.start, seen.start)
    assert all(map(math.isfinite, turned.losses))
    equal = same_end(seen, turned)
    assert equal or ordered
    if equal:
        assert agree(second.effects(), first.effects())
    return equal


# --- pairs ---------------------------------------------------------------------------------------


def neighbours() -> set[tuple[str, str]]:
    """Pairs of which the fast tests train all: a ring through every technique, so that each meets
    two others."""
    ring = zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True)
    return {(one, other) if (one, other) in PAIRS else (other, one) for one, other in ring}


def pairs() -> Iterator[Any]:
    for pair in PAIRS:
        marks = [] if pair in neighbours() else pytest.mark.slow
        yield pytest.param(pair, marks=marks, id="-".join(pair))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_refusals_do_not_depend_on_the_order(lab: Lab, pair: tuple[str, str]) -> None:
    """Every pair, without a training: refused in both orders with a sentence that names both, or in
    none."""
    place = place_of(lab, *pair)
    refusals = [refusal(lab, *place, *chosen(*order)) for order in (pair, pair[::-1])]
    assert all(refusals) or not any(refusals)
    for refused in filter(None, refusals):
        assert all(name in refused for name in pair)
        assert len(refused.splitlines()) == 1
        assert not set(pair) <= set(MUST)


@pytest.mark.parametrize("pair", list(pairs()))
def test_pairs_compose_in_any_order_or_are_refused(
    lab: Lab, pair: tuple[str, str], record_property: Callable[[str, object], None]
) -> None:
    place = place_of(lab, *pair)
    refusals = [refusal(lab, *place, *chosen(*order)) for order in (pair, pair[::-1])]
    if any(refusals):
        assert all(name in refused for refused in refusals for name in pair)
        assert all(len(refused.splitlines()) == 1 for refused in refusals)
        assert not set(pair) <= set(MUST)
        record_property("technique pairs", f"refused: {refusals[0]}")
        return
    assembly, seen = lab.train_again(*place, *chosen(*pair))
    plain = lab.trained(*place, "technique=none")[1]
    assert all(map(math.isfinite, seen.losses))
    assert effects_problems(assembly.techniques, assembly.effects(), seen, plain) == []
    assert seen.batches == plain.batches
    for alone, other in (pair, pair[::-1]):
        assert not same_end(seen, lab.trained(*place, *chosen(alone))[1]), f"{other} does nothing"
    ordered = any(overrides(moment, *pair) for moment in MAY_ORDER)
    turned = lab.train_again(*place, *chosen(*reversed(pair)))
    equal = assert_order_is_nothing(lab, (assembly, seen), turned, ordered)
    record_property("technique pairs", "" if equal else f"the order matters: {', '.join(pair)}")


@pytest.mark.parametrize("task", HEADS.values())
def test_these_compose(lab: Lab, task: str) -> None:
    assert set(MUST) <= set(NAMES)
    for pair in itertools.combinations(MUST, 2):
        for model in ("tiny", "tiny_electra"):
            assert set(lab.run(task, model, *chosen(*pair)).techniques) == set(pair)


@pytest.mark.parametrize("head", HEADS)
def test_all_at_once(lab: Lab, head: str) -> None:
    place = (HEADS[head], "tiny_electra")
    plain = lab.trained(*place, "technique=none")[1]
    one, other = (lab.train_again(*place, *chosen(*names)) for names in (MUST, MUST[::-1]))
    assembly, seen = one
    assert effects_problems(assembly.techniques, assembly.effects(), seen, plain) == []
    assert assert_order_is_nothing(lab, one, other, ordered=False)
    _, spy, goes_on = lab.resumed(*place, *chosen(*MUST))
    assert spy.losses == seen.losses[2:]
    assert equal_weights(weights(goes_on.built.model), seen.end)


def test_three_in_any_order(lab: Lab) -> None:
    place = ("biosses", "tiny")
    plain = lab.trained(*place, "technique=none")[1]
    plans = []
    for names in itertools.permutations(("freeze", "llrd", "reinit")):
        assembly = lab.assembly(lab.run(*place, *chosen(*names)))
        plans.append(dict(assembly.plan))
    assert all(plan == plans[0] for plan in plans)
    assembly, seen = lab.trained(*place, *chosen("freeze", "llrd", "reinit"))
    assert effects_problems(assembly.techniques, assembly.effects(), seen, plain) == []
    assert {depth_of(n) for n in seen.frozen} == {0, 1}
    assert {depth_of(n) for n in seen.changed} == {2, 3}


@pytest.mark.parametrize("order", [("freeze", "reinit"), ("reinit", "freeze")])
def test_freezing_random_blocks_is_refused(lab: Lab, order: tuple[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        lab.run("biosses", "tiny", *chosen(*order, freeze__depth=2))
    (problem,) = caught.value.problems
    assert "technique freeze freezes block 2" in problem
    assert "technique reinit" in problem


def test_a_frozen_pooler_is_refused_too(lab: Lab) -> None:
    """What `check` cannot know beforehand is found when the plan is finished."""

    class FreezesTop(Technique):
        def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
            return plan.frozen(built.layers.names(built.layers.top))

    run = lab.run("biosses", "tiny", "technique=none")
    with pytest.raises(ConfigError, match="no pretrained value and would be frozen"):
        lab.assembly(run, {"freezes_top": FreezesTop()})


# --- passes of one step --------------------------------------------------------------------------

STANDING = {
    "sam": {"rho": 1e-30},
    "r3f": {"eps": 1e-30},
    "smart": {"start_noise": 1e-30, "step_size": 1e-30, "eps": 1e-30},
    "freelb": {"init": 0.0, "step_size": 1e-30},
}
"""Techniques that look at one function from several points -> knobs at which the points are one."""

ONE_PASS = [name for name in NAMES if name not in (*STANDING, "rdrop")]


def answers(lab: Lab, *asked: str) -> list[torch.Tensor]:
    """Logits of every training pass of the first step."""
    found: list[torch.Tensor] = []

    def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if module.training:
            found.append(output.logits.detach().clone())

    # a warm-up from 0 would leave the weights, and with them mixed ones, where they are
    start = ("optim.steps=2", "optim.warmup=0")
    assembly = lab.assembly(lab.run(*asked, *start))
    assembly.built.model.register_forward_hook(note)
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    return found


def looks() -> Iterator[Any]:
    """Every looker with every other technique; fast: each technique with one looker, and mixout,
    which draws in every pass, with each."""
    for number, name in enumerate(ONE_PASS):
        for at, looker in enumerate(STANDING):
            quick = name == "mixout" or number % len(STANDING) == at
            marks = [] if quick else pytest.mark.slow
            yield pytest.param(looker, name, marks=marks, id=f"{name}-{looker}")


@pytest.mark.parametrize(("looker", "name"), list(looks()))
def test_passes_of_one_function_see_one_function(lab: Lab, looker: str, name: str) -> None:
    """Whatever else draws at random in a pass draws the same in all of them."""
    place = place_of(lab, looker, name)
    found = answers(lab, *place, *chosen(looker, name, **mode(looker, STANDING[looker])))
    per_step = len(found) // 2
    assert per_step > 1
    for step in (found[:per_step], found[per_step:]):
        assert all(torch.equal(step[0], other) for other in step[1:])
    assert not torch.equal(found[0], found[-1])


def test_passes_that_drop_other_units_see_another_function(lab: Lab) -> None:
    """The test above can fail."""
    first, second, *_ = answers(lab, "biosses", "tiny", *chosen("rdrop"))
    assert not torch.equal(first, second)
    knobs = {**mode("r3f", STANDING["r3f"]), "r3f__same_dropout": "false"}
    first, second, *_ = answers(lab, "biosses", "tiny", *chosen("r3f", "mixout", **knobs))
    assert not torch.equal(first, second)


# --- other modes ---------------------------------------------------------------------------------


def modes() -> Iterator[Any]:
    """Each mode beside each technique, in both orders; what once was broken is tried always."""
    always = {("smart", "thaw"), ("smart", "freelb"), ("child_tuning", "thaw"), ("swa", "thaw")}
    for name, found in MODES.items():
        for number, knobs in enumerate(found):
            for other in NAMES:
                if other != name:
                    marks = [] if {name, other} in map(set, always) else [pytest.mark.slow]
                    title = f"{name}{number}-{other}"
                    yield pytest.param(name, knobs, other, marks=marks, id=title)


@pytest.mark.parametrize(("name", "knobs", "other"), list(modes()))
def test_other_modes_compose_or_are_refused(
    lab: Lab, name: str, knobs: dict[str, Any], other: str
) -> None:
    place = place_of(lab, name, other)
    found = []
    for order in ((name, other), (other, name)):
        asked = (*place, *chosen(*order, **mode(name, knobs)))
        if said := refusal(lab, *asked):
            assert name in said
            assert other in said
            return
        found.append(lab.train_again(*asked))
        assert all(map(math.isfinite, found[-1][1].losses))
    ordered = any(overrides(moment, name, other) for moment in MAY_ORDER)
    assert_order_is_nothing(lab, found[0], found[1], ordered)


def interrupted() -> Iterator[Any]:
    """What once was broken is tried always."""
    always = {("classification", ("child_tuning", "slimfit")), ("tagging", ("sara", "slimfit"))}
    for head, pair in itertools.product(HEADS, PAIRS):
        marks = [] if (head, pair) in always else [pytest.mark.slow]
        yield pytest.param(head, pair, marks=marks, id="-".join((head, *pair)))


@pytest.mark.parametrize(("head", "pair"), list(interrupted()))
def test_pairs_go_on(lab: Lab, head: str, pair: tuple[str, str]) -> None:
    """Interrupted and resumed, in both orders."""
    for order in (pair, pair[::-1]):
        asked = (HEADS[head], "tiny_electra", *chosen(*order))
        if refusal(lab, *asked):
            return
        assembly, seen = lab.train_again(*asked)
        _, spy, goes_on = lab.resumed(*asked)
        assert spy.losses == seen.losses[2:]
        assert equal_weights(weights(goes_on.built.model), seen.end)
        assert agree(goes_on.effects(), assembly.effects())

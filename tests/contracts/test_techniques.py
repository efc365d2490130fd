"""Every technique in conf/technique, on every kind of task and encoder, keeps the contract.

What is proved for each: it composes and trains; the optimizer holds exactly what trains, with the
baseline's weight decay; what is frozen keeps its bits; evaluation is that of a bare transformers
network; head start and batches are the baseline's; the same seed gives the same bits, and so does
a run that was interrupted; neutral values do nothing; and what `effects` reports is what an
independent witness saw. Techniques together: test_technique_pairs.py.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import bluestab.techniques
from bluestab.core.config import compose, resolved
from bluestab.core.seeding import generator
from bluestab.core.spaces import SEARCH_SPACE
from bluestab.models.built import Built, Trained
from bluestab.models.param_plan import ParamPlan
from bluestab.techniques.base import Technique
from bluestab.testing.claimed_effects import effects_problems
from bluestab.testing.corpora import ANY_FILE
from bluestab.testing.laboratory import Lab
from bluestab.testing.observed_training import LAYERS, SHORT, is_head, watch
from bluestab.testing.technique_arms import (
    EVERY,
    HEADS,
    NAMES,
    NODES,
    PRETRAINING,
    REMEMBERING,
    YAMLS,
    chosen,
    overrides,
    refusal,
)
from bluestab.testing.techniques import Place, TechniqueDeclarations, TechniqueTraining

MODULES = Path(bluestab.techniques.__file__).parent
PLACES = [
    *itertools.product(HEADS.values(), ("tiny", "tiny_electra")),
    # one task with a pair of texts or one text, one with words, for every other family
    ("biosses", "tiny_roberta"),
    ("ncbi_disease", "tiny_roberta"),
    ("gad", "tiny_modernbert"),
    ("ncbi_disease", "tiny_modernbert"),
]

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


# --- files ---------------------------------------------------------------------------------------


def test_one_yaml_per_module() -> None:
    shared = {"__init__", "base", "packing", "parameters", "effects", "anchored", "replay"}
    shared |= {"around_layers"}
    modules = {file.stem for file in MODULES.glob("*.py")} - shared
    assert modules == set(EVERY)
    assert NODES["none"] == {}
    assert len(NAMES) >= 3
    for name in EVERY:
        assert list(NODES[name]) == [name], "a technique's yaml is keyed by its own name"
        assert NODES[name][name]["_target_"].startswith(f"bluestab.techniques.{name}.")


@pytest.mark.parametrize("name", YAMLS)
def test_every_key_is_explained(name: str) -> None:
    lines = YAMLS[name].read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), "the first line says what the technique does"
    for line in lines:
        key = line.split("#")[0].strip().partition(":")[0]
        if ":" in line.split("#")[0] and key not in (name, "_target_"):
            assert re.search(r"# \S", line), f"{key} has no comment"


@pytest.mark.parametrize("name", EVERY)
def test_the_docstring_is_a_card(name: str) -> None:
    source = (MODULES / f"{name}.py").read_text(encoding="utf-8")
    card = ast.get_docstring(ast.parse(source)) or ""
    headings = ["Idea", "Formula", "Source", "Settings", "Cost", "Not with", "Against"]
    found = [h for h in re.findall(r"^(\w+(?: with)?) {2,}\S", card, re.M) if h in headings]
    assert found == headings


# --- training ------------------------------------------------------------------------------------


class TestDeclarations(TechniqueDeclarations):
    """Of every technique."""

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, lab: Lab) -> Lab:
        """That of the module: what one test has trained, others need not."""
        return lab

    @pytest.fixture(scope="class", params=NAMES)
    @classmethod
    def name(cls, request: pytest.FixtureRequest) -> str:
        return request.param  # type: ignore[no-any-return]

    def test_every_technique_of_ours_can_be_searched(self, name: str) -> None:
        assert NODES[name][name][SEARCH_SPACE]


@pytest.mark.slow
class TestThoseThatRemember(TestDeclarations):
    """Without an earlier run they are refused, unless they stand at a neutral value."""

    @pytest.fixture(scope="class", params=REMEMBERING)
    @classmethod
    def name(cls, request: pytest.FixtureRequest) -> str:
        return request.param  # type: ignore[no-any-return]


class TestThoseThatPretrain(TestDeclarations):
    """Elsewhere they are refused; their trainings have tests of their own."""

    @pytest.fixture(scope="class", params=PRETRAINING)
    @classmethod
    def name(cls, request: pytest.FixtureRequest) -> str:
        return request.param  # type: ignore[no-any-return]


@pytest.mark.slow
class TestNeutralElsewhere(TestDeclarations):
    """On words and another encoder."""

    neutral_places = (("ncbi_disease", "tiny_electra"),)


def arms() -> Iterator[Any]:
    """Every technique with every place, of which the fast tests take a few: each place with one
    technique at least, and where a technique has a step of its own, words as well as texts."""
    for number, name in enumerate(NAMES):
        own_step = overrides("wrap_step", name)
        for at, place in enumerate(PLACES):
            first = number % len(PLACES)
            quick = at in (first, (first + 7) % len(PLACES)) if own_step else at == first
            title = "-".join((name, *place))
            yield pytest.param((name, place), marks=[] if quick else pytest.mark.slow, id=title)


class TestTraining(TechniqueTraining):
    """Fixtures hold for the whole class, so that tests of one training come one after the other, in
    one process even where pytest-xdist hands them out."""

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, lab: Lab) -> Lab:
        return lab

    @pytest.fixture(scope="class", params=list(arms()))
    @classmethod
    def arm(cls, request: pytest.FixtureRequest) -> tuple[str, Place]:
        return request.param  # type: ignore[no-any-return]

    @pytest.fixture(scope="class")
    @classmethod
    def name(cls, arm: tuple[str, Place]) -> str:
        return arm[0]

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, arm: tuple[str, Place]) -> Place:
        return arm[1]


def test_the_fast_tests_see_every_technique_place_and_refusal() -> None:
    quick = [param.values[0] for param in arms() if not param.marks]
    assert {name for name, _ in quick} == set(NAMES)
    assert {place for _, place in quick} == set(PLACES)


@pytest.mark.parametrize("technique", NAMES)
def test_at_most_one_kind_of_head_is_refused(
    lab: Lab, technique: str, record_property: Callable[[str, object], None]
) -> None:
    """With a sentence that names technique and task, so that no refusal is an accident."""
    said = {task: refusal(lab, task, "tiny", *chosen(technique)) for task in HEADS.values()}
    refused = {task: sentence for task, sentence in said.items() if sentence}
    assert len(refused) <= 1
    for task, sentence in refused.items():
        assert technique in sentence
        assert task in sentence
        record_property("technique refused on a task", sentence)


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1]], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("task", "model"), list(zip(HEADS.values(), sorted({m for _, m in PLACES}), strict=True))
)
def test_composing_is_the_same_everywhere(
    lab: Lab, task: str, model: str, names: list[str]
) -> None:
    """The lab composes task and model once and each technique once: one line gives the same."""
    ours = lab.config(task, model, *chosen(*names))
    line = [f"task={task}", f"model={model}", f"model.path={lab.checkpoint(model)}"]
    theirs = resolved(compose([*SHORT, *ANY_FILE, *line, *chosen(*names)]))
    assert ours == theirs
    assert list(ours["technique"]) == list(theirs["technique"]) == list(names)


@pytest.mark.parametrize("place", PLACES, ids="-".join)
def test_each_head_tensor_has_a_stream_of_its_own(lab: Lab, place: Place) -> None:
    """Drawn by name, so that no technique can shift the head by drawing before it."""
    plain = lab.trained(*place, "technique=none")[1]
    matrices = [n for n, weight in plain.start.items() if is_head(n) and weight.ndim == 2]
    assert matrices
    for name in matrices:
        random, drawn = generator(0, "init", name), torch.empty(plain.start[name].shape)
        if place[1] == "tiny_modernbert":
            std = {"classifier.weight": 32**-0.5, "head.dense.weight": 0.02 / math.sqrt(2 * LAYERS)}
            drawn = torch.nn.init.trunc_normal_(
                drawn, 0.0, std[name], -2 * std[name], 2 * std[name], generator=random
            )
        else:
            drawn.normal_(0.0, 0.02, generator=random)
        assert torch.equal(plain.start[name], drawn), name


def test_another_seed_other_bits(lab: Lab) -> None:
    """The test above can fail."""
    one = lab.trained("gad", "tiny", "technique=none")[1]
    other = lab.trained("gad", "tiny", "technique=none", "seed=1")[1]
    assert one.batches != other.batches
    assert not torch.equal(one.start["classifier.weight"], other.start["classifier.weight"])
    assert torch.equal(one.start["classifier.bias"], other.start["classifier.bias"])


@pytest.mark.parametrize(
    ("task", "model"),
    [("biosses", "tiny"), ("ncbi_disease", "tiny_electra"), ("gad", "tiny_modernbert")],
)
@pytest.mark.parametrize("eval_mode", [True, False])
def test_frozen_prefix_is_a_constant_of_the_data(
    lab: Lab, task: str, model: str, eval_mode: bool
) -> None:
    overrides = chosen("freeze", freeze__eval_mode=str(eval_mode).lower())
    computed = "trainer.prefix_cache=false"
    network = lab.assembly(lab.run(task, model, *overrides, computed)).built.model
    batch = next(iter(lab.assembly(lab.run(task, model)).loaders["train"]))
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "items")}
    hidden = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network.train()
        states = network(**inputs, output_hidden_states=True).hidden_states
        assert len(states) == LAYERS + 1
        hidden.append(states)
    for depth in (0, 1):
        assert torch.equal(hidden[0][depth], hidden[1][depth]) is eval_mode
    assert not torch.equal(hidden[0][2], hidden[1][2]), "dropout goes on above"


# --- the witness itself --------------------------------------------------------------------------


class Silent(Technique):
    """Does nothing and says so."""


class Lies(Technique):
    """Does nothing and says it froze something."""

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return {"frozen_tensors": 21, "frozen_depths": [0, 1]}


class Boasts(Technique):
    """Does nothing and describes plain training."""

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return {"frozen_tensors": 0, "lr_multiplier_by_depth": {str(d): 1.0 for d in range(4)}}


class Whispers(Technique):
    """Does two things and tells one."""

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        names = built.layers.names(0)
        return plan.frozen(names).scaled({n: 0.5 for n in plan if n not in names})

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return {"lr_multiplier_by_depth": {"1": 0.5, "2": 0.5, "3": 0.5}}


class Invents(Technique):
    """Does something and calls it by a word of its own."""

    def edit_plan(self, plan: ParamPlan, built: Built) -> ParamPlan:
        return plan.scaled(dict.fromkeys(plan, 0.5))

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        return {"gentleness": 0.5, "lr_multiplier_by_depth": {str(d): 0.25 for d in range(4)}}


@pytest.mark.parametrize(
    ("technique", "expected"),
    [
        (Silent(), ["claims no effect", "equal those of plain training"]),
        (Lies(), ["claims frozen_tensors 21, seen was 0", "claims frozen_depths",
                  "equal those of plain training"]),
        (Boasts(), ["claims nothing that plain training", "equal those of plain training"]),
        (Whispers(), ["nobody claims frozen_tensors"]),
        (Invents(), ["gentleness 0.5, which nothing here can confirm",
                     "claims lr_multiplier_by_depth"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Technique) else "",
)  # fmt: skip
def test_untrue_effects_are_caught(lab: Lab, technique: Technique, expected: list[str]) -> None:
    plain = lab.trained("gad", "tiny", "technique=none")[1]
    planted = {"planted": technique}
    assembly = lab.assembly(lab.run("gad", "tiny", "technique=none"), planted)
    seen = watch(assembly, lab.plain_transformers("tiny"))
    problems = effects_problems(planted, assembly.effects(), seen, plain)
    assert len(problems) == len(expected), problems
    for problem, part in zip(problems, expected, strict=True):
        assert part in problem

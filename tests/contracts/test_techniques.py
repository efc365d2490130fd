"""Every technique in conf/technique, on every kind of task and encoder, keeps the contract.

What is proved for each: it composes and trains; the optimizer holds exactly what trains, with the
baseline's weight decay; what is frozen keeps its bits; evaluation is that of a bare transformers
network; head start and batches are the baseline's; the same seed gives the same bits, and so does
a run that was interrupted; neutral values do nothing; and what `effects` reports is what an
independent witness saw. Techniques together: test_technique_pairs.py.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ANY_FILE

import bluestab.techniques
from bluestab.assemble import Assembly
from bluestab.errors import ConfigError
from bluestab.hydra_app import compose
from bluestab.plan import ParamPlan
from bluestab.planning import resolved
from bluestab.seeding import generator
from bluestab.spaces import SEARCH_SPACE, space_problems
from bluestab.techniques.base import Technique
from bluestab.types import Built, ModelFacts, Trained
from contracts.arms import HEADS, NAMES, NODES, YAMLS, chosen, knobs_of, refusal, technique_class
from contracts.witness import (
    LAYERS,
    SHORT,
    Lab,
    Spy,
    Witness,
    agree,
    effects_problems,
    equal_weights,
    is_head,
    usual_decay,
    watch,
    weights,
)

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
    modules = {file.stem for file in MODULES.glob("*.py")} - {"__init__", "base"}
    assert modules == set(NAMES)
    assert NODES["none"] == {}
    assert len(NAMES) >= 3
    for name in NAMES:
        assert list(NODES[name]) == [name], "a technique's yaml is keyed by its own name"
        assert NODES[name][name]["_target_"].startswith(f"bluestab.techniques.{name}.")


@pytest.mark.parametrize("name", NAMES)
def test_knobs_live_in_the_yaml_alone(name: str) -> None:
    cls = technique_class(name)
    parameters = inspect.signature(cls).parameters
    assert set(parameters) == set(knobs_of(name))
    assert all(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters.values())
    assert set(cls.neutral) <= set(parameters)
    knobs = {knob: object() for knob in parameters}
    technique = cls(**knobs)
    assert {knob: getattr(technique, knob) for knob in knobs} == knobs
    facts = ModelFacts("any", "bert", LAYERS, hidden_size=8, max_length=8, pooler=True)
    assert technique.rules(facts).keys() == knobs.keys(), "every knob has a rule"


@pytest.mark.parametrize("name", YAMLS)
def test_every_key_is_explained(name: str) -> None:
    lines = YAMLS[name].read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), "the first line says what the technique does"
    for line in lines:
        key = line.split("#")[0].strip().partition(":")[0]
        if ":" in line.split("#")[0] and key not in (name, "_target_"):
            assert re.search(r"# \S", line), f"{key} has no comment"


@pytest.mark.parametrize("layers", [2, 6, 12, 24])
@pytest.mark.parametrize("name", NAMES)
def test_the_search_space_holds_allowed_values_alone(name: str, layers: int) -> None:
    facts = ModelFacts("any", "bert", layers, hidden_size=64, max_length=8, pooler=True)
    spaces = NODES[name][name][SEARCH_SPACE]
    assert spaces
    rules = technique_class(name)(**knobs_of(name)).rules(facts)
    assert space_problems(f"technique.{name}", spaces, rules, layers) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_is_a_card(name: str) -> None:
    source = (MODULES / f"{name}.py").read_text(encoding="utf-8")
    card = ast.get_docstring(ast.parse(source)) or ""
    headings = ["Idea", "Formula", "Source", "Settings", "Cost", "Not with", "Against"]
    found = [h for h in re.findall(r"^(\w+(?: with)?) {2,}\S", card, re.M) if h in headings]
    assert found == headings


@pytest.mark.parametrize(
    ("name", "knob"), [(name, knob) for name in NAMES for knob in knobs_of(name)]
)
def test_nonsense_is_refused_with_a_sentence(lab: Lab, name: str, knob: str) -> None:
    with pytest.raises(ConfigError, match=rf"technique\.{name}\.{knob} is 'nonsense'") as caught:
        lab.run("gad", "tiny", *chosen(name, **{f"{name}__{knob}": "nonsense"}))
    assert len(caught.value.problems) == 1


# --- training ------------------------------------------------------------------------------------


# These fixtures hold for the whole module, so that tests of one training come one after the other,
# in one process even where pytest-xdist hands them out.


@pytest.fixture(scope="module", params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def plain(lab: Lab, place: tuple[str, str]) -> Witness:
    return lab.trained(*place, "technique=none")[1]


@pytest.fixture(scope="module")
def trained(lab: Lab, place: tuple[str, str], name: str) -> tuple[Assembly, Witness]:
    if said := refusal(lab, *place, *chosen(name)):
        pytest.skip(said)
    return lab.trained(*place, *chosen(name))


@pytest.fixture(scope="module")
def seen(trained: tuple[Assembly, Witness]) -> Witness:
    return trained[1]


@pytest.fixture(scope="module")
def resumed(
    lab: Lab, place: tuple[str, str], name: str, trained: tuple[Assembly, Witness]
) -> tuple[Spy, Spy, Assembly]:
    return lab.resumed(*place, *chosen(name))


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


def test_three_steps_have_finite_losses(seen: Witness, plain: Witness) -> None:
    for witness in (seen, plain):
        assert len(witness.losses) == 3
        assert all(map(math.isfinite, witness.losses))
        assert witness.forwards >= 3, "training goes on in training mode"
    assert not plain.silent, "plain training has dropout everywhere"


def test_groups_partition_what_trains(seen: Witness) -> None:
    held = [name for group in seen.groups for name in group]
    assert len(held) == len(set(held))
    assert set(held) == seen.gradient
    assert set(held) | set(seen.frozen) == set(seen.start)
    assert any(map(is_head, held)), "the head always trains"


def test_weight_decay_is_the_baseline_s(
    trained: tuple[Assembly, Witness], name: str, plain: Witness
) -> None:
    """Unless a technique replaces it and says so."""
    assembly, seen = trained
    usual = usual_decay(seen, plain)
    other = {n: decay for n, decay in seen.decay.items() if decay != usual[n]}
    assert set(other.values()) <= {0.0}
    assert len(other) == assembly.effects()[name].get("undecayed_tensors", 0)
    assert {value for name, value in plain.decay.items() if plain.start[name].ndim == 1} == {0.0}
    assert {value for name, value in plain.decay.items() if plain.start[name].ndim > 1} == {0.01}


def test_frozen_weights_keep_their_bits_and_the_others_move(seen: Witness, plain: Witness) -> None:
    assert not set(seen.frozen) & set(seen.moved)
    # a key bias shifts all scores of a query alike, so softmax cancels it: its gradient is noise
    sure = {name for name in plain.moved if not name.endswith("key.bias")}
    assert sure - set(seen.frozen) <= set(seen.moved)
    assert len(plain.moved) > 0.9 * len(plain.start), "three steps move nearly every tensor"


def test_the_reference_is_still_the_checkpoint(trained: tuple[Assembly, Witness]) -> None:
    assembly, seen = trained
    reference = assembly.built.plain(assembly.built.reference)
    for name, weight in seen.checkpoint.items():
        assert torch.equal(reference[name], weight), name


def test_evaluation_is_that_of_the_bare_network(
    lab: Lab, place: tuple[str, str], trained: tuple[Assembly, Witness]
) -> None:
    assembly, seen = trained
    assembly.trainer.validate(assembly.module, assembly.loaders["validation"], verbose=False)
    expected, logits = bare_scores(lab.checkpoint(place[1]), assembly, seen)
    for found, bare in zip(assembly.module.item_logits, logits, strict=True):
        # what was put around a layer is added to its output, not to its weight
        assert np.allclose(found, bare, rtol=0, atol=1e-5 if seen.added else 0)
    if seen.added:  # two correlations may differ more than the nearly constant values they are of
        expected = {n: v if v is None else pytest.approx(v, abs=1e-3) for n, v in expected.items()}
    assert dict(assembly.module.scores) == expected
    last = assembly.history.rows[-1]
    assert {metric: last[metric] for metric in expected} == expected


def bare_scores(
    folder: Path, assembly: Assembly, seen: Witness
) -> tuple[dict[str, float | None], list[np.ndarray]]:
    """Scores and logits of a network that plain transformers built, given the trained weights."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )

    task, labels = assembly.data.task, assembly.data.labels
    words = task.output.per_word
    auto: Any = AutoModelForTokenClassification if words else AutoModelForSequenceClassification
    network = auto.from_pretrained(folder, num_labels=len(labels), attn_implementation="eager")
    parameters = dict(network.named_parameters())
    assert parameters.keys() == seen.bare.keys(), "what was trained loads into plain transformers"
    predictions, found = {}, {}
    network.eval()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(seen.bare[name])
        for batch in assembly.loaders["validation"]:
            inputs = {k: v for k, v in batch.items() if k not in ("labels", "items")}
            answers = network(**inputs).logits
            for row, item in enumerate(batch["items"].tolist()):
                logits = answers[row]
                counted = batch["labels"][row] != -100 if logits.ndim == 2 else None
                logits = logits[None] if counted is None else logits[counted]
                example = assembly.examples["validation"][item]
                words = assembly.loaders["validation"].dataset["rows"][item]
                predictions[item] = task.decode(logits.numpy(), words, example, labels)
                found[item] = logits.numpy()
    targets = [example.target for example in assembly.examples["validation"]]
    order = range(len(targets))
    scores = task.score([predictions[i] for i in order], targets)
    logits = [found[i] for i in order]
    return scores | task.calibration(logits, targets, labels), logits


def test_head_start_and_batches_are_the_baseline_s(seen: Witness, plain: Witness) -> None:
    heads = [name for name in plain.start if is_head(name)]
    assert heads
    for name in heads:
        assert torch.equal(seen.start[name], plain.start[name]), name
    assert seen.batches == plain.batches
    assert len({item for batch in plain.batches[:2] for item in batch}) == 24


def test_each_head_tensor_has_a_stream_of_its_own(plain: Witness, place: tuple[str, str]) -> None:
    """Drawn by name, so that no technique can shift the head by drawing before it."""
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


def test_effects_are_true(trained: tuple[Assembly, Witness], plain: Witness) -> None:
    assembly, seen = trained
    assert effects_problems(assembly.techniques, assembly.effects(), seen, plain) == []


def test_same_seed_same_bits(resumed: tuple[Spy, Spy, Assembly], seen: Witness) -> None:
    """A second start, which is ended after its last step."""
    again, _, _ = resumed
    assert again.losses == seen.losses
    assert again.batches == seen.batches
    assert all(map(equal_weights, again.trail, seen.trail))


def test_resumed_equals_uninterrupted(
    trained: tuple[Assembly, Witness], resumed: tuple[Spy, Spy, Assembly], name: str
) -> None:
    """A third start, from the checkpoint after the second of three steps."""
    assembly, seen = trained
    _, spy, goes_on = resumed
    assert spy.losses == seen.losses[2:]
    assert spy.batches == seen.batches[2:]
    assert spy.rates == {n: list(rates[2:]) for n, rates in seen.rates.items()}
    assert equal_weights(weights(goes_on.built.model), seen.end)
    assert goes_on.history.rows == seen.rows
    assert agree(goes_on.effects(), assembly.effects())


def test_another_seed_other_bits(lab: Lab) -> None:
    """The test above can fail."""
    one = lab.trained("gad", "tiny", "technique=none")[1]
    other = lab.trained("gad", "tiny", "technique=none", "seed=1")[1]
    assert one.batches != other.batches
    assert not torch.equal(one.start["classifier.weight"], other.start["classifier.weight"])
    assert torch.equal(one.start["classifier.bias"], other.start["classifier.bias"])


@pytest.mark.parametrize(
    ("name", "knob", "value"),
    [(n, k, v) for n in NAMES for k, v in technique_class(n).neutral.items()],
)
def test_neutral_values_train_like_none(lab: Lab, name: str, knob: str, value: Any) -> None:
    for place in (("gad", "tiny"), ("ncbi_disease", "tiny_electra")):
        plain = lab.trained(*place, "technique=none")[1]
        assembly, seen = lab.train_again(*place, *chosen(name, **{f"{name}__{knob}": value}))
        assert assembly.techniques[name].is_neutral()
        assert effects_problems(assembly.techniques, assembly.effects(), seen, plain) == []
        assert seen.losses == plain.losses
        for parameter, weight in plain.end.items():
            assert torch.equal(seen.end[parameter], weight), parameter


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

"""Every technique in conf/technique, on every kind of task and encoder, keeps the contract.

What is proved for each: it composes and trains; the optimizer holds exactly what trains, with the
baseline's weight decay; what is frozen keeps its bits; evaluation is that of a bare transformers
network; head start and batches are the baseline's; the same seed gives the same bits; neutral
values do nothing; and what `effects` reports is what an independent witness saw.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import bluestab.techniques
from bluestab.assemble import Assembly
from bluestab.errors import ConfigError
from bluestab.instantiate import load_class
from bluestab.paths import conf_dir
from bluestab.plan import ParamPlan
from bluestab.seeding import generator
from bluestab.spaces import SEARCH_SPACE, space_problems
from bluestab.techniques.base import Technique
from bluestab.types import Built, ModelFacts, Trained
from contracts.witness import (
    LAYERS,
    Lab,
    Witness,
    depth_of,
    effects_problems,
    is_head,
    usual_decay,
    watch,
)

YAMLS = {file.stem: file for file in sorted((conf_dir() / "technique").glob("*.yaml"))}
NODES = {name: OmegaConf.to_container(OmegaConf.load(file)) for name, file in YAMLS.items()}
NAMES = [name for name in YAMLS if name != "none"]
MODULES = Path(bluestab.techniques.__file__).parent
PLACES = [
    *itertools.product(("biosses", "gad", "ncbi_disease"), ("tiny", "tiny_electra")),
    # one task with a pair of texts or one text, one with words, for every other family
    ("biosses", "tiny_roberta"),
    ("ncbi_disease", "tiny_roberta"),
    ("gad", "tiny_modernbert"),
    ("ncbi_disease", "tiny_modernbert"),
]

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")

SMALL = {"depth": 1, "gamma": 100, "eps": 0.03, "step_size": 0.03, "start_noise": 0.01}
"""Knobs by name whose default is meant for more than the two blocks of the tiny models, for smaller
learning rates than theirs, or for float32 alone."""

REFUSED = {("label_smoothing", "biosses"): "nothing to smooth"}
"""(technique, task) that do not go together -> what is said."""


def chosen(*names: str, **knobs: Any) -> tuple[str, ...]:
    """Overrides that select techniques, made to fit two blocks."""
    small = {
        f"technique.{name}.{knob}": value
        for name in names
        for knob, value in SMALL.items()
        if knob in NODES[name][name]
    }
    small |= {f"technique.{path.replace('__', '.')}": value for path, value in knobs.items()}
    shown = {path: "null" if value is None else value for path, value in small.items()}
    return (f"technique=[{','.join(names)}]", *(f"{path}={v}" for path, v in shown.items()))


@pytest.fixture(scope="module")
def lab(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLUESTAB_DATA", str(corpora))
        yield Lab(tmp_path_factory.mktemp("checkpoints"))
    torch.set_num_threads(threads)


def knobs_of(name: str) -> dict[str, Any]:
    return {k: v for k, v in NODES[name][name].items() if k not in ("_target_", SEARCH_SPACE)}


def technique_class(name: str) -> type[Technique]:
    return load_class(NODES[name][name]["_target_"], Technique, name)


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
    headings = ["Idea", "Formula", "Source", "Settings", "Not with", "Against"]
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


@pytest.fixture(params=PLACES, ids=lambda place: "-".join(place))
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def plain(lab: Lab, place: tuple[str, str]) -> Witness:
    return lab.trained(*place, "technique=none")[1]


@pytest.fixture
def trained(lab: Lab, place: tuple[str, str], name: str) -> tuple[Assembly, Witness]:
    if said := REFUSED.get((name, place[0])):
        with pytest.raises(ConfigError, match=said):
            lab.run(*place, *chosen(name))
        pytest.skip(f"{name} is refused on {place[0]}")
    return lab.trained(*place, *chosen(name))


@pytest.fixture
def seen(trained: tuple[Assembly, Witness]) -> Witness:
    return trained[1]


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
    auto: Any = {
        "sequence": AutoModelForSequenceClassification,
        "token": AutoModelForTokenClassification,
    }[task.head]
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
            for row, item in enumerate(batch["items"].tolist()):
                logits = network(**inputs).logits[row]
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


def test_same_seed_same_bits(lab: Lab, place: tuple[str, str], name: str, seen: Witness) -> None:
    again = lab.train_again(*place, *chosen(name))[1]
    assert again.losses == seen.losses
    for parameter, weight in seen.end.items():
        assert torch.equal(again.end[parameter], weight), parameter


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


# --- together ------------------------------------------------------------------------------------


def refusal(lab: Lab, *asked: str) -> str:
    """What is said against these overrides; empty if nothing is."""
    try:
        lab.run(*asked)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("pair", list(itertools.combinations(NAMES, 2)), ids="-".join)
def test_pairs_compose_in_any_order_or_are_refused(lab: Lab, pair: tuple[str, str]) -> None:
    place = ("gad" if any((name, "biosses") in REFUSED for name in pair) else "biosses", "tiny")
    refusals = [refusal(lab, *place, *chosen(*order)) for order in (pair, pair[::-1])]
    if any(refusals):
        assert all(name in refused for refused in refusals for name in pair)
        return
    assembly, seen = lab.trained(*place, *chosen(*pair))
    plain = lab.trained(*place, "technique=none")[1]
    assert effects_problems(assembly.techniques, assembly.effects(), seen, plain) == []
    assert seen.batches == plain.batches
    turned = lab.assembly(lab.run(*place, *chosen(*reversed(pair))))
    assert list(turned.techniques) == list(reversed(assembly.techniques))
    assert dict(turned.plan) == dict(assembly.plan)


@pytest.mark.parametrize("pair", [("freeze", "llrd"), ("reinit", "llrd"), ("freeze", "reinit")])
def test_these_compose(lab: Lab, pair: tuple[str, str]) -> None:
    assert set(lab.run("biosses", "tiny", *chosen(*pair)).techniques) == set(pair)


def test_all_at_once(lab: Lab) -> None:
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


@pytest.mark.parametrize(
    ("task", "model"),
    [("biosses", "tiny"), ("ncbi_disease", "tiny_electra"), ("gad", "tiny_modernbert")],
)
@pytest.mark.parametrize("eval_mode", [True, False])
def test_frozen_prefix_is_a_constant_of_the_data(
    lab: Lab, task: str, model: str, eval_mode: bool
) -> None:
    overrides = chosen("freeze", freeze__eval_mode=str(eval_mode).lower())
    network = lab.assembly(lab.run(task, model, *overrides)).built.model
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

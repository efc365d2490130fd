"""LoRA against closed forms, and against a network without peft, in float64."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.seeding import Seeds, generator, stream_seed  # noqa: E402
from bluestab.models.built import Built  # noqa: E402
from bluestab.techniques import around_layers, lora  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.observed_training import watch  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.support.adapted import FAMILIES, SEEDS, disturb, inputs_of, plain_built  # noqa: E402

Make = Callable[..., Any]
F64 = torch.float64
KNOBS = {"r": 4, "alpha": 6.0, "dropout": 0.0, "targets": "all", "also": [], "rslora": False}

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def adapted(lab: Lab, model: str, seeds: Seeds = SEEDS, **knobs: Any) -> Built:
    technique = lora.Lora(**{**KNOBS, **knobs})
    return technique.edit_model(plain_built(lab, model, seeds), seeds)


# --- formulas ------------------------------------------------------------------------------------


def test_merged_by_hand() -> None:
    def matrix(*rows: list[float]) -> torch.Tensor:
        return torch.tensor(rows, dtype=F64)

    weights = {
        "x.query.base_layer.weight": matrix([1, 2], [3, 4]),
        "x.query.base_layer.bias": matrix([5, 6])[0],
        "x.query.lora_A.default.weight": matrix([1, 10]),
        "x.query.lora_B.default.weight": matrix([2], [3]),
        "x.key.weight": matrix([7.0]),
    }
    technique = lora.Lora(**{**KNOBS, "r": 4, "alpha": 2.0})
    found = around_layers.without_layers(weights, technique.merge)
    assert list(found) == ["x.query.weight", "x.query.bias", "x.key.weight"]
    # B A = [[2, 20], [3, 30]]
    assert found["x.query.weight"].tolist() == [[2, 12], [4.5, 19]]
    assert found["x.query.bias"].tolist() == [5, 6]
    assert found["x.key.weight"].tolist() == [[7]]
    assert weights["x.query.base_layer.weight"].tolist() == [[1, 2], [3, 4]], "nothing in place"


def test_scale() -> None:
    assert lora.scale_of(8, 16, False) == 2
    assert lora.scale_of(16, 8, True) == 2


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("model", FAMILIES)
def test_a_layer_and_its_merged_weight_are_the_formula(lab: Lab, model: str, rslora: bool) -> None:
    built = adapted(lab, model, rslora=rslora)
    disturb(built.model)
    network = copy.deepcopy(built.model).double()
    scale = 6.0 / (2.0 if rslora else 4.0)
    merged = built.plain({n: p.detach() for n, p in network.named_parameters()})
    layers = {p: m for p, m in network.named_modules() if hasattr(m, "base_layer")}
    assert len(layers) == 2 * (4 if model == "tiny_modernbert" else 6)
    for path, layer in layers.items():
        w = layer.base_layer.weight.detach()
        a, b = layer.lora_A.default.weight.detach(), layer.lora_B.default.weight.detach()
        assert a.shape == (4, w.shape[1])
        assert b.shape == (w.shape[0], 4)
        x = torch.randn(3, w.shape[1], dtype=F64, generator=generator(1, path))
        expected = x @ w.T + scale * ((x @ a.T) @ b.T)
        if layer.base_layer.bias is not None:
            expected = expected + layer.base_layer.bias.detach()
        torch.testing.assert_close(layer(x).detach(), expected, rtol=1e-13, atol=1e-13)
        weight = merged[f"{path}.weight"]
        torch.testing.assert_close(weight, w + scale * (b @ a), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(weight, w + layer.get_delta_weight("default").detach())
        assert (weight - w).abs().max() > 0.1, "otherwise nothing is proved"


@pytest.mark.parametrize("model", FAMILIES)
def test_a_whole_training_is_that_of_the_formula(lab: Lab, model: str) -> None:
    """Logits, gradients and five steps of gradient descent against a network without peft whose
    weights are computed as W + s B A."""
    seeds = Seeds(3, 0, 0, 0)
    built, bare = adapted(lab, model, seeds, targets="attention"), plain_built(lab, model, seeds)
    trains = {n for n in built.layers.depth if around_layers.is_adapter(n)} | built.layers.head
    # ModernBERT's attention goes through float32, where its mask in float64 is minus infinity
    kind = torch.float32 if "modern" in model else F64
    near = {"rtol": 1e-3, "atol": 1e-6} if "modern" in model else {"rtol": 1e-8, "atol": 1e-11}
    network, other = built.model.to(kind).eval(), bare.model.to(kind).eval()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trains)
    fixed = {n: p.detach() for n, p in other.named_parameters()}
    free = {
        n: p.detach().clone().requires_grad_() for n, p in network.named_parameters() if n in trains
    }
    inputs = inputs_of(lab.assembly(lab.run("gad", model)))
    labels = torch.arange(len(inputs["input_ids"])) % 2
    for _ in range(5):
        weights = {**fixed, **{n: w for n, w in free.items() if not around_layers.is_adapter(n)}}
        for name, a in free.items():
            if ".lora_A." in name:
                path = name.partition(".lora_A.")[0]
                update = 1.5 * free[name.replace("lora_A", "lora_B")] @ a
                weights[f"{path}.weight"] = fixed[f"{path}.weight"] + update
        expected = torch.func.functional_call(other, weights, (), inputs).logits
        logits = network(**inputs).logits
        torch.testing.assert_close(logits, expected, **near)
        torch.nn.functional.cross_entropy(expected, labels).backward()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        for name, parameter in network.named_parameters():
            if name not in trains:
                assert parameter.grad is None
                continue
            mine, theirs = parameter.grad, free[name].grad
            torch.testing.assert_close(mine, theirs, **near)
            with torch.no_grad():
                for weight in (parameter, free[name]):
                    weight -= 0.5 * weight.grad
                    weight.grad = None
    moved = [
        n for n in free if ".lora_A." in n and not torch.equal(free[n], built.reference[n].to(kind))
    ]
    assert len(moved) == len([n for n in free if ".lora_A." in n]), "A moves once B has"


# --- the start -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", FAMILIES)
def test_the_start(lab: Lab, model: str) -> None:
    """A by its documented stream, whatever else is adapted; B zero; nothing drawn elsewhere."""
    plain_built(lab, model, SEEDS)  # reads the checkpoint
    state = torch.get_rng_state()
    few, many = adapted(lab, model, targets="query_value"), adapted(lab, model)
    assert torch.equal(torch.get_rng_state(), state)
    names = [n for n in few.layers.depth if ".lora_A." in n]
    assert len(names) == 2 * (1 if model == "tiny_modernbert" else 2)
    for name in names:
        a = few.model.get_parameter(name)
        path = name.partition(".lora_A.")[0]
        bound = a.shape[1] ** -0.5
        drawn = torch.empty(a.shape).uniform_(-bound, bound, generator=generator(0, "lora", path))
        assert torch.equal(a, drawn)
        assert torch.equal(many.model.get_parameter(name), drawn)
        assert torch.equal(few.reference[name], drawn)
        assert not few.model.get_parameter(name.replace("lora_A", "lora_B")).any()
    other = adapted(lab, model, Seeds(1, 0, 0, 0), targets="query_value")
    assert not torch.equal(other.model.get_parameter(names[0]), few.model.get_parameter(names[0]))
    a, b = (few.model.get_parameter(name) for name in names[:2])
    assert not torch.equal(a, b)


@pytest.mark.parametrize("model", FAMILIES)
def test_names_and_depths(lab: Lab, model: str) -> None:
    built, bare = adapted(lab, model), plain_built(lab, model, SEEDS)
    names = [name for name, _ in built.model.named_parameters()]
    assert list(built.layers.depth) == list(built.reference) == names
    assert built.fresh == bare.fresh
    assert built.layers.head == bare.layers.head
    for name, depth in built.layers.depth.items():
        base = name.partition(".lora_")[0] + ".weight" if ".lora_" in name else name
        assert depth == bare.layers.depth[base.replace(".base_layer.", ".")], name
    parameters = {n: p.detach() for n, p in built.model.named_parameters()}
    plain = built.plain(parameters)
    assert list(plain) == list(bare.layers.depth)
    for name, weight in bare.model.named_parameters():
        assert torch.equal(plain[name], weight), "at the start the update is nothing"


@pytest.mark.parametrize("model", FAMILIES)
def test_the_first_pass_is_the_baseline_s(lab: Lab, model: str) -> None:
    """Dropout included: the one on the updates draws from streams of its own."""
    knobs = {"lora__targets": "all", "lora__dropout": 0.5}
    plain = lab.assembly(lab.run("gad", model))
    ours = lab.assembly(lab.run("gad", model, *chosen("lora", **knobs)))
    found = []
    for assembly in (plain, ours):
        inputs = inputs_of(assembly)
        torch.manual_seed(1)
        assembly.built.model.train()
        found.append(assembly.built.model(**inputs).logits)
    assert torch.equal(*found)
    disturb(ours.built.model)
    torch.manual_seed(1)
    assert not torch.equal(found[0], ours.built.model(**inputs).logits)


# --- dropout -------------------------------------------------------------------------------------


def test_dropout_draws_by_layer_step_and_pass(lab: Lab) -> None:
    technique = lora.Lora(**{**KNOBS, "dropout": 0.25})
    seeds = Seeds(0, 0, 7, 0)
    built = technique.edit_model(plain_built(lab, "tiny", seeds), seeds)
    (callback,) = technique.callbacks(built)
    disturb(built.model)
    path = "bert.encoder.layer.1.attention.self.value"
    layer = built.model.get_submodule(path)
    x = torch.randn(6, 5, layer.in_features, generator=generator(1, "x"))

    class Clock:
        global_step, max_steps = 0, 9

    a, b = layer.lora_A.default.weight, layer.lora_B.default.weight
    for step in (0, 4):
        Clock.global_step = step
        callback.on_train_batch_start(Clock, None, None, 0)
        layer.train()
        for use in (0, 1):
            torch.manual_seed(0)
            random = torch.Generator().manual_seed(stream_seed(7, "lora", path, step, use))
            kept = torch.empty_like(x).bernoulli_(0.75, generator=random)
            assert abs(float(kept.mean()) - 0.75) < 5 * math.sqrt(0.25 * 0.75 / kept.numel())
            expected = layer.base_layer(x) + 1.5 * ((x * kept / 0.75) @ a.T) @ b.T
            torch.testing.assert_close(layer(x), expected)
    layer.eval()
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 1.5 * (x @ a.T) @ b.T)


def test_without_dropout_there_is_nothing_to_draw(lab: Lab) -> None:
    assert lora.Lora(**KNOBS).callbacks(adapted(lab, "tiny")) == []


# --- what trains ---------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [32, "bf16"])
@pytest.mark.parametrize("model", FAMILIES)
def test_what_trains(lab: Lab, model: str, precision: Any) -> None:
    """Base weights have no gradient and no state; A and B are float32 and compute with the rest."""
    overrides = chosen("lora", lora__targets="all", lora__dropout=0.1)
    run = lab.run("biosses", model, *overrides, f"trainer.precision={precision}")
    assembly = lab.assembly(run)
    network = assembly.built.model
    kinds: dict[str, set[Any]] = {}
    for path, module in network.named_modules():
        if around_layers.is_adapter(f"{path}.weight"):
            module.register_forward_hook(
                lambda module, inputs, output, path=path: kinds.setdefault(path, set()).add(
                    output.dtype
                )
            )
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    linears = [k for path, k in kinds.items() if path.endswith(".default")]
    assert set.union(*linears) == {torch.float32 if precision == 32 else torch.bfloat16}
    optimizer = assembly.trainer.optimizers[0]
    held = {name for group in optimizer.param_groups for name in group["names"]}
    adapters = {n for n in assembly.built.layers.depth if around_layers.is_adapter(n)}
    top = set(assembly.built.layers.names(assembly.built.layers.top))
    assert held == adapters | top
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (name in held), name
        assert parameter.grad is None or name in held
        assert (parameter in optimizer.state) == (name in held), name
    assert assembly.trained().moved == held


@pytest.mark.parametrize(
    ("part", "of"), [("biases", lambda n: n.endswith("bias")), ("layernorms", lambda n: "orm" in n)]
)
def test_also(lab: Lab, part: str, of: Callable[[str], bool]) -> None:
    assembly = lab.assembly(lab.run("gad", "tiny", *chosen("lora", lora__also=f"[{part}]")))
    layers = assembly.built.layers
    trains = {n for n, rule in assembly.plan.items() if rule.trainable and layers.depth[n] <= 2}
    assert trains == {n for n in layers.names(0, 1, 2) if around_layers.is_adapter(n) or of(n)}
    seen = watch(assembly, lab.plain_transformers("tiny"))
    assert any(of(name) for name in seen.moved if name not in seen.added)


def test_a_part_that_the_model_lacks_is_refused(lab: Lab) -> None:
    run = lab.run("gad", "tiny_modernbert", *chosen("lora", lora__also="[biases]"))
    with pytest.raises(ConfigError, match="also has 'biases', of which this model has none"):
        lab.assembly(run)


def test_layers_that_the_model_lacks_are_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(around_layers.TARGETS, "query_value", lambda parts: parts[-1] == "q_proj")
    run = lab.run("gad", "tiny", *chosen("lora"))
    with pytest.raises(ConfigError, match="no such linear layers; say"):
        lab.assembly(run)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("technique=lora", "technique.lora.r=33"), "technique.lora.r is 33: expected a whole"),
        (("technique=lora", "technique.lora.alpha=0"), "technique.lora.alpha is 0: expected"),
        (("technique=lora", "technique.lora.dropout=1"), "technique.lora.dropout is 1: expected"),
        (("technique=lora", "technique.lora.also=[heads]"), "technique.lora.also is ['heads']"),
        (chosen("lora", "reinit"), "technique reinit gives some of them new random values"),
        (chosen("lora", "train_only"), "both say what alone trains"),
        (chosen("lora", "child_tuning", child_tuning__mode="D"), "child_tuning.mode=F"),
        (chosen("lora", "freeze", freeze__depth=2), "lower technique.freeze.depth"),
    ],
)
def test_refusals(make_run: Make, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_run("task=gad", "model=tiny", *overrides)
    (problem,) = caught.value.problems
    assert said in problem


# --- peft stays where it is used -----------------------------------------------------------------

SCRIPT = """
import socket, sys
from dataclasses import replace
from bluestab.training.check import check
from bluestab.core.config import compose, resolved

def refused(*_):
    raise AssertionError("the network was asked for")

socket.socket.connect = socket.getaddrinfo = refused
tiny = ["task=ncbi_disease", "model=tiny", "technique=lora", "device=cpu", "optim.steps=1"]
run = check(resolved(compose([*tiny, "task.train_size=8", *sys.argv[1:]])))
assert not {"peft", "torch", "accelerate"} & sys.modules.keys(), "a check needs none of them"
import torch
from bluestab.training.assemble import assemble
parts = {"device": torch.device("cpu"), "progress": lambda *_: None}
assemble(replace(run, techniques={}), **parts)
assert "peft" not in sys.modules, "nor does a run without lora"
assemble(run, **parts)
assert "peft" in sys.modules
"""


def test_peft_is_loaded_by_nothing_else_and_asks_no_network(small: Path) -> None:
    from bluestab.testing.corpora import ANY_FILE

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *ANY_FILE], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]

"""Mixout: the published formula, its expectation and gradient, and which layers it replaces."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.functional import linear  # noqa: E402

from bluestab.core.seeding import Seeds, generator, stream_seed  # noqa: E402
from bluestab.core.types import StepOutput  # noqa: E402
from bluestab.models.built import Built  # noqa: E402
from bluestab.techniques import mixout  # noqa: E402
from bluestab.techniques.parameters import pretrained  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.observed_training import mixing  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.support.eleven_numbers import F64, Clock, built_of, network  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

# --- mixout --------------------------------------------------------------------------------------


def test_mixout_is_the_published_formula() -> None:
    random = generator(1, "mixout")
    w, u = torch.randn(2, 5, 7, dtype=F64, generator=random)
    for unit in mixout.UNITS:
        keep = mixout.keep_mask(w.shape, 0.7, unit, random).to(F64)
        published = ((1 - keep) * u + keep * w - 0.7 * u) / (1 - 0.7)
        torch.testing.assert_close(mixout.mixed(w, u, keep, 0.7), published, rtol=0, atol=1e-14)
        assert torch.equal(mixout.mixed(u, u, keep, 0.7), u), "exactly the pretrained weight"
        # dropout is the case u = 0
        dropped = mixout.mixed(w, torch.zeros_like(w), keep, 0.7)
        torch.testing.assert_close(dropped, w * keep / 0.3)


@pytest.mark.parametrize("unit", mixout.UNITS)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_mixout_keeps_the_expectation(unit: str, p: float) -> None:
    random, n = generator(2, "expectation", unit), 20_000
    w, u = torch.randn(2, 3, 4, dtype=F64, generator=random)
    mean = torch.zeros_like(w)
    for _ in range(n):
        mean += mixout.mixed(w, u, mixout.keep_mask(w.shape, p, unit, random).to(F64), p) / n
    # one entry has variance (w - u)^2 p / (1 - p)
    error = (w - u).abs() * math.sqrt(p / (1 - p) / n)
    assert ((mean - w).abs() < 5 * error).all()
    assert ((mean - u).abs() > 5 * error).any(), "this test can fail"


@pytest.mark.parametrize("unit", mixout.UNITS)
def test_mixout_gradient(unit: str) -> None:
    random = generator(3, "gradient", unit)
    w, u = torch.randn(2, 3, 4, dtype=F64, generator=random)
    keep = mixout.keep_mask(w.shape, 0.6, unit, random).to(F64)
    x = torch.randn(5, 4, dtype=F64, generator=random)
    w.requires_grad_(True)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return linear(x, mixout.mixed(w, u, keep, 0.6)).square().sum()

    assert torch.autograd.gradcheck(loss, (w,))
    (gradient,) = torch.autograd.grad(loss(w), w)
    upstream = 2 * linear(x, mixout.mixed(w, u, keep, 0.6)).T @ x  # of the mixed weight
    torch.testing.assert_close(gradient, upstream * keep / 0.4)
    assert 0 < keep.mean() < 1


def test_mixout_units() -> None:
    random = generator(4, "units")
    neuron = mixout.keep_mask((50, 400), 0.7, "neuron", random)
    weight = mixout.keep_mask((50, 400), 0.7, "weight", random)
    assert neuron.shape == (1, 400), "an input neuron is dropped for all outputs or for none"
    assert weight.shape == (50, 400)
    assert abs(float(neuron.mean()) - 0.3) < 5 * math.sqrt(0.21 / 400)
    assert abs(float(weight.mean()) - 0.3) < 5 * math.sqrt(0.21 / 20_000)
    assert weight.mean(dim=0).unique().numel() > 2


@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert"])
def test_mixout_in_a_layer_draws_from_its_own_stream(lab: Lab, model: str) -> None:
    """By hand: the weight of a step, from the documented names; evaluation is bare."""
    assembly = lab.assembly(lab.run("gad", model, *chosen("mixout", mixout__unit="weight")))
    built, clock = assembly.built, Clock(3)
    name = next(n for n in pretrained(built) if n.endswith(("query.weight", "Wqkv.weight")))
    layer = built.model.get_submodule(name.removesuffix(".weight"))
    with torch.no_grad():
        layer.weight.add_(1.0)
    batch = next(iter(assembly.loaders["validation"]))
    inputs = {n: v for n, v in batch.items() if n not in ("labels", "items")}
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    layer.register_forward_hook(lambda _, given, output: calls.append((given[0], output)))
    (callback,) = assembly.techniques["mixout"].callbacks(built)
    for step in (0, 2):
        clock.global_step = step
        callback.on_train_batch_start(clock, None, None, 0)  # type: ignore[arg-type]
        built.model.train()
        for stream, number in ((5, 0), (6, 1), (5, 0)):
            torch.manual_seed(stream)  # that of dropout: it says which pass this is, no more
            random = torch.Generator().manual_seed(stream_seed(0, "mixout", name, step, number))
            keep = mixout.keep_mask(layer.weight.shape, 0.7, "weight", random)
            mixed = mixout.mixed(layer.weight, built.reference[name], keep, 0.7)
            built.model(**inputs)
            x, output = calls[-1]
            assert torch.equal(output, linear(x, mixed, layer.bias))
        first, second, again = (output for _, output in calls[-3:])
        assert not torch.equal(first, second), "where dropout is another, so are the masks"
        assert torch.equal(first, again), "the same dropout, the same masks"
    built.model.eval()
    built.model(**inputs)
    x, output = calls[-1]
    assert torch.equal(output, linear(x, layer.weight, layer.bias))


def linears(built: Built, *depths: int) -> set[str]:
    names = set(built.layers.names(*depths))
    return {
        path
        for path, module in built.model.named_modules()
        if isinstance(module, nn.Linear) and f"{path}.weight" in names
    }


@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_modernbert"])
def test_mixout_leaves_head_new_and_frozen_layers_alone(lab: Lab, model: str) -> None:
    for order in (("mixout", "reinit"), ("reinit", "mixout")):
        assembly = lab.assembly(lab.run("gad", model, *chosen(*order)))
        assert mixing(assembly.built.model) == linears(assembly.built, 0, 1)
    built = lab.assembly(lab.run("gad", model, *chosen("mixout"))).built
    head = {n.rpartition(".")[0] for n in built.layers.head}
    assert head
    assert mixing(built.model) == linears(built, 0, 1, 2, 3) - head
    knobs = {"freeze__eval_mode": "false"}  # or frozen layers would be bare for that reason
    frozen = lab.assembly(lab.run("gad", model, *chosen("mixout", "freeze", **knobs))).built
    assert mixing(frozen.model) == linears(frozen, 2, 3) - head


@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_modernbert"])
def test_mixout_stands_where_dropout_was(lab: Lab, model: str) -> None:
    def rates(**knobs: Any) -> dict[str, float]:
        run = lab.run("gad", model, *chosen("mixout", **knobs))
        network = lab.assembly(run).built.model
        return {p: m.p for p, m in network.named_modules() if isinstance(m, nn.Dropout)}

    instead, both = rates(), rates(mixout__keep_dropout="true")
    assert set(both.values()) == {0.1}
    inside = {p for p in both if "embeddings" in p or "layer" in p}
    assert inside
    assert set(both) - inside, "the head has dropout of its own"
    assert instead == {p: 0.0 if p in inside else 0.1 for p in both}


def test_mixout_takes_modernbert_s_attention_dropout_too() -> None:
    kernel = nn.Module()
    kernel.attention_dropout = 0.2  # type: ignore[assignment]
    kernel.out_drop = nn.Dropout(0.2)
    outer = nn.Module()
    outer.inner = kernel
    assert mixout.without_dropout(outer, ["inner"]) == ["inner.out_drop"]
    assert (kernel.attention_dropout, kernel.out_drop.p) == (0.0, 0.0)


def test_mixout_begins_as_plain_training(lab: Lab) -> None:
    """At the pretrained point nothing is mixed: head and dropout of the first step are equal."""
    plain = lab.trained("gad", "tiny", "technique=none")[1]
    seen = lab.trained("gad", "tiny", *chosen("mixout", mixout__keep_dropout="true"))[1]
    assert seen.losses[:2] == plain.losses[:2], "the first step is warm-up, at rate 0"
    assert seen.losses[2] != plain.losses[2]


def test_mixout_draws_per_micro_batch(lab: Lab) -> None:
    """Parts of a step have masks of their own, and the same ones in every training."""
    asked = (*chosen("mixout"), "trainer.micro_batch=4")
    assembly = lab.assembly(lab.run("gad", "tiny", *asked))
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    uses = assembly.techniques["mixout"]._passes  # type: ignore[attr-defined]
    # 24 items in batches of 16: the third step is a whole one again, in four parts
    assert sorted(uses.values()) == [0, 1, 2, 3]


# --- what llrd and reinit have gained ------------------------------------------------------------


def test_a_step_output_is_passed_on() -> None:
    """Mixout wraps no step: what it is given comes back."""
    technique = mixout.Mixout(p=0.5, unit="neuron", keep_dropout=True)
    built = technique.edit_model(built_of(network()), Seeds(0, 0, 0, 0))

    def step(batch: Any) -> StepOutput:
        raise AssertionError

    assert technique.wrap_step(step, built) is step

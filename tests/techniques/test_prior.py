"""Techniques towards the pretrained point, and what is trained, against closed forms by hand.

Formulas are compared in float64 on a network of eleven numbers whose gradients are given; that they
reach the optimizer of a real run is seen in trainings of the tiny models.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import pytorch_lightning as pl  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.functional import linear  # noqa: E402

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.seeding import Seeds, generator, stream_seed  # noqa: E402
from bluestab.core.types import StepOutput  # noqa: E402
from bluestab.models.built import Built  # noqa: E402
from bluestab.models.layers import layer_map  # noqa: E402
from bluestab.models.param_plan import base_plan, param_groups  # noqa: E402
from bluestab.techniques import child_tuning, mixout, recadam, thaw  # noqa: E402
from bluestab.techniques.base import Technique  # noqa: E402
from bluestab.techniques.llrd import multiplier  # noqa: E402
from bluestab.techniques.parameters import pretrained  # noqa: E402
from bluestab.techniques.prior_decay import PriorDecay  # noqa: E402
from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.observed_training import mixing, watch  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.training.test_resume import compare  # noqa: E402

Make = Callable[..., Any]
F64 = torch.float64

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def refusals(make_run: Make, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        make_run("task=biosses", "model=tiny", *overrides)
    return caught.value.problems


# --- a network of eleven numbers ------------------------------------------------------------------


def network() -> nn.Module:
    """Embedding (2, 2), one block (2, 2) + (2,), head (1,): 4 + 4 + 2 + 1 numbers in float64."""
    block = nn.Module()
    block.dense = nn.Linear(2, 2, dtype=F64)
    encoder = nn.Module()
    encoder.layer = nn.ModuleList([block])
    bert = nn.Module()
    bert.embeddings, bert.encoder = nn.Embedding(2, 2, dtype=F64), encoder
    model = nn.Module()
    model.bert, model.classifier = bert, nn.Linear(1, 1, bias=False, dtype=F64)
    random = generator(7, "network")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=F64, generator=random))
    return model


HEAD = "classifier.weight"
BLOCK = "bert.encoder.layer.0.dense.weight"
BIAS = "bert.encoder.layer.0.dense.bias"
EMBEDDINGS = "bert.embeddings.weight"
OPTIM = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "wd": 0.1}


def built_of(model: nn.Module, away: float = 0.5) -> Built:
    """As a run has it, with all weights `away` from the checkpoint."""
    names = [name for name, _ in model.named_parameters()]
    reference = {name: p.detach() - away for name, p in model.named_parameters()}
    layers = layer_map(
        names, encoder="bert", embeddings=["embeddings"], blocks="encoder.layer", above=[],
        n_layers=1,
    )  # fmt: skip
    return Built(
        model=model,
        layers=layers,
        fresh=frozenset({HEAD}),
        reference=reference,
        initialise=lambda *_: None,
        loss=lambda logits, batch: logits.sum(),
    )


def optimizer_of(technique: Technique, built: Built) -> torch.optim.Optimizer:
    """As `assemble` makes it."""
    parameters = dict(built.model.named_parameters())
    plan = technique.edit_plan(base_plan(parameters, OPTIM["wd"]), built)
    groups = param_groups(plan, parameters, built.layers, OPTIM["lr"])
    betas = (OPTIM["beta1"], OPTIM["beta2"])
    return technique.wrap_optimizer(torch.optim.AdamW(groups, betas=betas, eps=OPTIM["eps"]), built)


def gradients(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
    random = generator(7, "gradients", step)
    return {
        name: torch.randn(p.shape, dtype=F64, generator=random)
        for name, p in model.named_parameters()
    }


def adam(history: Sequence[torch.Tensor]) -> torch.Tensor:
    """Adam's direction after these gradients, with bias correction (Kingma & Ba 2015)."""
    m = v = torch.zeros_like(history[0])
    for g in history:
        m = OPTIM["beta1"] * m + (1 - OPTIM["beta1"]) * g
        v = OPTIM["beta2"] * v + (1 - OPTIM["beta2"]) * g * g
    m = m / (1 - OPTIM["beta1"] ** len(history))
    v = v / (1 - OPTIM["beta2"] ** len(history))
    return m / (v.sqrt() + OPTIM["eps"])


class Clock:
    """Of a trainer, what `before_each_step` is promised."""

    def __init__(self, total: int) -> None:
        self.global_step, self.max_steps = 0, total


def trained_by_hand(
    technique: Technique, n_steps: int, given: Callable[[nn.Module, int], Mapping[str, Any]]
) -> tuple[dict[str, torch.Tensor], Built, torch.optim.Optimizer]:
    """Weights after `n_steps` with given gradients, as the trainer would step."""
    model = network()
    built = technique.edit_model(built_of(model), Seeds(0, 0, 0, 0))
    optimizer, clock = optimizer_of(technique, built), Clock(n_steps)
    callbacks = technique.callbacks(built)
    for step in range(n_steps):
        clock.global_step = step
        for callback in callbacks:
            callback.on_train_batch_start(clock, None, None, 0)  # type: ignore[arg-type]

        def closure(step: int = step) -> None:
            for name, gradient in given(model, step).items():
                model.get_parameter(name).grad = gradient.clone()

        optimizer.step(closure=closure)  # type: ignore[arg-type]
    return {n: p.detach() for n, p in model.named_parameters()}, built, optimizer


def zeros(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(p) for name, p in model.named_parameters()}


def close(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-12, atol=1e-14, msg=name)


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


# --- prior decay ---------------------------------------------------------------------------------


def test_prior_decay_without_gradient_is_a_geometric_approach() -> None:
    """Also: no other decay is left, or the weights would not go to the pretrained point."""
    decay = PriorDecay(alpha=2.0, beta=None)
    weights, built, _ = trained_by_hand(decay, 50, zeros)
    start = dict(network().named_parameters())
    for name in (EMBEDDINGS, BLOCK, BIAS):
        u = built.reference[name]
        away = (1 - OPTIM["lr"] * 2.0) ** 50 * (start[name].detach() - u)
        torch.testing.assert_close(weights[name] - u, away, rtol=1e-12, atol=1e-14)
    head = start[HEAD].detach() * (1 - OPTIM["lr"] * OPTIM["wd"]) ** 50
    torch.testing.assert_close(weights[HEAD], head, rtol=1e-12, atol=1e-14)


def test_prior_decay_stays_at_the_pretrained_point() -> None:
    """With a second decay, towards zero, it could not."""

    def at_the_point(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
        if step == 0:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name != HEAD:
                        parameter.sub_(0.5)
        return zeros(model, step)

    weights, built, _ = trained_by_hand(PriorDecay(alpha=2.0, beta=None), 5, at_the_point)
    close({n: weights[n] for n in (EMBEDDINGS, BLOCK, BIAS)}, built.reference)


@pytest.mark.parametrize("beta", [None, 0.5])
def test_prior_decay_by_hand(beta: float | None) -> None:
    """AdamW's update without its decay, then the pull; the head by `beta` or by plain decay."""
    weights, built, _ = trained_by_hand(PriorDecay(alpha=2.0, beta=beta), 12, gradients)
    model, lr = network(), OPTIM["lr"]
    expected = {}
    for name, parameter in model.named_parameters():
        w, given = parameter.detach().clone(), []
        for step in range(12):
            given.append(gradients(model, step)[name])
            if name == HEAD and beta is None:
                w = w - lr * OPTIM["wd"] * w
            w = w - lr * adam(given)
            if name == HEAD:
                w = w - lr * (beta or 0.0) * w
            else:
                w = w - lr * 2.0 * (w - built.reference[name])
        expected[name] = w
    close(weights, expected)


def test_prior_decay_leaves_frozen_and_waiting_weights_alone() -> None:
    def without_block(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
        return {n: g for n, g in gradients(model, step).items() if n != BLOCK}

    weights, _, _ = trained_by_hand(PriorDecay(alpha=2.0, beta=None), 3, without_block)
    assert torch.equal(weights[BLOCK], network().get_parameter(BLOCK))


def test_prior_decay_scales_with_the_rate_of_the_layer(lab: Lab) -> None:
    """Beside llrd, each layer's pull has its own rate: decoupled decay does."""
    knobs = {"prior_decay__alpha": 100, "llrd__decay": 0.5}
    _, seen = lab.trained("biosses", "tiny", *chosen("prior_decay", "llrd", **knobs))
    assert {depth: set() for depth in range(4)} != seen.rates
    plain = lab.trained("biosses", "tiny", *chosen("llrd", llrd__decay=0.5))[1]
    far = {n: (w.end[n] - w.checkpoint[n]).norm() for w in (plain,) for n in w.checkpoint}
    near = {n: (seen.end[n] - seen.checkpoint[n]).norm() for n in seen.checkpoint}
    ratio = {n: float(near[n] / far[n]) for n in far if n.endswith("dense.weight")}
    top = [r for n, r in ratio.items() if "layer.1." in n]
    low = [r for n, r in ratio.items() if "layer.0." in n]
    assert max(top) < min(low) < 1


def test_prior_decay_refusals(make_run: Make) -> None:
    both = "technique=[prior_decay,recadam]"
    (problem,) = refusals(make_run, both, "optim.lr=1e-5")
    assert "prior_decay and recadam both pull" in problem
    (problem,) = refusals(make_run, "technique=prior_decay", "technique.prior_decay.alpha=2e5")
    assert "go beyond the point" in problem
    zero = ("technique.prior_decay.alpha=0", "technique.prior_decay.beta=0.1")
    (problem,) = refusals(make_run, "technique=prior_decay", *zero)
    assert "switches all of prior_decay off" in problem


# --- recadam -------------------------------------------------------------------------------------


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


# --- child-tuning --------------------------------------------------------------------------------


def test_random_mask_has_mean_one() -> None:
    mask = child_tuning.random_mask(torch.Size((200, 300)), 0.3, generator(5, "mask"))
    assert mask.unique().tolist() == [0.0, pytest.approx(1 / 0.3)]
    assert abs(float(mask.double().mean()) - 1) < 5 * math.sqrt(0.7 / 0.3 / 60_000)


def test_top_share_by_hand() -> None:
    scores = {"a": torch.tensor([[5.0, 1.0], [0.0, 3.0]]), "b": torch.tensor([4.0, 2.0])}
    half = child_tuning.top_share(scores, 0.5)
    assert half["a"].tolist() == [[True, False], [False, True]]
    assert half["b"].tolist() == [True, False]
    assert sum(int(m.sum()) for m in child_tuning.top_share(scores, 0.01).values()) == 1
    assert all(bool(m.all()) for m in child_tuning.top_share(scores, 1.0).values())
    tied = child_tuning.top_share({"a": torch.tensor([1.0, 1.0, 0.0, 2.0])}, 0.5)
    assert tied["a"].tolist() == [True, True, False, True]


def test_fisher_by_hand() -> None:
    """Squared error of a line: the gradient is 2 (w x - y) x, squared, mean over batches."""
    w, unused = nn.Parameter(torch.tensor([3.0], dtype=F64)), nn.Parameter(torch.ones(2))
    batches = [{"x": x, "y": y} for x, y in ((1.0, 1.0), (2.0, 0.0), (-1.0, 2.0))]
    scores = child_tuning.fisher(
        lambda batch: ((w * batch["x"] - batch["y"]) ** 2).sum(), {"w": w, "v": unused}, batches
    )
    expected = ((2 * 2 * 1) ** 2 + (2 * 6 * 2) ** 2 + (2 * -5 * -1) ** 2) / 3
    assert scores["w"].tolist() == [pytest.approx(expected)]
    assert scores["v"].tolist() == [0.0, 0.0]
    assert w.grad is None


def test_child_tuning_f_by_hand() -> None:
    """Adam sees the masked gradients; the head's are whole."""
    technique = child_tuning.ChildTuning(mode="F", p=0.4, fisher_batch=None)
    weights, _, _ = trained_by_hand(technique, 6, gradients)
    model, lr = network(), OPTIM["lr"]
    expected = {}
    for name, parameter in model.named_parameters():
        w, given = parameter.detach().clone(), []
        for step in range(6):
            gradient = gradients(model, step)[name]
            if name != HEAD:
                random = torch.Generator().manual_seed(stream_seed(0, "child_tuning", name, step))
                keep = torch.empty(w.shape).bernoulli_(0.4, generator=random)
                gradient = gradient * (keep / 0.4)
            given.append(gradient)
            w = w - lr * (OPTIM["wd"] if w.ndim == 2 else 0.0) * w
            w = w - lr * adam(given)
        expected[name] = w
    for name, weight in weights.items():
        # the mask is drawn in float32, as the weights of a run are
        torch.testing.assert_close(weight, expected[name], rtol=1e-6, atol=1e-7)


class Gradients(pl.Callback):
    """Of the first step: gradients after clipping, and those the optimizer used."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.used = model, {}

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        if not self.used:
            self.used = {n: p.grad.clone() for n, p in self.model.named_parameters()}


def clipped_and_used(assembly: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    module, clipped = assembly.module, {}
    clip = module.configure_gradient_clipping

    def spy(*args: Any, **kwargs: Any) -> None:
        clip(*args, **kwargs)
        if not clipped:
            clipped.update({n: p.grad.clone() for n, p in module.model.named_parameters()})

    module.configure_gradient_clipping = spy
    seen = Gradients(module.model)
    assembly.trainer.callbacks.append(seen)
    assembly.trainer.fit(module, assembly.loaders["train"])
    return clipped, seen.used


@pytest.mark.parametrize("mode", ["F", "D"])
@pytest.mark.parametrize("extra", [(), ("trainer.micro_batch=5",)])
def test_child_tuning_masks_after_clipping(lab: Lab, mode: str, extra: tuple[str, ...]) -> None:
    knobs = chosen("child_tuning", child_tuning__mode=mode)
    assembly = lab.assembly(lab.run("gad", "tiny", *knobs, *extra, "optim.clip=0.01"))
    clipped, used = clipped_and_used(assembly)
    total = math.sqrt(sum(float(g.double().square().sum()) for g in clipped.values()))
    assert total == pytest.approx(0.01, rel=1e-3)
    built, scale = assembly.built, 1 / 0.3 if mode == "F" else 1.0
    masked = set(pretrained(built))
    if mode == "D":
        masked = set(built.layers.names(1, 2))
    kept, entries = 0, 0
    for name, gradient in used.items():
        if name not in masked:
            assert torch.equal(gradient, clipped[name]), name
            continue
        there = gradient != 0
        torch.testing.assert_close(gradient[there], clipped[name][there] * scale)
        some = clipped[name] != 0
        kept, entries = kept + int((there & some).sum()), entries + int(some.sum())
    assert kept / entries == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("task", ["biosses", "gad", "ncbi_disease", "hoc"])
def test_child_tuning_d_takes_its_child_from_the_training_items(lab: Lab, task: str) -> None:
    """By hand, from another assembly of the same run: no dropout, file order, training items."""
    knobs = chosen("child_tuning", child_tuning__mode="D")
    assembly = lab.assembly(lab.run(task, "tiny", *knobs, "optim.weight_decay=0"))
    seen = watch(assembly, lab.plain_transformers("tiny"))
    fresh = lab.assembly(lab.run(task, "tiny"))
    network, table = fresh.built.model.eval(), fresh.loaders["train"].dataset
    names = fresh.built.layers.names(1, 2)
    scores = {name: torch.zeros_like(network.get_parameter(name)) for name in names}
    for start in range(0, len(table), 16):
        items = [table[i] for i in range(start, min(start + 16, len(table)))]
        batch = fresh.loaders["train"].collate_fn(items)
        logits = network(**{k: v for k, v in batch.items() if k not in ("labels", "items")}).logits
        network.zero_grad()
        fresh.built.loss(logits, batch).backward()
        for name in names:
            scores[name] += network.get_parameter(name).grad ** 2 / 2
    expected = child_tuning.top_share(scores, 0.3)
    masks = assembly.techniques["child_tuning"]._masks  # type: ignore[attr-defined]
    assert masks.keys() == expected.keys()
    n, same = 0, 0
    for name, mask in masks.items():
        n, same = n + mask.numel(), same + int((mask == expected[name]).sum())
        still = seen.end[name] == seen.start[name]
        assert bool(still[~mask].all()), f"{name}: outside the child nothing moves"
    assert same / n > 0.999, "but for rounding at the bound"
    (effects,) = assembly.effects().values()
    assert effects["child_parameters"] == pytest.approx(0.3 * n, abs=2)
    assert any((seen.end[x] != seen.start[x]).any() for x in pretrained(fresh.built)
               if x not in masks)  # fmt: skip


def test_child_tuning_fisher_per_item(lab: Lab) -> None:
    """The paper's equation is not the code's: gradients of a batch cancel."""

    def child(batch: str) -> dict[str, Any]:
        knobs = chosen("child_tuning", child_tuning__mode="D", child_tuning__fisher_batch=batch)
        assembly = lab.assembly(lab.run("gad", "tiny", *knobs, "optim.steps=1"))
        assembly.trainer.fit(assembly.module, assembly.loaders["train"])
        return dict(assembly.techniques["child_tuning"]._masks)  # type: ignore[attr-defined]

    one, sixteen, usual = child("1"), child("16"), child("null")
    assert all(torch.equal(sixteen[n], usual[n]) for n in usual)
    assert any(not torch.equal(one[n], usual[n]) for n in usual)


def test_child_tuning_d_does_not_disturb_the_run(lab: Lab) -> None:
    """Batches, dropout and the first loss are those of plain training; with all kept, all is."""
    plain = lab.trained("gad", "tiny", "technique=none")[1]
    seen = lab.trained("gad", "tiny", *chosen("child_tuning", child_tuning__mode="D"))[1]
    assert seen.batches == plain.batches
    assert seen.forwards == plain.forwards, "Fisher passes are no training passes"
    assert seen.losses[:2] == plain.losses[:2]
    assert seen.losses[2] != plain.losses[2]


def test_child_tuning_d_sees_through_a_thaw(lab: Lab) -> None:
    """What is still frozen at the first step has scores all the same, and stays frozen."""
    knobs = chosen("thaw", "child_tuning", child_tuning__mode="D")
    assembly = lab.assembly(lab.run("gad", "tiny", *knobs))
    seen = watch(assembly, lab.plain_transformers("tiny"))
    masks = assembly.techniques["child_tuning"]._masks  # type: ignore[attr-defined]
    low = [m for n, m in masks.items() if ".layer.0." in n]
    assert 0 < sum(int(m.sum()) for m in low) < sum(m.numel() for m in low)
    assert assembly.effects()["thaw"]["trains_from"]["1"] == 1
    assert seen.gradients["bert.encoder.layer.0.output.dense.weight"][0] is None


# --- thaw ----------------------------------------------------------------------------------------


def test_opens_at_by_hand() -> None:
    def opens(**knobs: Any) -> list[int]:
        return [thaw.opens_at(d, 3, total_steps=100, **knobs) for d in range(5)]

    assert opens(share=0.4, phases=None) == [40, 30, 20, 10, 0]
    assert opens(share=0.4, phases=1) == [40, 40, 40, 40, 0]
    assert opens(share=0.4, phases=2) == [40, 40, 20, 20, 0]
    assert opens(share=0.4, phases=3) == [40, 27, 14, 14, 0]
    assert opens(share=0.0, phases=None) == [0] * 5
    assert thaw.opens_at(0, 11, share=0.07, phases=1, total_steps=100) == 7, "no rounding noise"


def test_thaw_opens_from_the_top_and_only_then_moves(lab: Lab) -> None:
    """Six steps, share 0.5: block 2 at step 1, block 1 at 2, embeddings at 3."""
    asked = (*chosen("thaw"), "optim.steps=6", "optim.warmup=0")
    assembly = lab.assembly(lab.run("gad", "tiny", *asked))
    built, moved = assembly.built, {}

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            for name, parameter in built.model.named_parameters():
                if not torch.equal(parameter, assembly.built.reference[name]):
                    moved.setdefault(built.layers.depth[name], trainer.global_step - 1)

    built.model.requires_grad_(True)
    assembly.trainer.callbacks.append(Watch())
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    assert {d: step for d, step in moved.items() if d < 3} == {2: 1, 1: 2, 0: 3}
    assert assembly.effects()["thaw"] == {"trains_from": {"0": 3, "1": 2, "2": 1, "3": 0}}
    optimizer = assembly.trainer.optimizers[0]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            steps = float(optimizer.state[parameter]["step"])
            assert steps == 6 - {0: 3, 1: 2, 2: 1, 3: 0}[group["depth"]], "own bias correction"


def test_a_thawed_group_starts_like_a_fresh_adam(lab: Lab) -> None:
    """Its first update is lr * sign(gradient), as Adam's first always is; not a decayed one."""
    asked = (*chosen("thaw", thaw__phases=1), "optim.steps=4", "optim.warmup=0",
             "optim.weight_decay=0", "optim.eps=1e-12")  # fmt: skip
    assembly = lab.assembly(lab.run("gad", "tiny", *asked))
    name, seen = "bert.encoder.layer.0.output.dense.weight", []
    weight = assembly.built.model.get_parameter(name)

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            self.rate, self.before = trainer.optimizers[0].param_groups[0]["lr"], weight.clone()

        def on_train_batch_end(self, *_: Any) -> None:
            seen.append((self.rate, weight.detach() - self.before, weight.grad))

    assembly.trainer.callbacks.append(Watch())
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    assert [grad is None for _, _, grad in seen] == [True, True, False, False]
    assert all(not change.any() for _, change, _ in seen[:2])
    rate, change, gradient = seen[2]
    torch.testing.assert_close(change, -rate * gradient.sign(), rtol=1e-2, atol=1e-6)


def test_the_best_weights_of_a_thaw_are_whole(lab: Lab) -> None:
    """Best before the thaw, then all moves: going back must bring frozen layers back as well."""
    asked = (*chosen("thaw", thaw__phases=1), "optim.steps=6", "trainer.eval_every=1")
    assembly = lab.assembly(lab.run("biosses", "tiny", *asked))
    history, scores = assembly.history, iter([0.9, 0.5, 0.4, 0.3, 0.2, 0.1])
    add = history.add
    history.add = lambda step, found, *rest: add(  # type: ignore[method-assign]
        step, {**found, history.metric.name: next(scores)}, *rest
    )
    parameters = dict(assembly.built.model.named_parameters())
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    below = assembly.built.layers.names(0, 1, 2)
    assert history.best_step == 1
    assert any(not torch.equal(parameters[n], assembly.built.reference[n]) for n in below)
    history.restore_best()
    for name in below:
        assert torch.equal(parameters[name], assembly.built.reference[name]), name


def test_thaw_trains_new_layers_from_the_start_and_frozen_ones_never(lab: Lab) -> None:
    assembly, _ = lab.trained("gad", "tiny", *chosen("thaw", "reinit", thaw__phases=1))
    assert assembly.effects()["thaw"]["trains_from"] == {"0": 2, "1": 2, "2": 0, "3": 0}
    assembly, seen = lab.trained("gad", "tiny", *chosen("freeze", "thaw", thaw__phases=1))
    assert assembly.effects()["thaw"]["trains_from"] == {"2": 2, "3": 0}
    assert {n for n in seen.start if n not in seen.moved} >= set(assembly.built.layers.names(0, 1))


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_thaw_goes_on_from_any_phase(make_run: Make, tmp_path: Path, step: int) -> None:
    """Twelve steps; openings at 2, 4, 6."""
    asked = (
        *("task=gad", "model=tiny", *chosen("thaw"), "device=cpu", "optim.batch_size=7"),
        *("optim.epochs=3", "optim.lr=3e-3"),
    )
    compare(lambda: make_run(*asked), tmp_path, step)


@pytest.mark.parametrize("step", [3, 8])
def test_child_tuning_d_goes_on_with_its_child(make_run: Make, tmp_path: Path, step: int) -> None:
    asked = (
        *("task=ncbi_disease", "model=tiny_electra", "device=cpu", "optim.batch_size=7"),
        *("optim.epochs=3", "optim.lr=3e-3", *chosen("child_tuning", child_tuning__mode="D")),
    )
    compare(lambda: make_run(*asked), tmp_path, step)


# --- train only ----------------------------------------------------------------------------------


def trains(lab: Lab, model: str, *techniques: str, **knobs: Any) -> set[str]:
    """Encoder parameters that train, by names without the encoder's."""
    assembly = lab.assembly(lab.run("gad", model, *chosen("train_only", *techniques, **knobs)))
    plan, head = assembly.plan, assembly.built.layers.head
    assert all(plan[name].trainable for name in head)
    return {n for n, rule in plan.items() if rule.trainable and n not in head}


def names_of(lab: Lab, model: str) -> set[str]:
    built = lab.assembly(lab.run("gad", model)).built
    return set(built.layers.depth) - built.layers.head


@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_roberta"])
def test_train_only_biases_is_bitfit(lab: Lab, model: str) -> None:
    names = names_of(lab, model)
    found = trains(lab, model, train_only__parts="[biases]")
    assert found == {n for n in names if n.endswith(".bias")}
    block = {n for n in found if ".layer.1." in n}
    assert len(block) == 8, "q, k, v, attention out, intermediate, out, two LayerNorms"


def test_train_only_parts_by_hand(lab: Lab) -> None:
    norms = trains(lab, "tiny", train_only__parts="[layernorms]")
    assert norms == {n for n in names_of(lab, "tiny") if "LayerNorm" in n}
    attention = trains(lab, "tiny", train_only__parts="[attention]")
    assert attention == {n for n in names_of(lab, "tiny") if ".attention." in n}
    assert len(attention) == 2 * 10
    modern = trains(lab, "tiny_modernbert", train_only__parts="[attention]")
    # ModernBERT's first block has no norm before its attention, the others' is outside of it
    assert modern == {f"model.layers.{i}.attn.{w}.weight" for i in (0, 1) for w in ("Wqkv", "Wo")}
    both = trains(lab, "tiny", train_only__parts="[layernorms,attention]")
    assert both == norms | attention


def test_train_only_patterns(lab: Lab) -> None:
    found = trains(
        lab, "tiny", train_only__parts="[]", train_only__patterns="['layer\\.1\\.','pooler']"
    )
    assert found == {n for n in names_of(lab, "tiny") if ".layer.1." in n or "pooler" in n}


def test_train_only_composes(lab: Lab) -> None:
    """`freeze` is an AND, re-initialised layers train whole, `llrd` scales what is left."""
    biases = {n for n in names_of(lab, "tiny") if n.endswith(".bias")}
    one = {"train_only__parts": "[biases]"}
    found = trains(lab, "tiny", "freeze", "llrd", **one)
    assert found == {n for n in biases if ".layer.1." in n or "pooler" in n}
    found = trains(lab, "tiny", "reinit", **one)
    assert found == biases | {n for n in names_of(lab, "tiny") if ".layer.1." in n or "pool" in n}
    assembly = lab.assembly(lab.run("gad", "tiny", *chosen("train_only", "llrd", **one)))
    for group in assembly.module.configure_optimizers()["optimizer"].param_groups:  # type: ignore[index, call-overload]
        assert group["lr_scale"] == pytest.approx(0.9 ** (3 - group["depth"]))


def test_train_only_refusals(make_run: Make, lab: Lab) -> None:
    one = "technique=train_only"
    (problem,) = refusals(make_run, one, "technique.train_only.parts=[bias]")
    assert problem.endswith("expected a list of biases, layernorms, attention")
    (problem,) = refusals(make_run, one, "technique.train_only.patterns=['(']")
    assert "expected a regular expression" in problem
    (problem,) = refusals(make_run, one, "technique.train_only.parts=[]")
    assert "both empty" in problem
    for model, knobs, said in (
        ("tiny_modernbert", {"train_only__parts": "[biases]"}, "no such parameters"),
        ("tiny", {"train_only__patterns": "['layer\\.7']"}, "matches no parameter"),
    ):
        with pytest.raises(ConfigError, match=said):
            lab.assembly(lab.run("gad", model, *chosen("train_only", **knobs)))


# --- what llrd and reinit have gained ------------------------------------------------------------


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


@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_modernbert"])
def test_reinit_of_layernorms_only(lab: Lab, model: str) -> None:
    knobs = chosen("reinit", reinit__layernorms_only="true")
    assembly, seen = lab.trained("gad", model, *knobs)
    norms = {n for n in seen.changed if "norm" in n.lower()}
    assert set(seen.changed) == norms
    blocks = {n for n in norms if ".layer.1." in n or "layers.1." in n}
    assert len(blocks) == (4 if model != "tiny_modernbert" else 2)
    assert norms - blocks == ({"model.final_norm.weight"} if model == "tiny_modernbert" else set())
    for name in norms:
        value = 0.0 if name.endswith("bias") else 1.0
        assert torch.equal(seen.start[name], torch.full_like(seen.start[name], value))
    assert assembly.built.fresh >= norms
    assert assembly.effects()["reinit"]["changed_tensors"] == len(norms)


def test_a_step_output_is_passed_on() -> None:
    """Mixout wraps no step: what it is given comes back."""
    technique = mixout.Mixout(p=0.5, unit="neuron", keep_dropout=True)
    built = technique.edit_model(built_of(network()), Seeds(0, 0, 0, 0))

    def step(batch: Any) -> StepOutput:
        raise AssertionError

    assert technique.wrap_step(step, built) is step

"""Smoothness: divergences against closed forms, steps against cases worked out by hand.

By hand means: a network so small that what R3F, SMART and FreeLB must find can be written down.
Then the same steps on every head and family, with micro-batches and in bfloat16.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.seeding import torch_streams  # noqa: E402
from bluestab.core.types import StepOutput  # noqa: E402
from bluestab.models.built import Built  # noqa: E402
from bluestab.models.divergences import (  # noqa: E402
    divergence,
    kind_of,
    squared_difference,
    symmetric_bernoulli_kl,
    symmetric_kl,
)
from bluestab.models.passes import (  # noqa: E402
    fork_dropout_stream,
    gradients,
    noise,
    perturbed,
    replay_dropout_stream,
    with_gradients,
    word_embeddings,
)
from bluestab.techniques import freelb, smart  # noqa: E402
from bluestab.techniques.freelb import Freelb  # noqa: E402
from bluestab.techniques.r3f import R3f  # noqa: E402
from bluestab.techniques.rdrop import Rdrop  # noqa: E402
from bluestab.techniques.smart import Smart  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402
from tests.training.test_resume import SHORT as RESUMED  # noqa: E402
from tests.training.test_resume import compare, making  # noqa: E402, F401

Make = Callable[..., Any]
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def float64(*values: Any) -> Any:
    return torch.tensor(values, dtype=torch.float64)


# --- divergences ---------------------------------------------------------------------------------


def random_logits(*shape: int, seed: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_symmetric_kl_by_hand() -> None:
    """p = (1/2, 1/2), q = (9/10, 1/10)."""
    expected = (
        0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
        + 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    )  # fmt: skip
    one, other = float64([7.0, 7.0]), float64([math.log(9.0), 0.0])
    assert symmetric_kl(one, other).item() == pytest.approx(expected, rel=1e-14)


def test_symmetric_kl_is_torch_s() -> None:
    from torch.distributions import Categorical, kl_divergence

    one, other = random_logits(5, 4, seed=1), random_logits(5, 4, seed=2)
    p, q = Categorical(logits=one), Categorical(logits=other)
    expected = kl_divergence(p, q) + kl_divergence(q, p)
    assert torch.allclose(symmetric_kl(one, other), expected, rtol=1e-12)


def test_bernoulli_and_regression_are_torch_s() -> None:
    from torch.distributions import Bernoulli, Normal, kl_divergence

    one, other = random_logits(5, 4, seed=1), random_logits(5, 4, seed=2)
    p, q = Bernoulli(logits=one), Bernoulli(logits=other)
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).sum(dim=-1)
    assert torch.allclose(symmetric_bernoulli_kl(one, other), expected, rtol=1e-12)
    a, b = one[:, :1], other[:, :1]
    r, s = Normal(a, 1.0), Normal(b, 1.0)
    expected = (kl_divergence(r, s) + kl_divergence(s, r)).squeeze(-1)
    assert torch.allclose(squared_difference(a, b), expected, rtol=1e-12)


def test_two_classes_are_one_decision() -> None:
    one, other = random_logits(6, 1, seed=3), random_logits(6, 1, seed=4)
    as_classes = [torch.cat([a, torch.zeros_like(a)], dim=1) for a in (one, other)]
    assert torch.allclose(symmetric_kl(*as_classes), symmetric_bernoulli_kl(one, other), rtol=1e-12)


HEADS = {
    "classification": ((5, 3), torch.tensor([0, 1, 2, 0, 1])),
    "multi_label": ((5, 3), torch.ones(5, 3)),
    "regression": ((5, 1), torch.ones(5)),
    "tagging": ((2, 4, 3), torch.tensor([[0, 1, -100, -100], [2, -100, 1, 0]])),
}


@pytest.mark.parametrize("kind", HEADS)
def test_divergence_of_every_head(kind: str) -> None:
    shape, labels = HEADS[kind]
    one, other = random_logits(*shape, seed=5), random_logits(*shape, seed=6)
    assert kind_of(one, labels) == kind
    apart = divergence(one, other, labels)
    assert apart.dtype == torch.float64
    assert apart.shape == ()
    assert apart > 0
    assert divergence(other, one, labels).item() == pytest.approx(apart.item(), rel=1e-14)
    assert divergence(one, one, labels).item() == 0
    one.requires_grad_()
    other.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: divergence(a, b, labels), (one, other))
    if kind == "classification":
        assert torch.allclose(apart, symmetric_kl(one, other).sum() / 5)
    if kind == "multi_label":
        assert torch.allclose(apart, symmetric_bernoulli_kl(one, other).sum() / 5)
    if kind == "regression":
        assert torch.allclose(apart, ((one - other) ** 2).sum() / 5)
    if kind == "tagging":
        kept = [(0, 0), (0, 1), (1, 0), (1, 2), (1, 3)]
        expected = sum(symmetric_kl(one[i], other[i]) for i in kept) / 5
        assert torch.allclose(apart, expected)


@pytest.mark.parametrize("kind", HEADS)
def test_divergences_are_float32_and_finite(kind: str) -> None:
    shape, labels = HEADS[kind]
    one, other = random_logits(*shape, seed=5), random_logits(*shape, seed=6)
    half = divergence(one.bfloat16(), other.bfloat16(), labels)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(divergence(one, other, labels).item(), rel=0.05)
    far = divergence((1e4 * one).float(), (-1e4 * one).float(), labels)
    assert torch.isfinite(far)


def test_shares_of_micro_batches_sum_up() -> None:
    from bluestab.training.loop.micro_batches import counted_items, counted_labels, micro_batches

    for kind, (shape, labels) in HEADS.items():
        one, other = random_logits(*shape, seed=5), random_logits(*shape, seed=6)
        mask = torch.ones((len(labels), 1 if labels.dim() == 1 else labels.shape[1]))
        batch = {"labels": labels, "items": torch.arange(len(labels)), "attention_mask": mask}
        batch |= {"one": one, "other": other}
        count = counted_labels if kind == "tagging" else counted_items
        parts = micro_batches(batch, 1, count)
        assert len(parts) == len(labels)
        total = sum(w * divergence(p["one"], p["other"], p["labels"]) for w, p in parts)
        assert torch.allclose(total, divergence(one, other, labels))


# --- passes --------------------------------------------------------------------------------------


def test_streams_are_put_back() -> None:
    torch.manual_seed(5)
    start = torch_streams(CPU)
    first = torch.rand(3)
    after = torch.get_rng_state()
    with replay_dropout_stream(start, CPU):
        assert torch.equal(torch.rand(3), first)
        torch.rand(100)
    assert torch.equal(torch.get_rng_state(), after)
    drawn = {}
    for name in ("a", "b", "a"):
        with fork_dropout_stream(CPU, name):
            drawn.setdefault(name, []).append(torch.rand(3))
        assert torch.equal(torch.get_rng_state(), after)
        assert torch.initial_seed() == 5
    assert torch.equal(*drawn["a"])
    assert not torch.equal(drawn["a"][0], drawn["b"][0])
    assert not torch.equal(drawn["a"][0], first)
    with pytest.raises(RuntimeError, match="planned"), fork_dropout_stream(CPU, "a"):
        raise RuntimeError("planned")
    assert torch.equal(torch.get_rng_state(), after)


def test_known_gradients_are_handed_on() -> None:
    weights = [torch.nn.Parameter(float64(1.0, 2.0)), torch.nn.Parameter(float64(3.0))]
    unused = torch.nn.Parameter(float64(4.0))
    loss = (weights[0] ** 2).sum() * weights[1].sum()
    known = gradients(loss, [*weights, unused])
    assert known[2] is None
    again = with_gradients(loss, [*weights, unused], known)
    assert again.item() == loss.item()
    (0.25 * again + weights[1].sum()).backward()
    assert torch.equal(weights[0].grad, 0.25 * float64(6.0, 12.0))
    assert torch.equal(weights[1].grad, float64(0.25 * 5 + 1))
    assert unused.grad is None


# --- a network to work out by hand ---------------------------------------------------------------


class Toy(torch.nn.Module):
    """The sum over real word pieces of e . w, or a little more of it: a number per item."""

    def __init__(self, curved: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(6, 2, dtype=torch.float64)
        self.w = torch.nn.Parameter(float64(0.5, -2.0))
        self.dropout = torch.nn.Dropout(dropout)
        self.curved = curved
        with torch.no_grad():
            self.table.weight.copy_(random_logits(6, 2, seed=8))

    def get_input_embeddings(self) -> Any:
        return self.table

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        sums = (self.table(input_ids) * attention_mask.unsqueeze(-1)).sum(dim=1)
        out = self.dropout(sums) @ self.w
        return (out.tanh() + out**2 if self.curved else out).unsqueeze(-1)


BATCH = {
    "input_ids": torch.tensor([[1, 2, 3], [4, 5, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
    "labels": torch.tensor([1.0, -1.0], dtype=torch.float64),
    "items": torch.arange(2),
}


@dataclass
class ByHand:
    """A toy network, its plain step, and what techniques are told of it."""

    toy: Toy
    calls: int = 0

    def step(self, batch: Any) -> StepOutput:
        self.calls += 1
        logits = self.toy(batch["input_ids"], batch["attention_mask"])
        return StepOutput(((logits.squeeze(-1) - batch["labels"]) ** 2).mean(), logits)

    def wrapped(self, technique: Any) -> Any:
        return technique.wrap_step(self.step, self.built())

    def built(self) -> Built:
        return Built(self.toy, None, frozenset(), {}, None, None)  # type: ignore[arg-type]

    def gradients(self, loss: Any) -> list[Any]:
        weights = [self.toy.table.weight, self.toy.w]
        return list(torch.autograd.grad(loss, weights, retain_graph=True))


def same(one: list[Any], other: list[Any]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(one, other, strict=True))


# --- R-Drop --------------------------------------------------------------------------------------


def test_rdrop_of_two_examples_by_hand() -> None:
    """Two classes; the passes say (1/2, 1/2) and (3/4, 1/4) of both, gold 0 and 1."""
    from torch.nn.functional import cross_entropy

    passes = iter([float64([0.0, 0.0], [0.0, 0.0]), float64([math.log(3), 0.0], [math.log(3), 0])])
    labels = torch.tensor([0, 1])

    def step(batch: Any) -> StepOutput:
        logits = next(passes)
        return StepOutput(cross_entropy(logits, batch["labels"]), logits)

    twice = Rdrop(alpha=0.7).wrap_step(step, None)  # type: ignore[arg-type]
    output = twice({"labels": labels, "input_ids": labels})
    first = -math.log(0.5)
    second = (-math.log(0.75) - math.log(0.25)) / 2
    kl = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    lk = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert output.loss.item() == pytest.approx(
        (first + second) / 2 + 0.7 * (kl + lk) / 2, rel=1e-12
    )
    assert torch.equal(output.logits, float64([0.0, 0.0], [0.0, 0.0]))


def test_rdrop_of_regression_by_hand() -> None:
    hand = ByHand(Toy(dropout=0.5))
    torch.manual_seed(11)
    output = hand.wrapped(Rdrop(alpha=0.7))(BATCH)
    torch.manual_seed(11)
    first = hand.step(BATCH)
    with fork_dropout_stream(CPU, "rdrop"):
        second = hand.step(BATCH)
    apart = ((first.logits - second.logits) ** 2).mean()
    assert apart > 0
    assert torch.equal(output.logits, first.logits), "the first pass is that of any arm"
    assert torch.allclose(output.loss, (first.loss + second.loss) / 2 + 0.35 * apart)


def test_rdrop_without_dropout_is_the_plain_loss() -> None:
    hand = ByHand(Toy())
    assert torch.equal(hand.wrapped(Rdrop(alpha=3.0))(BATCH).loss, hand.step(BATCH).loss)
    assert hand.calls == 3


# --- R3F -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["uniform", "normal"])
def test_r3f_of_a_linear_network_by_hand(law: Any) -> None:
    """f(e + z) - f(e) is w . (sum of z): the penalty is the mean of its squares."""
    hand = ByHand(Toy())
    technique = R3f(weight=0.3, eps=0.1, noise=law, same_dropout=True)
    torch.manual_seed(12)
    z = 0.1 * noise(hand.toy, BATCH, law, "r3f", "noise")
    assert torch.equal(z[1, 2], float64(0.0, 0.0)), "none at padding"
    output = hand.wrapped(technique)(BATCH)
    expected = hand.step(BATCH).loss + 0.3 * ((z.sum(dim=1) @ hand.toy.w) ** 2).mean()
    assert torch.allclose(output.loss, expected, rtol=1e-12)
    assert output.loss > hand.step(BATCH).loss
    assert same(hand.gradients(output.loss), hand.gradients(expected))


def test_sizes_of_the_noise() -> None:
    hand = ByHand(Toy())
    batch = {
        "input_ids": torch.ones(50, 40, dtype=torch.long),
        "attention_mask": torch.ones(50, 40),
    }
    torch.manual_seed(1)
    uniform = noise(hand.toy, batch, "uniform", "a")
    assert uniform.shape == (50, 40, 2)
    assert uniform.abs().max() <= 1
    assert uniform.std().item() == pytest.approx(3**-0.5, rel=0.05)
    assert noise(hand.toy, batch, "normal", "a").std().item() == pytest.approx(1, rel=0.05)
    assert torch.equal(uniform, noise(hand.toy, batch, "uniform", "a")), "of the step alone"
    assert not torch.equal(uniform, noise(hand.toy, batch, "uniform", "b"))
    torch.manual_seed(2)
    assert not torch.equal(uniform, noise(hand.toy, batch, "uniform", "a"))


def test_r3f_with_and_without_the_same_dropout() -> None:
    penalties = {}
    for same_dropout_ in (True, False):
        hand = ByHand(Toy(dropout=0.5))
        technique = R3f(weight=1.0, eps=1e-4, noise="uniform", same_dropout=same_dropout_)
        torch.manual_seed(13)
        output = hand.wrapped(technique)(BATCH)
        torch.manual_seed(13)
        plain = hand.step(BATCH)
        assert torch.equal(output.logits, plain.logits)
        penalties[same_dropout_] = (output.loss - plain.loss).item()
    assert 0 < penalties[True] < 1e-6
    assert penalties[False] > 1e-3


# --- SMART ---------------------------------------------------------------------------------------


def new_smart(**knobs: Any) -> Smart:
    usual = {"weight": 0.3, "steps": 2, "eps": 0.1, "step_size": 1.0, "start_noise": 0.01}
    return Smart(**{**usual, "proximal": 0.0, "momentum": 0.9, **knobs})


def test_smart_finds_the_worst_corner_of_a_linear_network() -> None:
    """Of w . (sum of d) in a cube: every d at +-eps by the sign of w. A step of 1 leaves the cube
    for the larger entry of w, and for the other, a quarter as large, with 0.25 as well."""
    hand = ByHand(Toy())
    torch.manual_seed(14)
    output = hand.wrapped(new_smart())(BATCH)
    pieces = float64(3.0, 2.0)
    worst = pieces * 0.1 * hand.toy.w.abs().sum()
    plain = hand.step(BATCH).loss
    assert output.loss.item() == pytest.approx((plain + 0.3 * (worst**2).mean()).item(), rel=1e-12)
    assert hand.calls == 2 + 2 + 1, "one clean pass, two of the search, one at the worst"


def test_smart_s_step_by_hand() -> None:
    delta = float64([[0.02, -0.01], [0.0, 0.0]], [[0.0, 0.0], [0.05, 0.0]])
    gradient = float64([[4.0, -1.0], [0.5, 2.0]], [[0.0, 0.0], [0.0, 0.0]])
    found = smart.ascended(delta, gradient, 0.04, 0.05)
    expected = float64([[0.05, -0.02], [0.005, 0.02]], [[0.0, 0.0], [0.05, 0.0]])
    assert torch.allclose(found, expected, rtol=1e-12)


def test_smart_gets_gradients_through_both_sides() -> None:
    """Of a curved network, against the formula written out with the perturbation given."""
    hand = ByHand(Toy(curved=True))
    technique = new_smart(steps=1, step_size=0.03)
    torch.manual_seed(15)
    output = hand.wrapped(technique)(BATCH)
    delta = (0.01 * noise(hand.toy, BATCH, "normal", "smart", "noise")).requires_grad_()
    answer = hand.step(BATCH).logits.detach()
    with perturbed(hand.toy, delta):
        apart = ((hand.step(BATCH).logits - answer) ** 2).sum() / 2
    (uphill,) = torch.autograd.grad(apart, [delta])
    largest = uphill.flatten(1).abs().max(dim=1).values.view(2, 1, 1)
    worst = (delta.detach() + 0.03 * uphill / largest).clamp(-0.1, 0.1)
    clean = hand.step(BATCH)
    with perturbed(hand.toy, worst):
        moved = hand.step(BATCH)
    expected = clean.loss + 0.3 * ((clean.logits - moved.logits) ** 2).mean()
    assert torch.allclose(output.loss, expected, rtol=1e-12)
    assert same(hand.gradients(output.loss), hand.gradients(expected))
    stopped = clean.loss + 0.3 * ((clean.logits.detach() - moved.logits) ** 2).mean()
    assert not same(hand.gradients(output.loss), hand.gradients(stopped))


def test_smart_s_proximal_term_by_hand() -> None:
    """After one step of the optimizer the mean of the weights is 0.9 of the old, 0.1 of the new."""
    hand, technique = ByHand(Toy()), new_smart(proximal=2.0)
    optimizer = torch.optim.SGD(hand.toy.parameters(), lr=0.05)
    assert technique.wrap_optimizer(optimizer, hand.built()) is optimizer
    step = hand.wrapped(technique)
    without = hand.wrapped(new_smart())
    torch.manual_seed(16)
    assert torch.equal(step(BATCH).loss, without(BATCH).loss), "it stands where it was"
    old = {n: p.detach().clone() for n, p in hand.toy.named_parameters()}
    hand.step(BATCH).loss.backward()
    optimizer.step()
    new = {n: p.detach().clone() for n, p in hand.toy.named_parameters()}
    mean = {n: 0.9 * old[n] + 0.1 * new[n] for n in new}
    assert all(torch.allclose(technique.state_dict()["mean"][n], mean[n]) for n in mean)
    torch.manual_seed(16)
    output, plain = step(BATCH), without(BATCH)
    assert all(torch.equal(p, new[n]) for n, p in hand.toy.named_parameters())
    mask = BATCH["attention_mask"].unsqueeze(-1)
    sums = (mean["table.weight"][BATCH["input_ids"]] * mask).sum(dim=1)
    before = (sums @ mean["w"]).unsqueeze(-1)
    expected = plain.loss + 2.0 * ((plain.logits - before) ** 2).mean()
    assert torch.allclose(output.loss, expected, rtol=1e-12)
    assert output.loss > plain.loss
    assert same(hand.gradients(output.loss), hand.gradients(expected))
    other = new_smart(proximal=2.0)
    other.wrap_optimizer(optimizer, hand.built())
    other.load_state_dict(technique.state_dict())
    torch.manual_seed(16)
    assert torch.equal(hand.wrapped(other)(BATCH).loss, output.loss)


# --- FreeLB --------------------------------------------------------------------------------------


def test_freelb_s_step_by_hand() -> None:
    delta = float64([[0.3, 0.0]], [[0.0, 0.1]], [[0.2, 0.0]])
    gradient = float64([[0.0, 5.0]], [[3e-9, 4e-9]], [[0.0, 0.0]])
    moved = freelb.ascended(delta, gradient, 0.4, None)
    assert torch.allclose(moved, float64([[0.3, 0.4]], [[0.24, 0.42]], [[0.2, 0.0]]))
    inside = freelb.ascended(delta, gradient, 0.4, 0.25)
    assert torch.allclose(inside[0], float64([0.15, 0.2]))
    assert inside[1].norm().item() == pytest.approx(0.25)
    assert torch.allclose(inside[2], float64([0.2, 0.0])), "inside the ball nothing is touched"


def test_freelb_s_start_by_hand() -> None:
    uniform = torch.ones(2, 3, 2, dtype=torch.float64) * BATCH["attention_mask"].unsqueeze(-1)
    start = freelb.start_of(uniform, BATCH["attention_mask"], 0.16)
    assert torch.allclose(start.flatten(1).norm(dim=1), float64(0.16, 0.16))
    assert start[0, 0, 0].item() == pytest.approx(0.16 / 6**0.5)
    assert start[1, 0, 0].item() == pytest.approx(0.16 / 4**0.5)
    assert start[1, 2, 0].item() == 0


@pytest.mark.parametrize("ascents", [2, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_freelb_s_gradient_is_that_of_the_mean_loss(ascents: int, dropout: float) -> None:
    """Against all K graphs kept and one backward pass through their mean."""
    hand = ByHand(Toy(curved=True, dropout=dropout))
    technique = Freelb(ascents=ascents, step_size=0.1, init=0.16, max_norm=0.2)
    torch.manual_seed(17)
    output = hand.wrapped(technique)(BATCH)
    assert hand.calls == ascents
    found = hand.gradients(0.25 * output.loss)
    uniform = noise(hand.toy, BATCH, "uniform", "freelb", "noise")
    delta, losses = freelb.start_of(uniform, BATCH["attention_mask"], 0.16), []
    for _ in range(ascents):
        delta.requires_grad_()
        torch.manual_seed(17)  # the same units are dropped in all passes
        with perturbed(hand.toy, delta):
            losses.append(hand.step(BATCH).loss)
        (uphill,) = torch.autograd.grad(losses[-1], [delta], retain_graph=True)
        delta = delta.detach() + 0.1 * uphill / uphill.flatten(1).norm(dim=1).view(2, 1, 1)
        norms = delta.flatten(1).norm(dim=1).view(2, 1, 1)
        delta = torch.where(norms > 0.2, 0.2 * delta / norms, delta)
    mean = torch.stack(losses).mean()
    assert torch.allclose(output.loss, mean, rtol=1e-12)
    assert same(found, hand.gradients(0.25 * mean))
    assert dropout or losses[-1] > losses[0], "the ascent makes it harder"


# --- every head, every family --------------------------------------------------------------------

TECHNIQUES = ("rdrop", "r3f", "smart", "freelb")
PASSES = {"rdrop": 2, "r3f": 2, "smart": 3, "freelb": 3}
TASKS = ("biosses", "gad", "hoc", "ncbi_disease")
MODELS = ("tiny", "tiny_electra", "tiny_roberta", "tiny_modernbert")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("model", MODELS)
def test_the_hook_perturbs_what_inputs_embeds_would(make_assembly: Make, model: str) -> None:
    network = make_assembly("task=gad", f"model={model}", "device=cpu").built.model.eval()
    ids = torch.arange(5, 17).view(2, 6)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    z = 0.1 * noise(network, batch, "normal", "test")
    table = word_embeddings(network)
    assert z.shape == (*ids.shape, table.weight.shape[1])
    with torch.no_grad():
        plain = network(**batch).logits
        with perturbed(network, z):
            found = network(**batch).logits
        given = {"inputs_embeds": table(ids) + z, "attention_mask": batch["attention_mask"]}
        expected = network(**given).logits
        assert torch.allclose(found, expected, atol=1e-6)
        assert not torch.allclose(found, plain, atol=1e-6)
        assert torch.equal(network(**batch).logits, plain), "the hook is gone"
        with pytest.raises(RuntimeError, match="attention kernel"), perturbed(network, z[:1]):
            network(**batch)


@pytest.mark.parametrize(
    ("task", "model"), [*((t, "tiny") for t in TASKS), *(("hoc", m) for m in MODELS[1:])]
)
@pytest.mark.parametrize("name", TECHNIQUES)
def test_first_pass_and_counts(make_assembly: Make, name: str, task: str, model: str) -> None:
    """The logits of a wrapped step are those of plain training: same head, batch and dropout."""
    overrides = (f"task={task}", f"model={model}", "device=cpu", "optim.steps=1")
    outputs = {}
    for technique in ("technique=none", *([chosen(name)])):
        asked = (technique,) if isinstance(technique, str) else technique
        assembly = make_assembly(*overrides, *asked)
        batch = next(iter(assembly.loaders["train"]))
        assembly.built.model.train()
        torch.manual_seed(18)
        outputs[asked[0]] = assembly.module._step(batch)
        assert assembly.module.forwards == (1 if asked[0] == "technique=none" else PASSES[name])
    plain, wrapped = outputs.values()
    assert torch.isfinite(wrapped.loss)
    assert wrapped.loss.dtype == torch.float32
    assert not torch.equal(plain.loss, wrapped.loss)
    if name != "freelb":  # whose first pass is perturbed already, and whose last is reported
        assert torch.equal(plain.logits, wrapped.logits)
    wrapped.loss.backward()
    gradient = word_embeddings(assembly.built.model).weight.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("task", TASKS)
def test_small_dose_is_close_to_plain(make_assembly: Make, task: str) -> None:
    """FreeLB with a tiny perturbation has the loss and the gradient of plain training."""
    overrides = (f"task={task}", "model=tiny", "device=cpu")
    tiny = [f"technique.freelb.{k}=1e-7" for k in ("step_size", "init", "max_norm")]
    losses, norms = [], []
    for asked in (("technique=none",), ("technique=freelb", *tiny)):
        assembly = make_assembly(*overrides, *asked)
        batch = next(iter(assembly.loaders["train"]))
        assembly.built.model.train()
        torch.manual_seed(19)
        loss = assembly.module._step(batch).loss
        loss.backward()
        losses.append(loss.item())
        norms.append(
            torch.stack([p.grad.norm() for p in assembly.built.model.parameters()]).norm().item()
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


IN_PARTS = ("trainer.micro_batch=3", "trainer.precision=bf16")


@pytest.mark.parametrize("name", TECHNIQUES)
@pytest.mark.parametrize(
    ("task", "extra"),
    [
        *((task, ()) for task in TASKS),
        ("ncbi_disease", IN_PARTS),
        ("gad", IN_PARTS),
        *(
            pytest.param(task, IN_PARTS, marks=pytest.mark.slow)
            for task in TASKS
            if task not in ("ncbi_disease", "gad")
        ),
    ],
)
def test_training_counts_its_passes(
    make_assembly: Make, name: str, task: str, extra: tuple[str, ...]
) -> None:
    overrides = (f"task={task}", "model=tiny", "device=cpu", "optim.steps=3", "optim.batch_size=8")
    assembly = make_assembly(*overrides, *chosen(name), *extra)
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    trained = assembly.trained()
    assert trained.steps == 3
    assert trained.batches >= (3 * 3 if extra and task != "ncbi_disease" else 3)
    assert trained.forwards == PASSES[name] * trained.batches
    extra_forwards = (PASSES[name] - 1) * trained.batches
    assert assembly.effects() == {name: {"extra_forwards": extra_forwards}}
    assert all(math.isfinite(row["train_loss"]) for row in assembly.history.rows)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["rdrop", "freelb"])
def test_micro_batches_have_the_gradient_of_the_whole(
    make_assembly: Make, name: str, task: str
) -> None:
    """Without dropout, and with an ascent that starts at 0: nothing random is left."""
    from tests.training.loop.test_module import gradients as step_gradients

    start = ("technique.freelb.init=0",) if name == "freelb" else ()
    overrides = (f"task={task}", "model=tiny", "device=cpu", "optim.batch_size=10")
    assembly = make_assembly(*overrides, *chosen(name), *start)
    for module in assembly.built.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = next(iter(assembly.loaders["train"]))
    whole, loss = step_gradients(assembly, batch, None)
    parts, part_loss = step_gradients(assembly, batch, 3)
    assert part_loss == pytest.approx(loss, rel=1e-4)
    scale = max(float(g.abs().max()) for g in whole.values())
    for parameter, gradient in whole.items():
        assert torch.allclose(parts[parameter], gradient, rtol=1e-2, atol=1e-3 * scale), parameter


PAIRS = [
    pytest.param(
        pair,
        id="-".join(pair),
        # each is once the inner and once the outer one; the rest is slow
        marks=[]
        if TECHNIQUES.index(pair[1]) == (TECHNIQUES.index(pair[0]) + 1) % len(TECHNIQUES)
        else pytest.mark.slow,
    )
    for pair in itertools.permutations(TECHNIQUES, 2)
]


@pytest.mark.parametrize("pair", PAIRS)
def test_they_wrap_each_other(make_assembly: Make, pair: tuple[str, str]) -> None:
    overrides = ("task=hoc", "model=tiny_electra", "device=cpu", "optim.steps=2")
    assembly = make_assembly(*overrides, *chosen(*pair))
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    trained = assembly.trained()
    assert trained.forwards == PASSES[pair[0]] * PASSES[pair[1]] * trained.batches


def test_the_proximal_pass_in_bf16(make_assembly: Make) -> None:
    """The cache of autocast must not hand one set of weights to the pass of the other."""
    knobs = [f"technique.smart.{k}" for k in ("proximal=1", "momentum=0.5")]
    overrides = ("task=gad", "model=tiny", "device=cpu", "optim.steps=3", "optim.lr=1e-2")
    assembly = make_assembly(*overrides, *chosen("smart"), *knobs, "trainer.precision=bf16")
    technique, module = assembly.techniques["smart"], assembly.module
    assembly.trainer.fit(module, assembly.loaders["train"])
    batch = next(iter(assembly.loaders["train"]))
    assembly.built.model.train()
    from bluestab.models.passes import model_logits

    found: list[Any] = []

    def plain() -> Any:
        return torch.autocast("cpu", torch.bfloat16)  # the trainer's own has no cache

    def step(batch: Any) -> StepOutput:
        logits = model_logits(assembly.built.model, batch)
        found.append(logits.detach())
        return StepOutput(logits.sum(), logits)

    torch.manual_seed(20)
    with plain():
        technique.wrap_step(step, assembly.built)(batch)
    with torch.no_grad():
        for name, parameter in assembly.built.model.named_parameters():
            parameter.copy_(technique.state_dict()["mean"][name])
    torch.manual_seed(20)
    with plain(), torch.no_grad():
        expected = model_logits(assembly.built.model, batch)
    assert torch.equal(found[-1], expected)
    assert not torch.equal(found[0], expected)
    assert module.forwards == 4 * 3 + 4 + 1


# --- refused, and resumed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "knob", "value", "expected"),
    [
        ("rdrop", "alpha", -0.1, "a number >= 0"),
        ("r3f", "weight", -1, "a number >= 0"),
        ("r3f", "eps", 0, "a number > 0"),
        ("r3f", "noise", "gaussian", "uniform"),
        ("r3f", "same_dropout", 1, "true or false"),
        ("smart", "weight", 0, "a number > 0"),
        ("smart", "steps", 0, "a whole number >= 1"),
        ("smart", "steps", 1.5, "a whole number >= 1"),
        ("smart", "eps", -1e-5, "a number > 0"),
        ("smart", "proximal", -1, "a number >= 0"),
        ("smart", "momentum", 1.0, "a number in [0, 1)"),
        ("freelb", "ascents", 1, "a whole number >= 2"),
        ("freelb", "step_size", 0, "a number > 0"),
        ("freelb", "init", -0.1, "a number >= 0"),
        ("freelb", "max_norm", 0, "a number > 0"),
    ],
)
def test_values_out_of_range(
    make_run: Make, name: str, knob: str, value: Any, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_run("task=gad", "model=tiny", f"technique={name}", f"technique.{name}.{knob}={value}")
    (problem,) = caught.value.problems
    assert problem.startswith(f"technique.{name}.{knob} is {value!r}")
    assert expected in problem


def test_what_drowns_in_rounding_is_refused(make_run: Make) -> None:
    gad = ("task=gad", "model=tiny", "trainer.precision=bf16")
    with pytest.raises(ConfigError, match=r"technique\.r3f\.eps is 1e-05 with trainer\.prec"):
        make_run(*gad, "technique=r3f")
    make_run(*gad, "technique=r3f", "technique.r3f.eps=0.01")
    make_run(*gad, "technique=r3f", "technique.r3f.same_dropout=false")
    with pytest.raises(ConfigError, match=r"smart\.step_size is 0\.001.* with trainer\.prec"):
        make_run(*gad, "technique=smart", "technique.smart.eps=0.03")
    make_run(*gad, *chosen("smart"))
    make_run(*gad, *chosen("freelb"))


@pytest.mark.parametrize("extra", [(), ("trainer.micro_batch=3", "trainer.precision=bf16")])
def test_the_mean_of_the_weights_goes_on(
    making: Make,  # noqa: F811
    tmp_path: Path,
    extra: tuple[str, ...],
) -> None:
    assert "optim.batch_size=7" in RESUMED
    knobs = ("technique.smart.proximal=1", "technique.smart.momentum=0.5")
    compare(making("task=gad", "model=tiny", *chosen("smart"), *knobs, *extra), tmp_path, 5)

"""Fisher information against closed forms and gradients of items, in float64."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bluestab.core.seeding import generator  # noqa: E402
from bluestab.core.types import LABELS, SHARING  # noqa: E402
from bluestab.models import fisher as estimate  # noqa: E402
from bluestab.models.curvature import Curvature, Diagonal, KroneckerBlock, LookupBlock  # noqa: E402
from bluestab.models.fisher import fisher  # noqa: E402
from bluestab.models.likelihood import (  # noqa: E402
    add_magnitude,
    answer_gradients,
    mean_over_batches,
    parts_of,
)

F64 = torch.float64
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def normal(*shape: int, seed: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Answer:
    """What transformers' networks return."""

    def __init__(self, logits: Any) -> None:
        self.logits = logits


class Softmax(nn.Module):
    """Softmax regression over given vectors (B, I)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes, dtype=F64)
        with torch.no_grad():
            self.linear.weight.copy_(normal(classes, width, seed=1))
            self.linear.bias.copy_(normal(classes, seed=2))

    def forward(self, x: Any, attention_mask: Any) -> Answer:
        return Answer(self.linear(x))


class Words(nn.Module):
    """A tagger with an embedding, two Linears, a norm and a look at the other words."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, dtype=F64)
        self.places = nn.Embedding(9, 4, dtype=F64)
        self.inner, self.norm = nn.Linear(4, 4, dtype=F64), nn.LayerNorm(4, dtype=F64)
        self.outer = nn.Linear(4, 7 if tied else 3, bias=False, dtype=F64)
        if tied:
            self.outer.weight = self.table.weight
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters()):
                parameter.copy_(normal(*parameter.shape, seed=10 + i))
        self.dropout = nn.Dropout(0.5)

    def forward(self, input_ids: Any, attention_mask: Any) -> Answer:
        x = self.table(input_ids) + self.places(torch.arange(input_ids.shape[1])[None])
        mask = attention_mask.unsqueeze(-1).to(F64)
        mean = (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        return Answer(self.outer(self.norm(self.dropout(self.inner(x + mean)).tanh())))


def words(lengths: tuple[int, ...], padding: int = 0, labelled: int | None = None) -> Any:
    """Items of these lengths as one batch, wider by `padding` than the longest; the first
    `labelled` words (None: all) have labels."""
    width = max(lengths) + padding
    random = generator(3, "words")
    ids = torch.randint(1, 7, (len(lengths), max(lengths)), generator=random)
    labels = torch.randint(0, 3, (len(lengths), max(lengths)), generator=random)
    batch = {
        "input_ids": torch.zeros(len(lengths), width, dtype=torch.long),
        "attention_mask": torch.zeros(len(lengths), width, dtype=torch.long),
        "labels": torch.full((len(lengths), width), -100),
    }
    for row, n in enumerate(lengths):
        batch["input_ids"][row, :n] = ids[row, :n]
        batch["attention_mask"][row, :n] = 1
        batch["labels"][row, : n if labelled is None else labelled] = labels[
            row, : n if labelled is None else labelled
        ]
    return batch


def names(network: nn.Module) -> list[str]:
    return [name for name, _ in network.named_parameters()]


def change(network: nn.Module, seed: int = 5) -> dict[str, Any]:
    return {
        n: normal(*p.shape, seed=seed + i) for i, (n, p) in enumerate(network.named_parameters())
    }


def gold_gradients(network: nn.Module, batch: Any) -> list[dict[str, Any]]:
    """Of log p of the labels, for each item, by torch's own loss."""
    found = []
    network.eval()
    for item in parts_of(batch):
        logits = network(**{k: v for k, v in item.items() if k != "labels"}).logits
        flat = logits.reshape(-1, logits.shape[-1])
        loss = nn.functional.cross_entropy(flat, item["labels"].reshape(-1), reduction="sum")
        grads = torch.autograd.grad(-loss, list(network.parameters()), allow_unused=True)
        found.append(dict(zip(names(network), grads, strict=True)))
    return found


def quadratic(gradients: list[dict[str, Any]], delta: dict[str, Any], only: list[str]) -> float:
    """Mean over items of (g . d) ** 2 over these parameters: d' F d of the exact block."""
    return sum(sum(float((g[n] * delta[n]).sum()) for n in only) ** 2 for g in gradients) / len(
        gradients
    )


# --- softmax regression: everything is known -----------------------------------------------------


def softmax_batch() -> Any:
    return {
        "x": normal(6, 3, seed=4),
        "attention_mask": torch.ones(6, 1),
        "labels": torch.tensor([0, 1, 2, 3, 0, 1]),
    }


def test_the_fisher_of_a_softmax_regression_is_the_closed_form() -> None:
    """F = mean of (diag(p) - p p') (x) x x': its diagonal is p (1 - p) x^2, that of the bias
    p (1 - p); with the gold label (e_y - p)^2 x^2."""
    network, batch = Softmax(3, 4), softmax_batch()
    p = network(batch["x"], None).logits.softmax(-1).detach()  # (N, C)
    cases: list[tuple[Any, Any]] = [
        ("exact", p * (1 - p)),
        ("gold", (nn.functional.one_hot(batch["labels"], 4) - p) ** 2),
    ]
    for labels, per_class in cases:
        found = fisher(network, names(network), [batch], labels=labels, sharing=None)
        by_name = {block.name: block.f for block in found.blocks if isinstance(block, Diagonal)}
        weight = torch.einsum("nc,ni->ci", per_class, batch["x"] ** 2) / 6
        torch.testing.assert_close(by_name["linear.weight"], weight, rtol=1e-12, atol=0)
        torch.testing.assert_close(by_name["linear.bias"], per_class.mean(0), rtol=1e-12, atol=0)


def test_its_kronecker_factors_are_the_closed_form() -> None:
    network, batch = Softmax(3, 4), softmax_batch()
    p = network(batch["x"], None).logits.softmax(-1).detach()
    x = torch.cat([batch["x"], torch.ones(6, 1, dtype=F64)], dim=1)
    for sharing in SHARING:
        (block,) = fisher(network, names(network), [batch], labels="exact", sharing=sharing).blocks
        assert isinstance(block, KroneckerBlock)
        g = torch.diag(p.mean(0)) - p.T @ p / 6
        torch.testing.assert_close(block.g, g, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(block.a, x.T @ x / 6, rtol=1e-12, atol=0)


def test_sampled_answers_are_exact_on_average() -> None:
    """100 draws of each item."""
    network, batch = Softmax(3, 4), softmax_batch()
    many = {k: v.repeat(100, *(1 for _ in v.shape[1:])) for k, v in batch.items()}
    random = torch.Generator().manual_seed(0)
    exact = fisher(network, names(network), [batch], labels="exact", sharing=None)
    drawn = fisher(network, names(network), [many], labels="sampled", sharing=None, random=random)
    again = fisher(
        network, names(network), [batch], labels="sampled", sharing=None,
        random=torch.Generator().manual_seed(0),
    )  # fmt: skip
    for one, other in zip(exact.blocks, drawn.blocks, strict=True):
        assert torch.allclose(one.factors()[0], other.factors()[0], rtol=0.25)
    assert not torch.allclose(again.blocks[0].factors()[0], exact.blocks[0].factors()[0])


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (normal(1, 4, seed=1), torch.tensor([2])),
        (normal(1, 3, 4, seed=1), torch.tensor([[2, -100, 0]])),
        (normal(1, 4, seed=1), torch.tensor([[1.0, 0.0, 0.0, 1.0]], dtype=F64)),
        (normal(1, 1, seed=1), torch.tensor([2.5], dtype=F64)),
    ],
    ids=["classes", "words", "label sets", "numbers"],
)
def test_gradients_of_answers_are_those_of_torch_s_distributions(logits: Any, targets: Any) -> None:
    """And `exact` gives the expectation of their outer product, answer by answer."""
    from torch.distributions import Bernoulli, Categorical, Normal

    z = logits.clone().requires_grad_(True)
    if logits.ndim == 3 or not targets.is_floating_point():
        counted = targets.reshape(-1) != -100
        law: Any = Categorical(logits=z.reshape(-1, 4)[counted])
        gold = targets.reshape(-1)[counted]
        support = [torch.tensor(y) for y in itertools.product(range(4), repeat=len(gold))]
    elif targets.ndim == 2:
        law, gold = Bernoulli(logits=z), targets
        support = [torch.tensor([y], dtype=F64) for y in itertools.product((0, 1), repeat=4)]
    else:
        law, gold, support = Normal(z, 1.0), targets.reshape(1, 1), []
    (found,) = answer_gradients(logits, targets, "gold", None)
    (expected,) = torch.autograd.grad(law.log_prob(gold).sum(), z, retain_graph=True)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    exact = sum(torch.outer(v.flatten(), v.flatten()) for v in
                answer_gradients(logits, targets, "exact", None))  # fmt: skip
    if not support:
        assert exact.tolist() == [[1.0]]
        return
    mean = torch.zeros_like(exact)
    for y in support:
        log_p = law.log_prob(y).sum()
        (g,) = torch.autograd.grad(log_p, z, retain_graph=True)
        mean += log_p.exp().detach() * torch.outer(g.flatten(), g.flatten())
    torch.testing.assert_close(exact, mean, rtol=1e-10, atol=1e-14)


# --- word pieces ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sharing", SHARING)
def test_one_item_of_one_word_gives_the_exact_empirical_block(sharing: Any) -> None:
    """Bias in the block: its products with the weight count, too."""
    network, batch = Words(), words((1,), padding=2)
    found = fisher(network, names(network), [batch], labels="gold", sharing=sharing)
    gradients, delta = gold_gradients(network, batch), change(network)
    blocks = {block.names: block for block in found.blocks}
    assert ("inner.weight", "inner.bias") in blocks
    assert isinstance(blocks[("table.weight",)], LookupBlock)
    assert isinstance(blocks[("norm.weight",)], Diagonal)
    for of, block in blocks.items():
        if isinstance(block, Diagonal):
            torch.testing.assert_close(block.f, gradients[0][block.name] ** 2)
            continue
        products = block.times(delta)
        got = sum(float((delta[n] * products[n]).sum()) for n in of)
        assert got == pytest.approx(quadratic(gradients, delta, list(of)), rel=1e-10)
        dot = sum(float((gradients[0][n] * delta[n]).sum()) for n in of)
        for n in of:  # F d = g (g . d)
            torch.testing.assert_close(products[n], gradients[0][n] * dot, rtol=1e-10, atol=1e-12)


def test_longer_items_are_approximated(record_property: Any) -> None:
    """How far each is from the exact block of `inner`, for the record."""
    network, batch = Words(), words((3, 8, 5))
    gradients, of = gold_gradients(network, batch), ["inner.weight", "inner.bias"]
    for sharing in SHARING:
        found = fisher(network, of, [batch], labels="gold", sharing=sharing)
        ratios = []
        for seed in range(0, 200, 10):
            delta = change(network, seed)
            ratios.append(2 * found.half_quadratic(delta) / quadratic(gradients, delta, of))
        record_property(f"{sharing}: d'F d over the exact one, median", sorted(ratios)[10])
        assert all(ratio > 0 for ratio in ratios)


@pytest.mark.parametrize("sharing", [None, *SHARING])
@pytest.mark.parametrize("labels", LABELS)
def test_padding_changes_nothing(sharing: Any, labels: Any) -> None:
    network, of = Words(), names(Words())

    def found(batches: list[Any]) -> Curvature:
        random = torch.Generator().manual_seed(1)
        return fisher(network, of, batches, labels=labels, sharing=sharing, random=random)

    lengths = (3, 1, 4)
    padded = found([words(lengths, padding=4)])
    apart = found([{k: v[:, : lengths[row]] for k, v in item.items()}
                   for row, item in enumerate(parts_of(words(lengths)))])  # fmt: skip
    for one, other in zip(padded.blocks, apart.blocks, strict=True):
        for a, b in zip(one.factors(), other.factors(), strict=True):
            n = min(len(a), len(b))
            torch.testing.assert_close(a[:n], b[:n], rtol=1e-12, atol=1e-15)
    assert network.training


@pytest.mark.parametrize("sharing", SHARING)
def test_how_many_vectors_wait_changes_nothing(
    sharing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, batch = Words(), words((3, 1, 4, 2, 2))
    found = []
    for waiting in (1, 3, 1000):
        monkeypatch.setattr(estimate, "ROWS_AT_ONCE", waiting)
        found.append(fisher(network, names(network), [batch], labels="exact", sharing=sharing))
    for other in found[1:]:
        for one, two in zip(found[0].blocks, other.blocks, strict=True):
            for a, b in zip(one.factors(), two.factors(), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)


def test_the_table_has_a_count_per_row_and_never_its_square() -> None:
    network, batch = Words(), words((3, 1, 4))
    found = fisher(network, names(network), [batch], labels="gold", sharing="expand")
    table = next(b for b in found.blocks if b.names == ("table.weight",))
    ids = batch["input_ids"][batch["attention_mask"].bool()]
    assert isinstance(table, LookupBlock)
    assert table.a.tolist() == (torch.bincount(ids, minlength=7) / 8).tolist()
    assert table.g.shape == (4, 4)
    assert found.numbers() < sum(p.numel() for p in network.parameters()) * 4


def test_tied_weights_count_once_with_the_gradient_of_both_uses() -> None:
    network, batch = Words(tied=True), words((3, 2))
    found = fisher(network, names(network), [batch], labels="gold", sharing="expand")
    assert sorted(found.names) == sorted(names(network))
    (block,) = [b for b in found.blocks if b.names == ("table.weight",)]
    assert isinstance(block, Diagonal)
    squares = [g["table.weight"] ** 2 for g in gold_gradients(network, batch)]
    torch.testing.assert_close(block.f, sum(squares) / 2, rtol=1e-12, atol=0)


def test_what_bypasses_the_hooks_has_a_diagonal() -> None:
    class Fused(Words):
        def forward(self, input_ids: Any, attention_mask: Any) -> Answer:
            x = nn.functional.linear(self.table(input_ids), self.inner.weight, self.inner.bias)
            return Answer(self.outer(self.norm(x)))

    network, batch = Fused(), words((3, 2))
    found = fisher(network, names(network), [batch], labels="gold", sharing="expand")
    kinds = {n: type(block) for block in found.blocks for n in block.names}
    assert kinds["inner.weight"] is kinds["inner.bias"] is Diagonal
    assert kinds["outer.weight"] is KroneckerBlock
    assert "places.weight" not in kinds, "it is not used at all"


def test_what_sees_other_rows_than_word_pieces_has_a_diagonal() -> None:
    """Also where these are as many as the pieces of the first text."""

    class Relative(Words):
        def forward(self, input_ids: Any, attention_mask: Any) -> Answer:
            steps = self.inner(self.places.weight[:3][None]).mean(1, keepdim=True)
            return Answer(self.outer(self.norm(self.inner(self.table(input_ids)) + steps)))

    network, batch = Relative(), words((3, 2))
    found = fisher(network, names(network), [batch], labels="gold", sharing="expand")
    kinds = {n: type(block) for block in found.blocks for n in block.names}
    assert kinds["inner.weight"] is kinds["inner.bias"] is Diagonal
    assert kinds["outer.weight"] is KroneckerBlock


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_a_network_that_pads_texts_further_changes_nothing(sharing: Any) -> None:
    class Windowed(Words):
        def get_input_embeddings(self) -> Any:
            return self.table

        def forward(self, input_ids: Any, attention_mask: Any) -> Answer:
            n = input_ids.shape[1]
            ids, mask = (nn.functional.pad(x, (0, -n % 4)) for x in (input_ids, attention_mask))
            return Answer(super().forward(ids, mask).logits[:, :n])

    batch = words((3, 2))
    plain, windowed = (
        fisher(one, names(one), [batch], labels="gold", sharing=sharing)
        for one in (Words(), Windowed())
    )
    for block, other in zip(plain.blocks, windowed.blocks, strict=True):
        assert (type(block), block.names) == (type(other), other.names)
        for factor, same in zip(block.factors(), other.factors(), strict=True):
            torch.testing.assert_close(same, factor, rtol=1e-12, atol=1e-15)


def test_only_the_parameters_that_are_named() -> None:
    network, batch = Words(), words((3, 2))
    found = fisher(network, ["inner.weight"], [batch], labels="gold", sharing="expand")
    (block,) = found.blocks
    assert isinstance(block, Diagonal), "without its bias it is no whole block"
    before = [p.requires_grad for p in network.parameters()]
    network.inner.requires_grad_(False)
    fisher(network, ["inner.weight"], [batch], labels="gold", sharing=None)
    assert not network.inner.weight.requires_grad
    assert all(before)


# --- the penalty ---------------------------------------------------------------------------------


def test_the_penalty_is_zero_at_the_anchor_and_its_gradient_is_autograd_s() -> None:
    network, batch = Words(), words((3, 1, 4))
    found = fisher(network, names(network), [batch], labels="exact", sharing="expand")
    zero = {n: torch.zeros_like(p) for n, p in network.named_parameters()}
    assert found.half_quadratic(zero) == 0.0
    delta = {n: d.requires_grad_(True) for n, d in change(network).items()}
    penalty = sum(0.5 * (delta[n] * value).sum() for n, value in found.times(delta).items())
    expected = torch.autograd.grad(penalty, [delta[n] for n in found.names], allow_unused=True)
    for n, gradient in zip(found.names, expected, strict=True):
        torch.testing.assert_close(found.times(delta)[n], gradient, rtol=1e-10, atol=1e-12)
    detached = {n: d.detach() for n, d in delta.items()}
    assert found.half_quadratic(detached) == pytest.approx(penalty.item())


def test_two_tasks_are_the_sum_of_two_penalties_and_not_one_of_summed_factors() -> None:
    network, of = Words(), ["inner.weight", "inner.bias"]
    one, two = (
        fisher(network, of, [words(lengths)], labels="gold", sharing="expand")
        for lengths in ((3, 1, 4), (2, 2))
    )
    delta = change(network)
    both = Curvature((*one.blocks, *two.blocks))
    each = [c.half_quadratic(delta) for c in (one, two)]
    added = {n: one.times(delta)[n] + two.times(delta)[n] for n in of}
    assert 0.5 * sum(float((added[n] * delta[n]).sum()) for n in of) == pytest.approx(sum(each))
    (a,), (b,) = one.blocks, two.blocks
    summed = KroneckerBlock(
        of[0], of[1], *(x + y for x, y in zip(a.factors(), b.factors(), strict=True))
    )
    assert Curvature((summed,)).half_quadratic(delta) != pytest.approx(sum(each), rel=0.1)
    assert len(both.blocks) == 2


# --- means over batches --------------------------------------------------------------------------


def test_fisher_by_hand() -> None:
    """Squared error of a line: the gradient is 2 (w x - y) x, squared, mean over batches."""
    w, unused = nn.Parameter(torch.tensor([3.0], dtype=F64)), nn.Parameter(torch.ones(2))
    batches = [{"x": x, "y": y} for x, y in ((1.0, 1.0), (2.0, 0.0), (-1.0, 2.0))]
    scores = mean_over_batches(
        lambda batch: ((w * batch["x"] - batch["y"]) ** 2).sum(), {"w": w, "v": unused}, batches
    )
    expected = ((2 * 2 * 1) ** 2 + (2 * 6 * 2) ** 2 + (2 * -5 * -1) ** 2) / 3
    assert scores["w"].tolist() == [pytest.approx(expected)]
    assert scores["v"].tolist() == [0.0, 0.0]
    assert w.grad is None


def test_magnitudes_by_hand() -> None:
    w = nn.Parameter(torch.tensor([3.0], dtype=F64))
    batches = [{"x": x} for x in (1.0, -2.0)]
    found = mean_over_batches(lambda b: (w * b["x"]).sum(), {"w": w}, batches, add_magnitude)
    assert found["w"].tolist() == [1.5]

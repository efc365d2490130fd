"""Replay and distillation against loops that hold the papers' formulas, in float64."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bluestab.core.seeding import Seeds, generator, stream_seed  # noqa: E402
from bluestab.models.exemplars import reservoir  # noqa: E402
from bluestab.techniques.base import Technique  # noqa: E402
from bluestab.techniques.der import Der  # noqa: E402
from bluestab.techniques.derpp import Derpp  # noqa: E402
from bluestab.techniques.er import Er  # noqa: E402
from bluestab.techniques.lwf import Lwf, kl  # noqa: E402
from tests.support.earlier_toy import (  # noqa: E402
    SEEDS,
    answers,
    apart,
    by_formula,
    close,
    earlier,
    loss,
    started,
    trained,
    with_encoder,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")

SIZE = 9
KEPT: Any = {"buffer": "reservoir", "draws": 1}


def sampled(sizes: list[int], size: int, seeds: Seeds) -> list[tuple[int, int]]:
    """Of all items of tasks of these sizes, as `seeds.order` draws them."""
    rows = [(task, row) for task, n in enumerate(sizes) for row in range(n)]
    return reservoir(rows, size, generator(seeds.order, "buffer"))


def drawn(name: str, stream: str, n: int) -> list[tuple[int, int]]:
    """(task, row) of a step: uniform with replacement, from the stream of step and technique."""
    kept = sampled([7, 7], SIZE, SEEDS)
    random = torch.Generator().manual_seed(stream_seed(torch.initial_seed(), name, stream))
    return [kept[i] for i in torch.randint(len(kept), (n,), generator=random).tolist()]


def replay(name: str, alpha: float, beta: float) -> dict[str, Any]:
    """Buzzega et al. 2020: CE + alpha MSE(logits then, now) + beta CE(labels), on two draws."""
    tasks = earlier()

    def penalty(network: Any, batch: Any) -> Any:
        total: Any = 0.0
        n = len(batch["items"])
        for stream, weight in (("logits", alpha), ("labels", beta)):
            for number, task in enumerate(tasks) if weight else ():
                rows = [row for t, row in drawn(name, stream, n) if t == number]
                if not rows:
                    continue
                old = task.batch(rows)
                now = with_encoder(network, task)(old)
                if stream == "labels":
                    term = loss(now, old)
                else:
                    then = answers(task.network, old).detach()
                    counted = old["labels"] != -100 if now.ndim == 3 else slice(None)
                    term = nn.functional.mse_loss(now[counted], then[counted])
                total = total + weight * term * len(rows) / n
        return total

    return by_formula(penalty)


@pytest.mark.parametrize(
    ("technique", "alpha", "beta"),
    [
        pytest.param(Er(beta=0.5, buffer_size=SIZE, **KEPT), 0.0, 0.5, marks=pytest.mark.slow),
        pytest.param(Der(alpha=0.3, buffer_size=SIZE, **KEPT), 0.3, 0.0, marks=pytest.mark.slow),
        (Derpp(alpha=0.3, beta=0.5, buffer_size=SIZE, **KEPT), 0.3, 0.5),
    ],
    ids=["er", "der", "derpp"],
)
def test_replay_is_its_formula(technique: Any, alpha: float, beta: float) -> None:
    found, built = trained(technique)
    close(found, replay(technique.name, alpha, beta))
    assert apart(found, by_formula(lambda *_: 0.0))
    kept = technique.effects(built, None)["replayed_from"]
    assert sum(kept.values()) == SIZE
    assert set(kept) == {"texts", "words"}


@pytest.mark.slow
def test_derpp_without_one_term_is_the_other() -> None:
    """But for the stream it draws from: so they are asked with the same name."""
    one, other = (
        Derpp(alpha=0.0, beta=0.5, buffer_size=SIZE, **KEPT),
        Er(beta=0.5, buffer_size=SIZE, **KEPT),
    )
    other.name = "derpp"  # type: ignore[misc]
    close(trained(one)[0], trained(other)[0])


def test_lwf_is_its_formula() -> None:
    """Li & Hoiem 2016, as KL: to what the encoder of the start says through each old head."""
    tasks, before = earlier(), started()

    def penalty(network: Any, batch: Any) -> Any:
        total: Any = 0.0
        for task in tasks:
            old, new = (with_encoder(n, task)(batch) / 2 for n in (before, network))
            if task.network.per_word:
                real = batch["attention_mask"].bool()
                old, new = old[real], new[real]
            total = total + nn.functional.kl_div(
                new.log_softmax(-1), old.detach().log_softmax(-1), log_target=True,
                reduction="batchmean",
            )  # fmt: skip
        return 0.7 * total / 2

    found, _ = trained(Lwf(alpha=0.7, temperature=2.0))
    close(found, by_formula(penalty))
    assert apart(found, by_formula(lambda *_: 0.0))


def test_kl_of_every_kind_is_torch_s() -> None:
    from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

    random = torch.Generator().manual_seed(1)
    a, b = (torch.randn(5, 3, dtype=torch.float64, generator=random) for _ in "ab")
    cases: list[tuple[Any, Any]] = [
        ("classification", kl_divergence(Categorical(logits=a / 2), Categorical(logits=b / 2))),
        ("multi_label", kl_divergence(Bernoulli(logits=a / 2), Bernoulli(logits=b / 2)).sum(-1)),
        ("regression", kl_divergence(Normal(a, 1.0), Normal(b, 1.0)).sum(-1)),
    ]
    for kind, expected in cases:
        torch.testing.assert_close(kl(a, b, kind, 2.0), expected.mean(), rtol=1e-12, atol=0)


def test_the_buffer_is_a_uniform_sample_without_replacement() -> None:
    counts = torch.zeros(10)
    for seed in range(2000):
        kept = sampled([4, 6], 5, Seeds(0, seed, 0, 0))
        assert len(set(kept)) == 5
        for task, row in kept:
            counts[task * 4 + row] += 1
    assert (counts - 1000).abs().max() < 5 * (2000 * 0.25) ** 0.5
    assert len(sampled([4, 6], 50, SEEDS)) == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "technique",
    [Er(beta=0.0, buffer_size=3, **KEPT), Derpp(alpha=0.0, beta=0.0, buffer_size=3, **KEPT),
     Lwf(alpha=0.0, temperature=2.0)],
)  # fmt: skip
def test_without_weight_nothing_happens(technique: Technique) -> None:
    found, built = trained(technique)
    plain = by_formula(lambda *_: 0.0)
    assert all(torch.equal(found[n], plain[n]) for n in plain)
    assert technique.is_neutral()
    assert technique.effects(built, None) == {}  # type: ignore[arg-type]

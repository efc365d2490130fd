"""Dropout by counting: it depends on the seed alone and follows the law of dropout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.training.packed.drops import Drops, dropped, mixed  # noqa: E402
from tests.conftest import Make  # noqa: E402
from tests.support.packed_groups import SHORT, fitted, told  # noqa: E402

# --- dropout -------------------------------------------------------------------------------------


def keys_of(*seeds: int, site: str = "here", step: int = 3) -> Any:
    drops = Drops(seeds, torch.device("cpu"))
    drops.begin(step)
    return drops.keys(site)


@pytest.mark.parametrize("shape", [(9,), (40, 9), (2, 40, 40)])
def test_what_is_dropped_depends_on_the_seed_alone(shape: tuple[int, ...]) -> None:
    """Not on the place among siblings, their number, padding, or how many items there are."""
    alone = dropped(keys_of(5), (4, *shape), 0.3)
    among = dropped(keys_of(8, 5, 7), (12, *shape), 0.3).reshape(3, 4, *shape)
    assert torch.equal(among[1], alone)
    assert not torch.equal(among[0], alone)
    fewer = dropped(keys_of(5), (2, *shape), 0.3)
    assert torch.equal(fewer, alone[:2])
    if len(shape) > 1:
        longer = dropped(keys_of(5), (4, *shape[:-2], shape[-2] + 5, shape[-1]), 0.3)
        assert torch.equal(longer[..., : shape[-2], :], alone)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_units_are_dropped_evenly_and_independently(p: float) -> None:
    n = 500
    gone = dropped(keys_of(1), (1, n, n), p)[0].double()
    noise = math.sqrt(p * (1 - p) / n**2)
    assert float(gone.mean()) == pytest.approx(p, abs=5 * noise)
    one = math.sqrt(p * (1 - p) / n)
    for dim in (0, 1):
        assert float((gone.mean(dim=dim) - p).abs().max()) < 5 * one
    centred = (gone - p) / math.sqrt(p * (1 - p))
    for other in (
        centred.roll(1, 0),
        centred.roll(1, 1),
        centred.T,
        (dropped(keys_of(2), (1, n, n), p)[0].double() - p) / math.sqrt(p * (1 - p)),
        (dropped(keys_of(1, site="there"), (1, n, n), p)[0].double() - p) / math.sqrt(p * (1 - p)),
        (dropped(keys_of(1, step=4), (1, n, n), p)[0].double() - p) / math.sqrt(p * (1 - p)),
    ):
        off = ~torch.eye(n, dtype=torch.bool) if other is not centred.roll(1, 0) else slice(None)
        assert abs(float((centred * other)[off].mean())) < 5 / n
    # four corners of a rectangle: a hash of row and column that did not mix would tie them
    corners = centred[:250, :250] * centred[250:, :250] * centred[:250, 250:] * centred[250:, 250:]
    assert abs(float(corners.mean())) < 5 / 250


def test_the_hash_is_a_bijection_that_spreads() -> None:
    values = mixed(torch.arange(2**16, dtype=torch.int32))
    assert len(values.unique()) == 2**16
    flipped = mixed(torch.arange(2**16, dtype=torch.int32) ^ 1) ^ values
    share = sum(((flipped >> bit) & 1).double().mean() for bit in range(32)) / 32
    assert float(share) == pytest.approx(0.5, abs=0.01)


def test_passes_drop_other_units_and_the_first_is_first_again() -> None:
    drops = Drops([1, 2], torch.device("cpu"))
    drops.begin(0)
    first = drops.keys("x")
    with drops.passing("rdrop"):
        assert drops.number() == 1
        second = drops.keys("x")
    assert drops.number() == 0
    assert torch.equal(drops.keys("x"), first)
    assert not torch.equal(first, second)
    drops.begin(1)
    assert not torch.equal(drops.keys("x"), first)


# --- with dropout --------------------------------------------------------------------------------


def p_of_difference(one: Sequence[float], other: Sequence[float], statistic: Any) -> float:
    """Two-sided permutation test of a statistic of two samples, 9,999 draws."""
    import numpy as np

    both, n = np.asarray([*one, *other]), len(one)
    random = np.random.default_rng(0)
    seen = abs(statistic(both[:n]) - statistic(both[n:]))
    drawn = (random.permutation(both) for _ in range(9999))
    more = sum(abs(statistic(d[:n]) - statistic(d[n:])) >= seen - 1e-12 for d in drawn)
    return (1 + more) / 10_000


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["none", "rdrop"])
def test_dropout_follows_the_law_of_the_lightning_engine(make_run: Make, arm: str) -> None:
    """20 seeds packed, 20 apart, alike in all but what they drop: no test tells them apart, and it
    does tell them from a slightly other law."""
    import numpy as np

    from bluestab.training.assemble import assemble
    from bluestab.training.attempt import _fit

    asked = ("task=gad", "model=tiny", *SHORT, "optim.steps=10", "seeds.init=0", "seeds.order=0")
    asked = (*asked, f"technique={arm}", "trainer.eval_every=10")

    def law(p: float) -> tuple[str, ...]:
        kinds = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        return "+model.config.initializer_range=0.2", *(f"+model.config.{k}={p}" for k in kinds)

    def packed(p: float) -> list[float]:
        group = fitted([make_run(*asked, *law(p), f"seed={s}") for s in range(20)])
        return [sibling.history.rows[-1]["train_loss"] for sibling in group.siblings]

    def apart(p: float) -> list[float]:
        losses = []
        for seed in range(20):
            run = make_run(*asked, *law(p), "trainer.engine=lightning", f"seed={seed}")
            assembly = assemble(
                run,
                device=torch.device("cpu"),
                progress=told,
            )
            _fit(assembly)
            losses.append(assembly.history.rows[-1]["train_loss"])
        return losses

    def spread(sample: Any) -> float:
        return float(np.log(np.std(sample)))

    here, there = packed(0.2), apart(0.2)
    assert len({round(loss, 7) for loss in here}) == 20
    assert p_of_difference(here, there, np.mean) > 0.05
    assert p_of_difference(here, there, spread) > 0.05
    other = packed(0.5)
    assert min(p_of_difference(other, there, s) for s in (np.mean, spread)) < 0.01

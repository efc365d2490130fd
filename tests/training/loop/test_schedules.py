"""Step counts and multipliers against cases worked by hand and against transformers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import ConfigError
from bluestab.training.loop.schedules import linear_warmup_decay, updates, warmup_steps
from tests.support.averages import FAST, fitted
from tests.training.test_execute import done

Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


@pytest.mark.parametrize(
    ("total_steps", "warmup", "expected"),
    [
        (0, 0.1, 0),
        (100, 0.0, 0),
        (30, 0.1, 3),
        (31, 0.1, 4),
        (1, 0.1, 1),
        (10, 0.95, 10),
        (100, 0.07, 7),  # 100 * 0.07 = 7.000000000000001
        (100, 0.14, 14),
        (6, 5 / 6, 5),
        (7, 1 / 7, 1),
        (1_000_000, 0.07, 70_000),
        (1_000_000, 0.070001, 70_001),
        (1000, 100, 100),
        (7, 1, 1),
        (7, 100, 100),  # longer than the run: the rate never gets to its peak
        (0, 5, 5),
    ],
)
def test_warmup_steps_by_hand(total_steps: int, warmup: float, expected: int) -> None:
    assert warmup_steps(total_steps, warmup) == expected


@pytest.mark.parametrize("warmup", [-0.1, -1, 1.0, 10.0, 1.5, math.nan, math.inf])
def test_warmup_is_a_fraction_or_whole_steps(warmup: float) -> None:
    with pytest.raises(ValueError, match=r"fraction in .* or a whole number of steps"):
        warmup_steps(100, warmup)


def test_warmup_steps_equal_transformers_but_for_float_noise() -> None:
    from types import SimpleNamespace

    from transformers import TrainingArguments

    differences = 0
    for percent in range(100):
        warmup = percent / 100
        for total_steps in (*range(1, 300, 7), 100, 1000, 12_345):
            theirs = TrainingArguments.get_warmup_steps(
                SimpleNamespace(warmup_steps=warmup),  # type: ignore[arg-type]
                total_steps,
            )
            ours = warmup_steps(total_steps, warmup)
            assert ours == -(-total_steps * percent // 100)  # in integers, so without noise
            if ours != theirs:
                assert (ours, total_steps * percent % 100) == (theirs - 1, 0)
                differences += 1
    assert differences  # when this fails, transformers has got robust: drop the remark on it


@pytest.mark.parametrize("warmup", [0.1, 0.06, 0.05, 0.2, 0.01])
def test_usual_fractions_have_no_float_noise(warmup: float) -> None:
    for total_steps in range(5000):
        assert warmup_steps(total_steps, warmup) == math.ceil(total_steps * warmup)


def test_linear_warmup_decay_by_hand() -> None:
    got = [linear_warmup_decay(s, warmup_steps=2, total_steps=6) for s in range(8)]
    assert got == [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert linear_warmup_decay(0, warmup_steps=0, total_steps=4) == 1.0
    assert linear_warmup_decay(0, warmup_steps=0, total_steps=0) == 0.0


@pytest.mark.parametrize(("step", "warmup", "total"), [(-1, 0, 10), (0, -1, 10), (0, 0, -1)])
def test_linear_warmup_decay_refuses_negatives(step: int, warmup: int, total: int) -> None:
    with pytest.raises(ValueError, match=">= 0"):
        linear_warmup_decay(step, warmup_steps=warmup, total_steps=total)


def test_linear_warmup_decay_equals_transformers() -> None:
    import torch
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    for total in (1, 2, 7, 10, 33):
        for warmup in (0, 1, 3, total, total + 2):
            schedule = get_linear_schedule_with_warmup(  # type: ignore[no-untyped-call]
                optimizer, warmup, total
            )
            for step in range(total + 3):
                ours = linear_warmup_decay(step, warmup_steps=warmup, total_steps=total)
                assert ours == schedule.lr_lambdas[0](step)


@pytest.mark.parametrize(
    ("n_items", "batch_size", "epochs", "steps", "expected"),
    [
        (64, 16, 30, None, 120),
        (65, 16, 30, None, 150),  # the fifth batch of an epoch holds one item
        (5, 16, 3, None, 3),
        (64, 16, 30, 7, 7),
        (64, 16, None, 7, 7),
        (64, 16, 30, 0, 0),
        (64, 16, 0, None, 0),
        (64, 16, 0.5, None, 2),
        (80, 16, 0.5, None, 3),  # 2.5 steps
        (100, 1, 0.07, None, 7),
    ],
)
def test_updates_by_hand(
    n_items: int, batch_size: int, epochs: float | None, steps: int | None, expected: int
) -> None:
    got = updates(n_items, batch_size, epochs, steps)
    assert got == expected
    assert isinstance(got, int)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 16, 3, None), "0 items"),
        ((64, 0, 3, None), "batches of 0"),
        ((64, 16, -1, None), "epochs=-1"),
        ((64, 16, math.inf, None), "epochs=inf"),
        ((64, 16, math.nan, None), "epochs=nan"),
        ((64, 16, 3, -1), "steps=-1"),
        ((64, 16, None, None), "both None"),
    ],
)
def test_updates_refuses_nonsense(
    arguments: tuple[int, int, float | None, int | None], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        updates(*arguments)


def test_warmup_in_steps(make_assembly: Make) -> None:
    _, seen = fitted(make_assembly, "task=gad", "optim.steps=8", "optim.warmup=3")
    (rates,) = set(seen.rates.values())
    expected = [0, 1 / 3, 2 / 3, 1, 0.8, 0.6, 0.4, 0.2]
    assert rates == pytest.approx([3e-3 * factor for factor in expected])


def test_a_warmup_longer_than_the_run(make_run: Make, tmp_path: Path) -> None:
    record = done(make_run("task=gad", *FAST, "optim.steps=4", "optim.warmup=100"), tmp_path)
    assert (record.status, record.result["warmup_steps"]) == ("done", 4)


@pytest.mark.parametrize("value", ["1.0", "1.5", "-1", "true", "100.0"])
def test_warmup_is_one_or_the_other(make_run: Make, value: str) -> None:
    with pytest.raises(ConfigError, match=r"optim.warmup is .* or a whole number of steps >= 1"):
        make_run("task=gad", *FAST, f"optim.warmup={value}")


def test_a_fraction_keeps_its_key(make_run: Make) -> None:
    assert make_run("task=gad", *FAST).hashed["optim"]["warmup"] == 0.1
    half = make_run("task=gad", *FAST, "optim.warmup=0.5")
    steps = make_run("task=gad", *FAST, "optim.warmup=6")
    assert len({half.key, steps.key, make_run("task=gad", *FAST).key}) == 3

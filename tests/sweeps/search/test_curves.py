"""Cutting a run by its curve: same seed, same step, and only with enough others."""

from __future__ import annotations

from bluestab.sweeps.search.curves import Rule, best_until, hopeless

OTHERS = [{10: 0.1 * i, 25: 0.2 * i, 50: 0.3 * i, 100: 0.3 * i} for i in range(1, 4)]


def cut(own: dict[int, float], rule: Rule, number: int = 0, others: object = None) -> bool:
    given = OTHERS if others is None else others
    return hopeless(own, given, steps=100, rule=rule, number=number) is not None  # type: ignore[arg-type]


def test_median() -> None:
    assert cut({50: 0.59}, "median")
    assert not cut({50: 0.6}, "median")
    assert not cut({10: 0.0}, "median")  # too early to say
    assert not cut({10: 0.9, 50: 0.1}, "median")  # its best counts


def test_hyperband_looks_twice_and_spares_by_bracket() -> None:
    assert cut({25: 0.39}, "hyperband")  # 3. of 4
    assert not cut({25: 0.41}, "hyperband")  # 2. of 4
    assert not cut({25: 0.39}, "hyperband", number=1)
    assert cut({25: 0.39, 50: 0.1}, "hyperband", number=1)
    assert not cut({25: 0.0, 50: 0.0}, "hyperband", number=2)
    assert not cut({25: 0.9, 30: 0.0, 40: 0.0}, "hyperband")  # no look between


def test_too_few_others_or_the_end() -> None:
    assert not cut({50: 0.0}, "median", others=OTHERS[:2])
    assert not cut({100: 0.0}, "median")
    assert not cut({50: 0.0}, "none")
    assert not cut({}, "median")
    assert not cut({60: 0.0}, "median", others=[{50: 0.9}] * 9)  # none of them got so far


def test_best_until() -> None:
    assert best_until({10: 0.5, 20: 0.3, 30: 0.9}, 20) == 0.5

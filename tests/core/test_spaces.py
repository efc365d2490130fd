"""Search spaces: what each text means, and what is said of one that means nothing."""

from __future__ import annotations

import pytest

from bluestab.core.rules import Rule, one_of, whole, within
from bluestab.core.spaces import Choice, Range, Space, parse
from bluestab.testing.spaces import space_problems


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("interval(0.6, 1.0)", Range(0.6, 1.0)),
        ("interval(1, 2)", Range(1.0, 2.0)),
        ("tag(log, interval(1e-4, 1))", Range(1e-4, 1.0, log=True)),
        ("range(0, L)", Choice((0, 1, 2, 3, 4, 5), ordered=True)),
        ("range(1, L//2 + 1)", Choice((1, 2, 3), ordered=True)),
        ("range(L-2,L+1)", Choice((4, 5, 6), ordered=True)),
        ("range(2, 13, 5)", Choice((2, 7, 12), ordered=True)),
        ("choice(zhang, electra)", Choice(("zhang", "electra"))),
        ("choice(1, 0.5, true)", Choice((1, 0.5, True))),
        ("choice('a b', L)", Choice(("a b", 6))),
        ("choice([biases], [biases, layernorms])", Choice((["biases"], ["biases", "layernorms"]))),
    ],
)
def test_meaning(text: str, space: Space) -> None:
    assert parse(text, layers=6) == space


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (0.9, "expected interval"),
        ("0.9", "expected interval"),
        ("", "expected interval"),
        ("interval(0.6", "expected interval"),
        ("uniform(0, 1)", "expected interval"),
        ("choice(1, null)", "expected interval"),  # as on Hydra's command line
        ("shuffle(choice(1, 2))", "expected interval"),
        ("interval(1.0, 0.6)", "low < high"),
        ("tag(log, interval(0, 1))", "both above 0"),
        ("range(0, 1, 0.5)", "whole numbers"),
        ("range(1, L//12 + 1)", r"at least one of them; it reads range\(1, 1\)"),
    ],
)
def test_nonsense(text: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text, layers=6)


RULES: dict[str, Rule] = {
    "decay": within("(0, 1]"),
    "depth": whole(0, high=6),
    "mode": one_of("F", "D"),
}


def test_every_value_must_be_allowed() -> None:
    good = {"decay": "interval(0.5, 1)", "depth": "range(0, L + 1)", "mode": "choice(F, D)"}
    assert space_problems("technique.t", good, RULES, 6) == []
    bad = {
        "decay": "interval(0, 1)",
        "depth": "range(0, L + 1)",
        "mode": "choice(F, G)",
        "speed": "interval(0, 1)",
    }
    decay, depth, mode, speed = space_problems("technique.t", bad, RULES, 7)
    assert "technique.t.search_space.decay is 'interval(0, 1)', which holds 0.0" in decay
    assert "which holds 7: technique.t.depth is a whole number from 0 to 6" in depth
    assert "which holds 'G'" in mode
    assert "has no knob of this name (decay, depth, mode)" in speed
    assert "expected knobs" in space_problems("technique.t", ["decay"], RULES, 6)[0]

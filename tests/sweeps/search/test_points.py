"""Spaces with conditions: what a point holds, what is typed for it, how many there are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluestab.core.config import compose, resolved
from bluestab.core.spaces import Choice, parse
from bluestab.sweeps.search.points import AtRandom, Knob, SearchSpace, overrides, shown, spelled


def knob(name: str, text: str) -> Knob:
    return Knob(name, parse(text, 12), text)


TECHNIQUE = Knob("technique", Choice(("none", "llrd", "[freeze,llrd]")), "")
DECAY = knob("technique.llrd.decay", "choice(0.8,0.9)")
DEPTH = knob("technique.freeze.depth", "range(1, L//4 + 1)")
LR = knob("optim.lr", "tag(log, interval(1e-5, 1e-3))")
SPACE = SearchSpace((TECHNIQUE, DECAY, DEPTH), ())


def test_a_knob_is_drawn_only_under_its_technique() -> None:
    for point in SPACE.sample(200):
        present = SPACE.present(point)
        assert ("technique.llrd.decay" in point) == ("llrd" in present)
        assert ("technique.freeze.depth" in point) == ("freeze" in present)


def test_every_point_once() -> None:
    every = SPACE.every()
    assert every is not None
    assert len(every) == 1 + 2 + 2 * 3
    assert len({repr(point) for point in every}) == len(every)
    assert sorted(map(repr, SPACE.sample(50))) == sorted(map(repr, every))
    assert SearchSpace((*SPACE.knobs, LR), ()).every() is None
    assert SearchSpace((knob("a.b", "range(0, 99999)"),), ()).every() is None


def test_fixed_techniques_hold_their_knobs() -> None:
    space = SearchSpace((DECAY,), ("llrd",))
    assert space.every() == [{DECAY.name: 0.8}, {DECAY.name: 0.9}]
    assert space.unowned() == []
    assert SearchSpace((DECAY,), ()).unowned() == [DECAY]
    assert SearchSpace((TECHNIQUE, DECAY), ()).unowned() == []


def test_corners_hold_both_ends_under_a_technique_that_has_the_knob() -> None:
    found = [(k.name, point) for k, point in SearchSpace((TECHNIQUE, DEPTH, LR), ()).corners()]
    assert [p["technique"] for name, p in found if name == "technique"] == list(
        TECHNIQUE.space.options  # type: ignore[union-attr]
    )
    depths = [p for name, p in found if name == DEPTH.name]
    assert depths == [{"technique": "[freeze,llrd]", DEPTH.name: d} for d in (1, 2, 3)]
    assert [p[LR.name] for name, p in found if name == LR.name] == [1e-5, 1e-3]


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("interval(0, 1)", [0.0, 1, 0.5], [1.1, -0.1, True, "a"]),
        ("int(interval(1, 3))", [1, 2, 3], [0, 4, 2.5, True]),
        ("range(2, 8, 3)", [2, 5], [3, 8]),
        ("choice(a, 1)", ["a", 1], ["b", True]),
    ],
)
def test_what_a_space_holds(text: str, inside: list[Any], outside: list[Any]) -> None:
    space = knob("x.y", text)
    assert all(map(space.holds, inside))
    assert not any(map(space.holds, outside))


def test_a_range_is_exclusive_and_steps() -> None:
    values = {
        SearchSpace((knob("x.y", "range(2, 9, 3)"),), ()).draw(AtRandom(i))["x.y"]
        for i in range(50)
    }
    assert values == {2, 5, 8}
    down = SearchSpace((knob("x.y", "range(5, 0, -2)"),), ())
    assert {down.draw(AtRandom(i))["x.y"] for i in range(50)} == {1, 3, 5}


@pytest.mark.parametrize("text", ["a b", "it's", "x,y", "${seed}", "back\\slash"])
def test_any_text_is_read_back(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    read = OverridesParser.create().parse_override(f"a={spelled(text)}").value()
    assert (read if isinstance(read, str) else read.text).replace("\\${", "${") == text


@given(st.floats(1e-12, 1e12), st.integers(-9, 9), st.booleans())
def test_spelled_values_are_read_back_exactly(number: float, whole: int, flag: bool) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    for value in (number, -number, whole, flag, None):
        read = parser.parse_override(f"a={spelled(value)}").value()
        assert read == value
        assert type(read) is type(value)


def test_what_is_typed_makes_the_run() -> None:
    point = {
        "optim.lr": 1e-05,
        "technique.llrd.decay": 0.8123456789012345,
        "technique": "[freeze,llrd]",
    }
    lines = overrides(point)
    assert lines[0] == "technique=[freeze,llrd]"  # before its knobs
    cfg = resolved(compose(lines))
    assert cfg["optim"]["lr"] == 1e-05
    assert cfg["technique"]["llrd"]["decay"] == 0.8123456789012345
    assert list(cfg["technique"]) == ["freeze", "llrd"]


def test_shown_to_people() -> None:
    assert shown({"optim.lr": 0.000123456, "technique": "llrd", "technique.llrd.decay": 0.9}) == (
        "technique=llrd optim.lr=0.0001235 llrd.decay=0.9"
    )


def test_different_seeds_draw_differently() -> None:
    space = SearchSpace((LR,), ())
    drawn = [space.draw(AtRandom(seed))["optim.lr"] for seed in range(20)]
    assert len(set(drawn)) == 20
    assert all(1e-5 <= lr <= 1e-3 for lr in drawn)
    assert space.sample(3, seed=1) == space.sample(3, seed=1)
    assert space.sample(3) != space.sample(3, seed=2)

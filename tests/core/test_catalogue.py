"""What exists, and yamls of one's own that lack their outer level."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.catalogue import outer_level_problems

LINE = ("task=gad", "model=tiny", "device=cpu", "hydra.launcher.dry_step=false")


@pytest.fixture
def own(cli: Callable[..., Any]) -> Callable[[str, str], None]:
    def write(name: str, text: str) -> None:
        path = Path("conf") / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


def test_a_node_of_its_own_is_fine(own: Callable[[str, str], None]) -> None:
    own("technique/mine", "mine:\n  _target_: lab.Mine\n")
    assert outer_level_problems("technique", {"mine": {"_target_": "lab.Mine"}, "none": {}}) == []


@pytest.mark.parametrize("group", ["technique", "logger"])
def test_the_file_and_its_first_line_are_named(own: Callable[[str, str], None], group: str) -> None:
    own(f"{group}/mine", "_target_: lab.Mine\nx: 1\n")
    (said,) = outer_level_problems(group, {"_target_": "lab.Mine", "x": 1})
    assert f"conf/{group}/mine.yaml lacks its outer level: its first line is 'mine:'" in said
    (said,) = outer_level_problems("technique", {"llrd": None})
    assert said == "technique.llrd is None: expected a technique with its knobs"


def test_an_outer_level_of_another_name_is_one_sentence(
    cli: Callable[..., Any], own: Callable[[str, str], None]
) -> None:
    own("technique/mine", "other:\n  _target_: lab.Mine\n")
    said = cli("check", "technique=mine", *LINE)
    assert said.code == 2, said
    assert "mine.yaml: its outer level is 'other:', expected 'mine:'" in said.err
    own("technique/mine", "mine:\n  _target_: lab.Mine\nllrd:\n  decay: 0.9\n")
    nodes = {"mine": {"_target_": "lab.Mine"}, "llrd": {"decay": 0.9}, "given": {}}
    assert outer_level_problems("technique", nodes) == []


@pytest.mark.parametrize(
    "more",
    [
        ("check", "technique=mine"),
        ("check", "technique=mine", "technique.mine.x=3"),
        ("check", "-m", "technique=none,mine"),
        ("run", "-m", "hydra/sweeper=optuna", "technique=mine", "search.space=[mine]"),
    ],
)
def test_a_technique_without_its_outer_level_is_one_sentence(
    cli: Callable[..., Any], own: Callable[[str, str], None], more: tuple[str, ...]
) -> None:
    own("technique/mine", "_target_: lab.Mine\n")
    line = [one for one in LINE if more[0] == "check" or not one.startswith("hydra.launcher")]
    said = cli(*more, *line)
    assert said.code == 2, said
    assert "mine.yaml lacks its outer level: its first line is 'mine:'" in said.err + said.out
    assert "Traceback" not in said.err

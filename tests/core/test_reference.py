"""Comments of yamls, behind values and below them; cards from docstrings, nothing imported."""

from __future__ import annotations

from pathlib import Path

from bluestab.core.catalogue import entries
from bluestab.core.paths import conf_dir
from bluestab.core.reference import card, knobs_of, opening

YAML = """\
# @package _global_
# First line.
# Second line.
name:
  _target_: a.B
  depth: 3           # blocks that do not train; 'a # b' is text
  text: "a # b"      # in quotes
  long: null         # goes on
                     # below
  bare: 1
  group:             # of things
    inner: [1, 2]    # a list
  items:             # a block
    - 1              # not this
  last:
"""


def test_knobs(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(YAML)
    found = {knob.path: (knob.default, knob.comment) for knob in knobs_of(file)}
    assert found == {
        "name._target_": ("a.B", ""),
        "name.depth": ("3", "blocks that do not train; 'a # b' is text"),
        "name.text": ('"a # b"', "in quotes"),
        "name.long": ("null", "goes on below"),
        "name.bare": ("1", ""),
        "name.group": ("", "of things"),
        "name.group.inner": ("[1, 2]", "a list"),
        "name.items": ("", "a block"),
        "name.last": ("", ""),
    }
    assert opening(file) == "First line.\nSecond line."


def test_every_yaml_of_ours_is_read_and_every_technique_has_its_card() -> None:
    for file in conf_dir().rglob("*.yaml"):
        knobs_of(file)
    for name in set(entries("technique")) - {"none"}:
        assert "Source" in card(f"bluestab.techniques.{name}.Any"), name
    assert card("somebody.else.Technique") == ""

"""Comments of yamls, behind values and below them; cards from docstrings, nothing imported."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_the_card_of_a_technique_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the own conf/ or on Python's path; read, not imported; only where it is allowed."""
    (tmp_path / "own_lab").mkdir()
    (tmp_path / "own_lab/__init__.py").write_text('"""All of it."""\nraise SystemExit\n')
    (tmp_path / "own_lab/noise.py").write_text('"""Noise.\n\nSource  x.\n"""\nimport no\n')
    monkeypatch.chdir(tmp_path)
    assert card("own_lab.noise.Noise") == ""
    monkeypatch.setenv("BLUESTAB_ALLOW", "own_lab, not_here")
    assert card("own_lab.noise.Noise") == "Noise.\n\nSource  x."
    assert card("own_lab.Noise") == "All of it."
    assert card("own_lab.other.Noise") == card("not_here.Noise") == ""

"""The one door from a yaml to code: only allowed classes of the expected kind, fully described."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import ConfigError
from bluestab.core.instantiate import allowed_packages, instantiate, load_class
from bluestab.models.description import Model
from bluestab.tasks.base import Task
from bluestab.techniques.base import Technique
from bluestab.techniques.llrd import Llrd

LLRD = "bluestab.techniques.llrd.Llrd"


def refusal(target: object, expects: type = Technique) -> str:
    with pytest.raises(ConfigError) as caught:
        load_class(target, expects, "technique.x")
    (problem,) = caught.value.problems
    assert problem.startswith("technique.x._target_ is ")
    return problem


@pytest.fixture(autouse=True)
def nothing_more_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLUESTAB_ALLOW", raising=False)


def test_a_class_of_the_right_kind_is_made() -> None:
    made = instantiate(
        {"_target_": LLRD, "decay": 0.5, "convention": "zhang"}, Technique, "technique.llrd"
    )
    assert type(made) is Llrd
    assert (made.decay, made.convention) == (0.5, "zhang")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.load",
        "torch.optim.adam.torch.load",
        "torch.nn.Linear",
        "bluestabber.techniques.Evil",
        ".bluestab.techniques.llrd.Llrd",
    ],
)
def test_foreign_packages_are_refused_before_they_are_imported(target: str) -> None:
    loaded = set(sys.modules)
    problem = refusal(target)
    assert "outside the allowed packages (bluestab)" in problem
    assert f"BLUESTAB_ALLOW={target.split('.')[0]}" in problem
    assert set(sys.modules) == loaded


@pytest.mark.parametrize(
    "target",
    [
        "bluestab.store.store.os.system",
        "bluestab.training.tokenise.hashlib.sha256",
        "bluestab.core.instantiate.importlib.import_module",
        "bluestab.techniques.llrd.Llrd.check",
        "bluestab..techniques.llrd.Llrd",
    ],
)
def test_attribute_walks_are_refused(target: str) -> None:
    assert "cannot import" in refusal(target)


@pytest.mark.parametrize(
    "target",
    [
        "bluestab.techniques.llrd.multiplier",
        "bluestab.training.check.check",
        "bluestab.store.store.os",
        "bluestab.techniques.llrd.SKIPPED_LEVELS",
    ],
)
def test_what_is_no_class_is_refused(target: str) -> None:
    assert "has no class" in refusal(target)


def test_a_class_that_only_passes_through_is_refused() -> None:
    """`bluestab.store.store` imports Path, which does not make it ours."""
    assert "outside the allowed packages" in refusal("bluestab.store.store.Path", object)


def test_the_wrong_slot_is_refused() -> None:
    assert "which is no Task" in refusal(LLRD, Task)
    assert "which is no Technique" in refusal("bluestab.models.Model")


def test_an_unfinished_class_is_refused() -> None:
    assert "abstract" in refusal("bluestab.tasks.base.Task", Task)


@pytest.mark.parametrize("target", [None, 7, "Llrd", "", ["bluestab.techniques.llrd.Llrd"]])
def test_what_is_no_path_is_refused(target: object) -> None:
    assert "expected a dotted path to a class" in refusal(target)


def test_a_typo_is_answered_with_the_nearest_name() -> None:
    assert "did you mean 'Llrd'?" in refusal("bluestab.techniques.llrd.Lrd")
    assert "cannot import bluestab.techniques.lrd" in refusal("bluestab.techniques.lrd.Llrd")


@pytest.mark.parametrize(
    ("knobs", "problems"),
    [
        ({"decay": 0.5}, ["missing key technique.llrd.convention (needed by Llrd)"]),
        (
            {"decay": 0.5, "convention": "zhang", "decai": 1},
            ["unknown key technique.llrd.decai; did you mean 'decay'?"],
        ),
        (
            {"decai": 0.5, "convention": "zhang"},
            [
                "unknown key technique.llrd.decai; did you mean 'decay'?",
                "missing key technique.llrd.decay (needed by Llrd)",
            ],
        ),
    ],
)
def test_keys_must_match_exactly(knobs: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        instantiate({"_target_": LLRD, **knobs}, Technique, "technique.llrd")
    assert list(caught.value.problems) == problems


def test_a_missing_target_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"technique\.x\._target_ is None"):
        instantiate({"decay": 0.5}, Technique, "technique.x")


OWN = """
from bluestab.techniques.base import Technique

class Nudge(Technique):
    def __init__(self, *, strength):
        self.strength = strength

class Stranger:
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one's own in the working folder, which is not on the path."""
    (tmp_path / "own_lab").mkdir()
    (tmp_path / "own_lab" / "__init__.py").write_text("")
    (tmp_path / "own_lab" / "nudge.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    for name in ("own_lab", "own_lab.nudge"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_an_own_class_comes_in_by_the_environment_only(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "set BLUESTAB_ALLOW=own_lab" in refusal("own_lab.nudge.Nudge")
    assert "own_lab" not in sys.modules
    monkeypatch.setenv("BLUESTAB_ALLOW", " other, own_lab ,")
    assert allowed_packages() == ("bluestab", "other", "own_lab")
    made = instantiate({"_target_": "own_lab.nudge.Nudge", "strength": 2}, Technique, "technique.x")
    assert type(made).__name__ == "Nudge"
    assert made.strength == 2  # type: ignore[attr-defined]
    assert "which is no Technique" in refusal("own_lab.nudge.Stranger")
    for name in ("own_lab.nudge", "own_lab"):
        sys.modules.pop(name)


def test_allowing_a_package_allows_no_attribute_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUESTAB_ALLOW", "torch")
    assert "cannot import" in refusal("torch.optim.adam.torch.load")
    assert "has no class load" in refusal("torch.load")
    assert "which is no Technique" in refusal("torch.nn.modules.linear.Linear")


def test_the_model_slot_takes_models_only() -> None:
    with pytest.raises(ConfigError, match="which is no Model"):
        instantiate({"_target_": "bluestab.models.networks.Loaded"}, Model, "model")


@pytest.mark.parametrize("body", ["raise SystemExit(0)", "import sys; sys.exit()", "1 / 0"])
def test_an_allowed_module_that_leaves_or_breaks_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    (tmp_path / "leaving.py").write_text(f"{body}\nclass Own: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("BLUESTAB_ALLOW", "leaving")
    with pytest.raises(ConfigError, match="cannot import leaving"):
        load_class("leaving.Own", object, "technique.own")


def test_an_allowed_class_that_leaves_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "import sys\nclass Own:\n    def __init__(self):\n        sys.exit(0)\n"
    (tmp_path / "quitting.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("BLUESTAB_ALLOW", "quitting")
    with pytest.raises(ConfigError, match=r"quitting\.Own left the program when it was made"):
        instantiate({"_target_": "quitting.Own"}, object, "technique.own")

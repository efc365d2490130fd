"""The suites that people run on their own plug-ins: a package of some passes them, a bad one fails.

The package is installed as anybody's would be, from its own pyproject.toml, and its tests run in a
process of their own that sees nothing of this folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bluestab
from bluestab.testing.technique_arms import chosen

EXAMPLE = Path(__file__).parent / "assets" / "plugin_example"
ROOT = Path(bluestab.__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has put the example, and in which its tests lie beside it."""
    folder = tmp_path_factory.mktemp("plugins")
    shutil.copytree(EXAMPLE, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    pip += ["--no-index", "--disable-pip-version-check", "--target", str(folder / "site")]
    done = subprocess.run([*pip, str(folder / "source")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.move(folder / "source" / "tests", folder / "tests")
    shutil.rmtree(folder / "source")
    return folder


def tried(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest on the tests of the example."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BLUESTAB_", "PYTEST_"))}
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**kept, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
    )


@pytest.mark.slow
def test_a_package_of_plug_ins_passes(installed: Path) -> None:
    done = tried(installed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout


@pytest.mark.parametrize(
    ("file", "right", "wrong", "chosen"),
    [
        ("gentle.py", "if s != 1.0]", "if s == 1.0]", "test_effects_are_true"),
        ("lines.py", "{rows[-1]['step']}", "the gene TP53", "test_no_text_leaves"),
    ],
)
@pytest.mark.slow
def test_a_bad_plug_in_fails(
    installed: Path, file: str, right: str, wrong: str, chosen: str
) -> None:
    path = installed / "site" / "bluestab_example" / file
    text = path.read_text(encoding="utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    try:
        done = tried(installed, "-k", chosen)
    finally:
        path.write_text(text, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    shown = re.search(r"^E +(AssertionError: )?assert \S", done.stdout, re.MULTILINE)
    assert shown, "with the values, as pytest tells them"


def test_a_technique_of_ones_own_has_the_values_of_its_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its knobs are called: only ours are made small for the tests."""
    file = tmp_path / "conf/technique/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("mine:\n  _target_: mylab.Mine\n  gamma: 0.5\n  depth: 2\n")
    monkeypatch.chdir(tmp_path)
    assert chosen("mine") == ("technique=[mine]",)
    assert chosen("mine", mine__depth=1) == ("technique=[mine]", "technique.mine.depth=1")
    assert "technique.freeze.depth=1" in chosen("freeze")


@pytest.mark.slow
def test_a_technique_that_is_refused_does_not_pass(installed: Path) -> None:
    """Its default does not fit the network of the suite: skipping would look like passing."""
    path = installed / "site/bluestab_example/conf/technique/gentle.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("factor: 0.5", "factor: 5"), encoding="utf-8")
    try:
        done = tried(installed, "-k", "TestGentle and finite")
    finally:
        path.write_text(text, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "technique.gentle.factor is 5: expected" in done.stdout
    assert "name `knobs` that fit" in done.stdout


def test_without_pytest_it_says_what_to_install() -> None:
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'pytest' else find(name, *a)\n"
        "import bluestab.testing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "bluestab.testing needs the Python package pytest" in done.stderr
    assert "bluestab[testing]" in done.stderr


def test_nothing_else_imports_pytest() -> None:
    package = Path(bluestab.__file__).parent
    users = [f for f in package.rglob("*.py") if "import pytest" in f.read_text(encoding="utf-8")]
    assert {f.parent.name for f in users} == {"testing"}

"""What `make release` checks by itself, without building anything."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """hatch_build.py, as hatchling loads it."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_and_links_become_absolute_or_go(hook: ModuleType) -> None:
    text = "a\n![p](x/y.png)\n[q](docs/z.md#h) [r](https://s.org/t)\n"
    made = hook.long_description(text, "https://s.org/raw/")
    assert made == (
        "a\n![p](https://s.org/raw/x/y.png)\n[q](https://s.org/raw/docs/z.md#h) [r](https://s.org/t)\n"
    )
    assert hook.long_description(text, None) == "a\nq [r](https://s.org/t)\n"


def test_the_long_description_leads_nowhere_inside_a_repository(hook: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for base in (None, "https://s.org/raw"):
        text = hook.long_description(readme, base)
        assert not re.search(r"\]\((?!https?://)", text)
    assert "](https://s.org/raw/notebooks/biosses_remedies.png)" in text


def test_version_and_python_agree_wherever_they_are_written() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    install = (ROOT / "docs/start/install.md").read_text()
    assert f"bluestab-{project['version']}-py3" in install
    from tests.release import PYTHONS, version

    assert version() == project["version"], "as CHANGELOG.md has it"
    said = {c.rpartition(" ")[2] for c in project["classifiers"] if "Python :: 3." in c}
    assert said == set(PYTHONS)


def test_containers_install_what_is_tested() -> None:
    for name in ("Dockerfile", "bluestab.def"):
        text = (ROOT / "containers" / name).read_text(encoding="utf-8")
        assert "constraints.txt" in text
        assert "make wheel" in text

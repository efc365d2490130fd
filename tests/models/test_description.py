"""Where the weights of a model come from: folders, packages and the hub, named by content."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bluestab.core.errors import ConfigError
from bluestab.core.types import SEQUENCE
from bluestab.models.networks import load
from tests.support.model_yamls import HUB, PACKAGED, model_of, skip_unless_installed


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    skip_unless_installed(request)


def test_an_own_folder_is_read_and_named_by_content(folder: Path) -> None:
    model = model_of("tiny", path=str(folder))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert model.identity() == f"sha256:{digest}"
    loaded = load(model, head=SEQUENCE, n_labels=2, attention="eager")
    assert loaded.fresh == loaded.layers.head


def test_an_incomplete_folder_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        model_of("tiny", path=str(folder)).identity()
    with pytest.raises(ConfigError, match="no such folder"):
        model_of("tiny", path=str(folder / "absent")).identity()


@pytest.mark.parametrize("name", HUB)
def test_a_missing_hub_model_says_how_to_bring_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = replace(model_of(name), hub="nobody/nothing")
    with pytest.raises(
        ConfigError,
        match=rf"bring it with: bluestab fetch model={name} \(or: hf download nobody/nothing",
    ):
        model.folder()


def test_a_copy_that_is_here_is_used_without_asking(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that is down, or has a newer commit, must not reach into a sweep that is under way."""

    def asked(*_: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("bluestab.models.description.local_copy", lambda *_, **__: folder)
    monkeypatch.setattr("bluestab.models.description.download", asked)
    assert model_of("bert_base_uncased").folder() == folder


@pytest.mark.parametrize("name", PACKAGED)
def test_the_packaged_file_is_the_published_one(name: str) -> None:
    model = model_of(name)
    folder = model.folder()
    assert folder is not None
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == model.sha256
    assert model.identity() == f"sha256:{digest}"
    said = json.loads((folder / "config.json").read_text())
    assert (said["num_hidden_layers"], said["hidden_size"]) == (model.layers, model.hidden_size)
    with pytest.raises(ConfigError, match="has sha256"):
        replace(model, sha256="0" * 64).identity()


@pytest.mark.parametrize(
    "package",
    ["helper.sub/model", "helper.sub", ".helper/x", "a b/x", "/etc", "__main__/x", "helper/../up"],
)
def test_to_find_a_package_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """To find `helper.sub`, Python would import `helper`; and a folder may not lead out of it."""
    home = tmp_path / "helper"
    (home / "sub").mkdir(parents=True)
    for file in (home / "__init__.py", home / "sub" / "__init__.py"):
        file.write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError):
        model_of("tiny", package=package, config=None).folder()
    assert not (tmp_path / "it-ran").exists()
    assert "helper" not in sys.modules

"""Weights of the old kind: converted without running anything, or refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bluestab.core.errors import ConfigError
from bluestab.models.hub import OLD_WEIGHTS, convert
from tests.support.model_yamls import model_of


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return open, (str(self.mark), "w")


def old(folder: Path) -> dict[str, torch.Tensor]:
    """The same weights as a pickle, two of them sharing their memory; no safetensors."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    name = next(iter(weights))
    held = {**weights, "a.twin": weights[name]}
    torch.save(held, folder / OLD_WEIGHTS)
    return held


def test_they_are_converted_by_fetch(folder: Path, cli: Any) -> None:
    held = old(folder)
    with pytest.raises(ConfigError, match=r"bluestab fetch model=auto model\.path="):
        model_of("tiny", path=str(folder)).folder()
    found = cli("fetch", "task=ncbi_disease", "model=auto", f"model.path={folder}")
    assert "was converted to model.safetensors" in found.out, found
    new = load_file(folder / "model.safetensors")
    assert new.keys() == held.keys()
    assert all(torch.equal(new[name], held[name]) for name in new)
    assert model_of("tiny", path=str(folder)).folder() == folder


def test_a_pickle_with_code_is_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    mark = tmp_path / "it-ran"
    (folder / OLD_WEIGHTS).write_bytes(pickle.dumps({"a": Evil(mark)}))
    with pytest.raises(OSError, match="cannot be converted"):
        convert(folder)
    assert not mark.exists()
    assert not (folder / "model.safetensors").exists()

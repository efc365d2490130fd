"""Miniatures of corpora, converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.miniatures import CONVERTERS, MINIATURES

Convert = Callable[..., dict[str, bytes]]


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Convert:
    """`convert(name, files={...})`: run a converter on its miniature, some files replaced."""

    def run(name: str, files: Mapping[str, bytes | None] | None = None) -> dict[str, bytes]:
        miniature, module = MINIATURES[name](), CONVERTERS[name]
        for constant, value in miniature.patches.items():
            monkeypatch.setattr(module, constant, value)
        paths = {}
        for i, (file, content) in enumerate({**miniature.files, **(files or {})}.items()):
            if content is None:
                continue
            paths[file] = tmp_path / f"download{i}" / Path(file).name
            paths[file].parent.mkdir(exist_ok=True)
            paths[file].write_bytes(content)
        before = sorted(tmp_path.rglob("*"))
        try:
            return module.convert(paths)
        finally:
            assert sorted(tmp_path.rglob("*")) == before, "a converter writes nothing"

    return run

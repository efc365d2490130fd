"""Every logger in conf/logger passes the suite that plug-ins pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

from bluestab.core.paths import conf_dir
from bluestab.core.types import RunRecord
from bluestab.testing.loggers import LoggerSuite
from bluestab.training.loggers import base

FOLDERS = {"csv": None, "mlflow": "mlruns", "tensorboard": "tensorboard", "wandb": "wandb"}
"""Logger -> where below the store it writes."""


class TestLoggers(LoggerSuite):
    """Every yaml in conf/logger."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def without_a_server(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
            patch.setattr(base, "PATIENCE", 300.0)
            yield

    @pytest.fixture(scope="class", params=FOLDERS)
    @classmethod
    def name(cls, request: pytest.FixtureRequest) -> str:
        return request.param  # type: ignore[no-any-return]

    @pytest.fixture(scope="class")
    @classmethod
    def written(cls, logged: RunRecord, root: Path, name: str) -> Path | None:
        folder = FOLDERS[name]
        return None if folder is None else root / folder


def test_every_logger_is_here() -> None:
    yamls = {file.stem for file in (conf_dir() / "logger").glob("*.yaml")}
    assert yamls - {"none"} == set(FOLDERS)

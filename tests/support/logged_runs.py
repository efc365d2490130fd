"""Runs whose logs are read again."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest

from tests.store.test_artefacts import SHORT

RUN = ("task=gad", "model=tiny", *SHORT)


def needs(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name}: the extra 'loggers' is not installed")


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "curve.csv").open(newline="") as file:
        return list(csv.DictReader(file))

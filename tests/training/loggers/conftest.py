"""Loggers have all the time that a busy machine needs."""

from __future__ import annotations

import pytest

from bluestab.training.loggers import base


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not what is tested here, unless a test says so."""
    monkeypatch.setattr(base, "PATIENCE", 300.0)

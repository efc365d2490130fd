"""Values are quoted so that Hydra reads them back."""

from __future__ import annotations

import pytest

from bluestab.core.config import compose, quoted


@pytest.mark.parametrize("text", ["a", "a'b", "a\\", "a\\'b", "${x}", "a,b=[c]{d}", " ", "\\\\'"])
def test_quoted(text: str) -> None:
    cfg = compose([f"store={quoted(text)}"])
    assert cfg.store == text

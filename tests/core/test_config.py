"""Values are quoted so that Hydra reads them back."""

from __future__ import annotations

import pytest

from bluestab.core.config import compose, leaves, quoted


@pytest.mark.parametrize("text", ["a", "a'b", "a\\", "a\\'b", "${x}", "a,b=[c]{d}", " ", "\\\\'"])
def test_quoted(text: str) -> None:
    cfg = compose([f"store={quoted(text)}"])
    assert cfg.store == text


def test_leaves_by_hand() -> None:
    node = {"a": {"b": 1, "c": [1]}, "d": None, "e": {}}
    assert dict(leaves(node)) == {"a.b": 1, "a.c": [1], "d": None}
    assert dict(leaves(node, without=("a",))) == {"d": None}

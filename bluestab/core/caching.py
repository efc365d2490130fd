"""Arguments for `functools.lru_cache` that are compared by content, not by identity."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any


class Shared:
    """`values` for a cached function; two of them are equal when their `content` is."""

    def __init__(self, content: Hashable, *values: Any) -> None:
        self.content, self.values = content, values

    def __hash__(self) -> int:
        return hash(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shared) and other.content == self.content

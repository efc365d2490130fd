"""An empty store."""

from tests.support.packed_groups import store

__all__ = ["store"]

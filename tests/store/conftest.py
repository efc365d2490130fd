"""A store of finished, diverged and crashed runs."""

from tests.support.stored_runs import store

__all__ = ["store"]

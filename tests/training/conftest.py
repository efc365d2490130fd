"""Fixtures of this wing: runs that can be made anew, as a start does."""

from tests.support.interrupted_runs import making

__all__ = ["making"]

"""A folder of a person's own, and runs that can be made anew, as a start does."""

from tests.support.interrupted_runs import making
from tests.support.model_yamls import folder

__all__ = ["folder", "making"]

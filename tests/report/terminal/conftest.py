"""A sweep that is begun and ended by hand."""

from tests.support.sweep_by_hand import fake

__all__ = ["fake"]

"""The contract of a launcher: take a checked sweep, see it through, leave the rest to the store."""

from __future__ import annotations

from abc import ABC, abstractmethod

from bluestab.planning import Sweep


class Backend(ABC):
    """A place where runs happen.

    One crash never stops the other runs; finished runs are skipped; what comes of each run is in
    the store, not in a return value.
    """

    @abstractmethod
    def launch(self, sweep: Sweep) -> None:
        """Raises RunsCrashed at the end if any run crashed."""

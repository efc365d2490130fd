"""SLURM's commands, answered by tests."""

from tests.support.simulated_slurm import said, site

__all__ = ["said", "site"]

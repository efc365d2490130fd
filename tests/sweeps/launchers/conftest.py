"""SLURM's commands, answered by tests."""

from tests.support.simulated_slurm import said

__all__ = ["said"]

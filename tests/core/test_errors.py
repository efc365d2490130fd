"""Sentences about what was refused."""

from __future__ import annotations

from bluestab.core.errors import did_you_mean


def test_the_nearest_name_is_never_the_refused_one() -> None:
    assert did_you_mean("partitio", ["partition", "mem"]) == "; did you mean 'partition'?"
    assert did_you_mean("partition", ["partition", "mem"]) == "; valid: mem"
    assert did_you_mean("partition", ["partition", "partitions"]) == "; did you mean 'partitions'?"
    assert did_you_mean("x", ["x"]) == ""

"""Objectives by hand, and the one rule that counts most: a search never sees a test score."""

from __future__ import annotations

import math

import pytest

from bluestab.core.types import RunRecord
from bluestab.sweeps.search.objectives import (
    OBJECTIVES,
    Outcome,
    failed_share,
    maximised,
    names,
    outcome,
    worth,
    worth_so_far,
)


def outcomes(*scores: float) -> list[Outcome]:
    return [Outcome(score, score <= 0.2, 10.0 * i) for i, score in enumerate(scores)]


def record(validation: float | None, *, status: str = "done", test: float = 99.0) -> RunRecord:
    metrics = {
        at: {"validation": {"f1": validation}, "test": {"f1": test}} for at in ("last", "best")
    }
    metrics["best"]["validation"] = {"f1": 0.75}
    result = {
        "key": "k",
        "metric": "f1",
        "metrics": None if status == "diverged" else metrics,
        "status": status,
        "failed_below": 0.2,
        "failure_score": -1.0,
        "degenerate": {"last": True, "best": True},
    }
    return RunRecord(2, result, {"seconds": {"total": 3.5}})


def test_by_hand() -> None:
    scores = outcomes(0.5, 0.1, 0.6, 0.8)
    assert worth("mean", scores) == pytest.approx(0.5)
    assert worth("median", scores) == pytest.approx(0.55)
    std = math.sqrt((0 + 0.16 + 0.01 + 0.09) / 3)
    assert worth("std", scores) == pytest.approx(std)
    assert worth("mean_minus_std", scores) == pytest.approx(0.5 - std)
    assert worth("lower_bound", scores) == pytest.approx(0.5 - 3.182446 * std / 2, abs=1e-6)
    assert worth("cvar", scores) == 0.1  # one of four
    assert worth("cvar", outcomes(0.5, 0.1, 0.6, 0.8, 0.9)) == pytest.approx(0.3)  # two of five
    assert worth("worst", scores) == 0.1
    assert worth("seconds", scores) == 15.0


@pytest.mark.parametrize("name", names())
def test_one_seed_has_a_worth(name: str) -> None:
    found = worth(name, [Outcome(0.4, False, 7.0)])
    assert found == {"std": 0.0, "seconds": 7.0}.get(name, 0.4)


def test_spread_and_seconds_are_to_be_small() -> None:
    assert [name for name in names() if not maximised(name)] == ["std", "seconds"]
    assert all(objective.wider >= 1 for objective in OBJECTIVES.values())


def test_only_validation_is_seen() -> None:
    one, other = outcome(record(0.4, test=0.0), "last"), outcome(record(0.4, test=1.0), "last")
    assert one == other == Outcome(0.4, False, 3.5)  # though the record calls it degenerate
    assert outcome(record(0.4), "best").score == 0.75


def test_failed_runs_count() -> None:
    assert outcome(record(0.2), "last") == Outcome(0.2, True, 3.5)  # at the bound
    assert outcome(record(None), "last") == Outcome(-1.0, True, 3.5)  # undefined
    assert outcome(record(0.9, status="diverged"), "last") == Outcome(-1.0, True, 3.5)
    assert failed_share(outcomes(0.1, 0.9, 0.2, 0.3)) == 0.5


def test_a_crash_is_no_outcome() -> None:
    with pytest.raises(ValueError, match="crashed"):
        outcome(record(0.5, status="crashed"), "last")


def test_what_a_point_is_worth_that_was_given_up() -> None:
    """None where nothing has ended, or one seed has no spread; else its objective so far."""
    two = [Outcome(0.5, False, 10.0), Outcome(0.7, False, 20.0)]
    assert all(worth_so_far(name, []) is None for name in names())
    assert worth_so_far("std", two[:1]) is None
    assert worth_so_far("mean", two[:1]) == 0.5
    for name in names():
        assert worth_so_far(name, two) == worth(name, two)

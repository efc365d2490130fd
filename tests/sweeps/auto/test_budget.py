"""What is left of a budget: of runs, and of time that others slow down."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bluestab.sweeps.auto.budget import REPORTING, RunBudget, TimeBudget, longest_run
from bluestab.sweeps.auto.plan import FEWEST, FEWEST_RUNS, n_arms, race_runs


def test_runs() -> None:
    budget = RunBudget(40)
    assert budget.left(race=True) == 24
    budget.use(20)
    assert (budget.left(race=True), budget.left(race=False)) == (4, 20)
    assert budget.deadline is None
    assert budget.spent is None


def test_the_race_leaves_enough_to_confirm_two_arms() -> None:
    for runs in range(FEWEST_RUNS, 300):
        assert runs - race_runs(runs) >= 2 * FEWEST
        assert race_runs(runs) >= FEWEST * n_arms(runs, 8)


def test_time_is_learned_from_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(
        "bluestab.sweeps.auto.budget.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    budget = TimeBudget(1000, spent=100, per_run=10, baseline=8, longest=20, workers=2)
    reserve = REPORTING + 1.2 * 20
    assert budget.left(race=False) == int((900 - reserve) / 10)
    assert budget.left(race=True) == 50
    assert budget.left(race=False, alone=True) == int((900 - REPORTING) / 8)
    clock[0] += 200
    budget.learn(10, 200.0, longest=40.0)  # twice as slow as was thought
    assert budget.spent == 300
    assert budget.left(race=True) == 15
    assert budget.deadline == 1000 - (REPORTING + 1.2 * 40) - 40
    budget.lost(40.0)
    assert budget.spent == 320, "two at a time"
    budget.lost(-40.0)
    budget.learn(0, 50.0, longest=0.0)
    assert budget.left(race=True) == 15


def test_nothing_is_left_when_no_run_may_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(
        "bluestab.sweeps.auto.budget.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    long = longest_run(600) + 20  # its end, and its second training, would come too late
    for longest, some in ((long, False), (longest_run(600) - 20, True)):
        budget = TimeBudget(600, spent=0, per_run=30, baseline=20, longest=longest, workers=2)
        assert bool(budget.left(race=True)) == bool(budget.left(race=False)) == some
        assert (budget.deadline > 0) == some
        assert budget.left(race=False, alone=True) > 0

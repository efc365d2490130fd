"""Advice goes by validation scores and the strongest baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bluestab.core.types import RunRecord
from bluestab.report.frames.summary import summary_frame
from bluestab.report.words.advice import advice
from tests.report.test_report import LLRD, record, runs_frame


def judged(technique: Any, mean: float, std: float, n: int = 20, **kwargs: Any) -> list[RunRecord]:
    """Runs whose validation scores are drawn; test scores are all 0.4, and play no part."""
    drawn = np.random.default_rng(int(1000 * mean)).normal(size=n)
    exact = mean + std * (drawn - drawn.mean()) / drawn.std(ddof=1)
    return [
        record(0.4 + seed / 1000, technique, seed, validation=float(x), **kwargs)
        for seed, x in enumerate(exact)
    ]


def advised(records: list[RunRecord], baseline: str = "none") -> Any:
    runs = runs_frame(records)
    (found,) = advice(runs, summary_frame(runs, baseline), "last")
    return found


def test_advice_goes_by_validation_and_tells_of_test() -> None:
    found = advised([*judged((), 0.5, 0.1), *judged(LLRD, 0.7, 0.04)])
    assert found.found.arm == "llrd"
    assert found.sentence().startswith("biosses with small: use llrd: validation mean 0.7000")
    assert "on test 0.4095 (" in found.sentence()
    assert "0 of 20 runs failed" in found.sentence()


@pytest.mark.parametrize(("n", "told"), [(16, True), (99, True), (100, False)])
def test_few_validation_items_are_told(n: int, told: bool) -> None:
    """All seeds share them: the lower bound over seeds does not know how few they are."""
    for of_llrd in (0.7, 0.5001):  # an arm is recommended, or none
        records = [*judged((), 0.5, 0.1), *judged(LLRD, of_llrd, 0.04)]
        for one in records:
            one.result["items"] = {"train": 64, "validation": n, "test": 20}
        said = advised(records).sentence()
        assert (f"mind: chosen on {n} validation items" in said) is told, said


def test_the_strongest_baseline_is_the_one_to_beat() -> None:
    records = [*judged((), 0.5, 0.1), *judged((), 0.8, 0.03, lr=2e-05),
               *judged(LLRD, 0.7, 0.04), *judged(LLRD, 0.75, 0.02, lr=2e-05)]  # fmt: skip
    found = advised(records)
    assert found.baseline == "none, lr=2e-05"
    assert found.found.arm == "none, lr=2e-05"


def test_a_run_without_a_validation_score_counts_with_its_failure_score() -> None:
    fine = judged(LLRD, 0.7, 0.01)
    broken = record(None, LLRD, 19, validation=None, status="diverged")
    found = advised([*judged((), 0.5, 0.1), *fine[:-1], broken])
    (standing,) = [c for c in found.found.standings if c.arm == "llrd"]
    assert standing.n == 20
    known = [r.result["metrics"]["last"]["validation"]["pearson"] for r in fine[:-1]]
    assert standing.mean == pytest.approx((sum(known) - 0.1) / 20), "the failure score is -0.1"

"""Stores of every shape: no two sentences of a report disagree, every figure is in the table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bluestab.core.types import RunRecord
from bluestab.report.frames.results import read_results
from bluestab.report.section import Results
from bluestab.report.words.headline import Headline, headlines
from bluestab.stats.verdict import MARGIN
from tests.report.test_report import LLRD, record, row, stored
from tests.support.compared_arms import REINIT

ARMS: dict[str, Any] = {"none": (), "llrd": LLRD, "reinit": REINIT}
SAYS = re.compile(r"(?<![\w.])[+-]?\d+\.\d{2,4}(?![\d.])")


def runs_of(
    arm: str, validation: np.ndarray, test: np.ndarray, failed: np.ndarray
) -> list[RunRecord]:
    return [
        record(
            0.1 if failed[seed] else float(test[seed]),
            ARMS[arm],
            seed,
            validation=0.1 if failed[seed] else float(validation[seed]),
        )
        for seed in range(len(test))
    ]


def drawn(rng: np.random.Generator) -> list[RunRecord]:
    """One, two or three arms of few or many seeds, steady or not, failing or not, or constant."""
    n = int(rng.choice([2, 4, 6, 8, 10, 20]))
    luck, records = rng.normal(size=n), []
    for arm in list(ARMS)[: int(rng.integers(2, 4))]:
        mean, spread = rng.choice([0.7, 0.75, 0.8, 0.8]), rng.choice([0.0, 0.01, 0.03, 0.15])
        own = int(rng.integers(max(2, n - 2), n + 1))
        noise = 0.5 * luck[:own] + rng.normal(size=own)
        validation = mean + spread * noise
        test = mean + rng.choice([0.0, 0.02, -0.04]) + spread * (noise + rng.normal(size=own)) / 2
        fails = rng.random(own) < rng.choice([0.0, 0.0, 0.2, 0.5])
        clip = (0.31, 1.0)
        records += runs_of(arm, np.clip(validation, *clip), np.clip(test, *clip), fails)
    return records


def read(path: Path, records: list[RunRecord]) -> Results:
    store = stored(path, records)
    return read_results(store, store.manifest("question"))


def said(found: Results) -> tuple[str, Headline]:
    (one,) = found.advice
    (headline,) = headlines(found.summary, {(one.task, one.model): one.found}, "last")
    return one.sentence(), headline


def figures(table: pd.DataFrame) -> set[str]:
    """Every number of the table, and those of a turned sign, in two to four digits."""
    numbers = {abs(float(x)) for column in table for x in pd.to_numeric(table[column], "coerce")
               if x == x and abs(x) != float("inf")}  # fmt: skip
    return {f"{x:.{digits}f}" for x in numbers for digits in (2, 3, 4)} | {f"{MARGIN:.2f}"}


@pytest.mark.parametrize(
    "number", [*range(10), *(pytest.param(n, marks=pytest.mark.slow) for n in range(10, 40))]
)
def test_sentences_agree_and_their_figures_are_in_the_table(number: int, tmp_path: Path) -> None:
    found = read(tmp_path, drawn(np.random.default_rng(number)))
    advice, headline = said(found)
    verdict = found.advice[0].found
    rows = {r["arm"]: r for r in found.summary.to_dict("records") if r["at"] == "last"}
    if verdict.state == "use":
        chosen = rows[str(verdict.arm)]
        assert chosen["effect"] not in ("worse", "behind")
        assert chosen["failed_paired"] <= chosen["failed_baseline"]
        assert verdict.arm not in verdict.ruled_out()
        assert headline.verdict != "worse" or f"most of all {verdict.arm}," not in headline.text
        assert chosen["validation_mean"] >= rows[verdict.baseline]["validation_mean"]
    for arm in verdict.ruled_out():
        assert f"use {arm}:" not in advice
        if headline.arm == arm and headline.verdict in ("better", "ahead"):
            assert "ruled out" in headline.text
    for one in rows.values():
        told = f"{one['arm']} raised" in headline.text
        assert not told or one["effect"] == "better"
    known = figures(found.summary[found.summary["at"] == "last"])
    for sentence in (advice, headline.text):
        for figure in SAYS.findall(sentence.replace("p < 0.001", "")):
            assert figure.lstrip("+-") in known, (figure, sentence)


def of_means(
    validation: dict[str, tuple[float, float]], test: dict[str, float], n: int = 12
) -> list[RunRecord]:
    """Arms of exactly these validation means and spreads, and test means; spreads are kept."""
    records: list[RunRecord] = []
    for stream, (arm, (mean, std)) in enumerate(validation.items()):
        noise = np.random.default_rng(stream).normal(size=n)
        noise = std * (noise - noise.mean()) / (noise.std(ddof=1) or 1)
        records += runs_of(arm, mean + noise, test[arm] + noise / 5, np.zeros(n, bool))
    return records


def test_what_test_shows_to_be_worse_is_not_advised(tmp_path: Path) -> None:
    """A steady arm of the better bound on validation, and a lower mean on validation and test."""
    records = of_means(
        {"none": (0.756, 0.16), "llrd": (0.725, 0.015)}, {"none": 0.8, "llrd": 0.763}
    )
    found = read(tmp_path / "a", records)
    advice, headline = said(found)
    assert found.advice[0].found.arm != "llrd"
    # without the difference on test: steadier and lower is nobody's to decide but the reader's
    records = of_means({"none": (0.756, 0.16), "llrd": (0.725, 0.015)}, {"none": 0.8, "llrd": 0.8})
    advice, headline = said(read(tmp_path / "b", records))
    assert "steadier or better is yours to choose" in advice
    records = of_means({"none": (0.7, 0.05), "llrd": (0.78, 0.02)}, {"none": 0.9, "llrd": 0.7})
    found = read(tmp_path / "c", records)
    advice, headline = said(found)
    assert found.advice[0].found.ruled_out("worse on test") == ["llrd"]
    assert headline.verdict == "worse"
    assert found.advice[0].found.arm == "none"
    assert "ruled out are arms shown to be worse on test: llrd" in advice
    assert row(found.summary, "llrd")["standing"] == "ruled out"
    assert row(found.summary, "llrd")["against"] == "worse on test"


def test_an_arm_that_fails_more_is_not_advised(tmp_path: Path) -> None:
    n = 20
    rng = np.random.default_rng(0)
    base = 0.6 + 0.15 * rng.normal(size=n)
    fails = np.arange(n) < 11
    records = [
        *runs_of("none", base, base, np.zeros(n, bool)),
        *runs_of("llrd", 0.9 + 0 * base, 0.9 + 0.001 * rng.normal(size=n), fails),
    ]
    found = read(tmp_path, records)
    _, headline = said(found)
    verdict = found.advice[0].found
    assert "fails more" in next(s.against for s in verdict.standings if s.arm == "llrd")
    assert verdict.arm != "llrd"
    assert "llrd failed more often: in 11 of 20 shared seeds instead of 1 (p = 0.006)" in (
        headline.text
    )


def test_an_arm_without_spread_is_the_steadiest(tmp_path: Path) -> None:
    n = 10
    rng = np.random.default_rng(1)
    base = 0.804 + 0.05 * rng.normal(size=n)
    records = [
        *runs_of("none", base, base, np.zeros(n, bool)),
        *runs_of("llrd", np.full(n, 0.9375), np.full(n, 0.93), np.zeros(n, bool)),
    ]
    advice, _ = said(read(tmp_path / "a", records))
    assert advice.startswith(
        "biosses with small: use llrd: validation mean 0.9375, at least 0.9375"
    )
    assert "its 10 seeds do not vary at all" in advice
    # and a baseline without spread is no reason to ask for more seeds
    records = [
        *runs_of("none", np.full(n, 0.55), np.full(n, 0.55), np.zeros(n, bool)),
        *runs_of("llrd", base, base, np.zeros(n, bool)),
    ]
    advice, _ = said(read(tmp_path / "b", records))
    assert "use llrd" in advice
    assert "none does not vary, so there is no ratio of spreads" in advice


def test_too_few_shared_runs_give_no_ratio_of_spreads(tmp_path: Path) -> None:
    n = 12
    rng = np.random.default_rng(3)
    base, failed = 0.5 + 0.02 * rng.normal(size=n), np.arange(n) > 0
    records = [
        *runs_of("none", base, base, failed),
        *runs_of("llrd", base + 0.4 + 0.02 * rng.normal(size=n), base + 0.4, np.zeros(n, bool)),
    ]
    advice, _ = said(read(tmp_path, records))
    assert "use llrd" in advice
    assert "neither failed at 1 of 12 shared runs, too few for a ratio of spreads" in advice


def test_a_change_that_unseen_failures_could_undo_is_not_called_one(tmp_path: Path) -> None:
    n = 10
    rng = np.random.default_rng(2)
    base = 0.8 + 0.005 * rng.normal(size=n)
    fine = np.zeros(n, bool)
    records = [*runs_of("none", base, base, fine), *runs_of("llrd", base + 0.02, base + 0.02, fine)]
    _, headline = said(read(tmp_path / "a", records))
    assert headline.verdict == "ahead"
    assert headline.text.startswith("llrd scored better than none by 0.020 [0.020, 0.020]")
    assert "So few cannot exclude that up to 26 % of its runs fail, which would undo that." in (
        headline.text
    )
    records = [*runs_of("none", base, base - 0.4, fine), *runs_of("llrd", base, base, fine)]
    _, headline = said(read(tmp_path / "b", records))
    assert headline.text.startswith("llrd raised Pearson by 0.400")


def test_as_good_as_the_baseline_is_a_finding(tmp_path: Path) -> None:
    n = 12
    base = 0.8 + 0.05 * np.random.default_rng(3).normal(size=n)
    near = base + 0.001 * np.random.default_rng(4).normal(size=n)
    fine = np.zeros(n, bool)
    found = read(tmp_path, [*runs_of("none", base, base, fine), *runs_of("llrd", near, near, fine)])
    _, headline = said(found)
    assert headline.verdict == "alike"
    assert headline.text.startswith("llrd is as good as none within 0.01 in Pearson over 12")


def test_looks_best_is_not_said_of_what_looks_worse(tmp_path: Path) -> None:
    n = 8
    rng = np.random.default_rng(5)
    arms = {"none": 0.8, "llrd": 0.78, "reinit": 0.75}
    records: list[RunRecord] = []
    for arm, mean in arms.items():
        scores = mean + 0.1 * rng.normal(size=n)
        records += runs_of(arm, scores, scores - scores.mean() + mean, np.zeros(n, bool))
    _, headline = said(read(tmp_path, records))
    assert headline.verdict == "open"
    assert "looks best" not in headline.text
    assert "nor looks better; nearest is llrd: -0.020" in headline.text

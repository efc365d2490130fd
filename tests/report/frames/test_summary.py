"""The summary's columns against scipy, corrected over the arms of a task."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from tests.report.test_report import LLRD, plain, row, stored, summary
from tests.support.compared_arms import ALIKE, BETTER, NONE, RECORDS, scores, values


def permutation_p(differences: np.ndarray) -> float:
    found = scipy_stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    return float(found.pvalue)


def test_columns_against_scipy() -> None:
    table = summary(RECORDS)
    none, llrd = row(table, "none"), row(table, "llrd")
    low, high = scipy_stats.t.interval(
        0.95, 7, loc=values(NONE).mean(), scale=scipy_stats.sem(values(NONE))
    )
    assert (none["ci_low"], none["ci_high"]) == (pytest.approx(low), pytest.approx(high))
    assert none["ci_method"] == "t"
    wilson = scipy_stats.binomtest(0, 8).proportion_ci(method="wilson")
    assert (none["failed_low"], none["failed_high"]) == pytest.approx((wilson.low, wilson.high))

    change = values(BETTER) - values(NONE)
    exact = permutation_p(change)
    assert llrd["p"] == pytest.approx(exact)
    assert llrd["test_name"] == "sign flips"
    # the interval is where the same test does not reject
    for end, outside in ((llrd["delta_low"], -1e-6), (llrd["delta_high"], 1e-6)):
        assert permutation_p(change - end - outside) < 0.05 <= permutation_p(change - end + outside)
    assert llrd["std_ratio"] == pytest.approx(values(BETTER).std(ddof=1) / values(NONE).std(ddof=1))
    assert llrd["std_ratio_low"] < llrd["std_ratio"] < llrd["std_ratio_high"]
    u = scipy_stats.mannwhitneyu(values(BETTER), values(NONE)).statistic
    assert llrd["improvement"] == pytest.approx(u / 64)
    assert (none["p"], none["p_adjusted"], none["delta_low"]) == (None, None, None)


def test_p_over_the_arms_of_one_task() -> None:
    """Every pattern of signs, flipped for both arms at once: the largest |t| of each is the bar."""
    table = summary(
        [*RECORDS, *plain(NONE, task="gad"), *plain(BETTER, technique=LLRD, task="gad")]
    )
    both = table[(table["task"] == "biosses") & (table["at"] == "last")].set_index("arm")
    gains = np.stack([values(arm) - values(NONE) for arm in (BETTER, ALIKE)])

    def t(x: np.ndarray) -> np.ndarray:
        return np.abs(x.mean(axis=1)) / (x.std(axis=1, ddof=1) / x.shape[1] ** 0.5)

    flips = itertools.product((1, -1), repeat=gains.shape[1])
    largest = np.array([t(gains * np.array(signs)).max() for signs in flips])
    for name, seen in zip(("llrd", "reinit"), t(gains), strict=True):
        expected = float(np.mean(largest >= seen - 1e-9))
        assert both.loc[name, "p_adjusted"] == pytest.approx(expected)
        assert both.loc[name, "p"] <= both.loc[name, "p_adjusted"]
        assert both.loc[name, "delta_all_low"] <= both.loc[name, "delta_low"]
    assert both.loc["reinit", "p_adjusted"] > both.loc["reinit", "p"], "corrected"
    assert both.loc["llrd", "effect"] in ("better", "ahead")
    assert both.loc["reinit", "effect"] == "open"
    alone = row(table[table["task"] == "gad"], "llrd")
    assert alone["p_adjusted"] == pytest.approx(alone["p"]), "a family of its own"


def test_no_p_where_the_seeds_cannot_reach_the_level() -> None:
    few = [*plain(scores(0.5, 0.01, 5, 0)), *plain(scores(0.9, 0.01, 5, 1), technique=LLRD)]
    llrd = row(summary(few), "llrd")
    assert llrd["delta"] == pytest.approx(0.4, abs=0.02)
    assert (llrd["p"], llrd["p_adjusted"]) == (None, None)


def test_seeds_still_lacking(cli: Callable[..., Any]) -> None:
    """By scipy's paired t-test power: the smallest n at which 80 % of experiments find d after a
    correction for two arms, with the spread that is exceeded by 20 % of those like it."""
    spread = (values(ALIKE) - values(NONE)).std(ddof=1) * (7 / scipy_stats.chi2.ppf(0.2, 7)) ** 0.5

    def power(n: int, d: float) -> float:
        critical, away = scipy_stats.t.ppf(1 - 0.0125, n - 1), d / spread * n**0.5
        found = scipy_stats.nct(n - 1, away)
        return float(found.sf(critical) + found.cdf(-critical))

    stored(Path("runs"), RECORDS)
    for d in (0.02, 0.05):
        cli("report", "--out", "out", "--difference", str(d))
        table = pd.read_csv("out/summary.csv")
        alike, better = row(table, "reinit"), row(table, "llrd")
        needed = int(alike["more_seeds"]) + 8
        assert power(needed, d) >= 0.8 > power(needed - 1, d)
        assert alike["difference"] == d
        assert better["p_adjusted"] < 0.05
        assert better["more_seeds"] is None, "shown already"
        assert row(table, "none")["more_seeds"] is None
    assert cli("report", "--difference", "0").code == 2

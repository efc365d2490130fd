"""Intervals, tests, advice, published numbers and tables of a report, from handmade records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from bluestab.core.types import RunRecord
from bluestab.report.frames.beside_published import published_frame, published_sentences
from bluestab.report.frames.compare import compare, mention
from bluestab.report.frames.summary import summary_frame
from bluestab.report.tables import latex, markdown
from bluestab.report.words.advice import advice
from tests.report.test_report import LLRD, plain, record, row, runs_frame, stored, summary

REINIT = [("reinit", {"depth": 1})]
FREEZE_ALL = [("freeze", {"depth": 6})]


def scores(mean: float, std: float, n: int, stream: int) -> dict[int, float | None]:
    drawn = np.random.default_rng(stream).normal(mean, std, size=n)
    return {seed: float(x) for seed, x in enumerate(drawn)}


NONE, BETTER, ALIKE = scores(0.5, 0.05, 8, 0), scores(0.65, 0.04, 8, 1), scores(0.5, 0.05, 8, 2)
RECORDS: list[RunRecord] = [
    *plain(NONE),
    *plain(BETTER, technique=LLRD),
    *plain(ALIKE, technique=REINIT),
]


def values(of: dict[int, float | None]) -> np.ndarray:
    return np.array([x for x in of.values() if x is not None])


# --- the summary ---------------------------------------------------------------------------------


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
    low, high = scipy_stats.t.interval(0.95, 7, loc=change.mean(), scale=scipy_stats.sem(change))
    assert (llrd["delta_low"], llrd["delta_high"]) == pytest.approx((low, high))
    exact = scipy_stats.permutation_test(
        (change,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert llrd["p"] == pytest.approx(exact.pvalue)
    assert llrd["test_name"] == "paired permutation"
    assert llrd["std_ratio"] == pytest.approx(values(BETTER).std(ddof=1) / values(NONE).std(ddof=1))
    assert llrd["std_ratio_low"] < llrd["std_ratio"] < llrd["std_ratio_high"]
    u = scipy_stats.mannwhitneyu(values(BETTER), values(NONE)).statistic
    assert llrd["improvement"] == pytest.approx(u / 64)
    assert (none["p"], none["p_adjusted"], none["delta_low"]) == (None, None, None)


def test_holm_over_the_arms_of_one_task() -> None:
    table = summary(
        [*RECORDS, *plain(NONE, task="gad"), *plain(BETTER, technique=LLRD, task="gad")]
    )
    both = table[(table["task"] == "biosses") & (table["at"] == "last")].set_index("arm")
    p = both.loc[["llrd", "reinit"], "p"].astype(float)
    assert p["llrd"] < p["reinit"]
    assert both.loc["llrd", "p_adjusted"] == pytest.approx(2 * p["llrd"])
    assert both.loc["reinit", "p_adjusted"] == pytest.approx(p["reinit"])
    alone = row(table[table["task"] == "gad"], "llrd")
    assert alone["p_adjusted"] == pytest.approx(alone["p"]), "a family of its own"


def test_no_p_where_the_seeds_cannot_reach_the_level() -> None:
    few = [*plain(scores(0.5, 0.01, 5, 0)), *plain(scores(0.9, 0.01, 5, 1), technique=LLRD)]
    llrd = row(summary(few), "llrd")
    assert llrd["delta"] == pytest.approx(0.4, abs=0.02)
    assert (llrd["p"], llrd["p_adjusted"]) == (None, None)


def test_seeds_still_lacking(cli: Callable[..., Any]) -> None:
    """By scipy's paired t-test power: the smallest n at which 80 % of experiments find d."""
    spread = (values(BETTER) - values(NONE)).std(ddof=1)

    def power(n: int, d: float) -> float:
        critical, away = scipy_stats.t.ppf(0.975, n - 1), d / spread * n**0.5
        found = scipy_stats.nct(n - 1, away)
        return float(found.sf(critical) + found.cdf(-critical))

    stored(Path("runs"), RECORDS)
    for d in (0.02, 0.05):
        cli("report", "--out", "out", "--difference", str(d))
        table = pd.read_csv("out/summary.csv")
        llrd = row(table, "llrd")
        needed = int(llrd["more_seeds"]) + 8
        assert power(needed, d) >= 0.8 > power(needed - 1, d)
        assert llrd["difference"] == d
        assert row(table, "none")["more_seeds"] is None
    assert cli("report", "--difference", "0").code == 2


# --- tables --------------------------------------------------------------------------------------


def test_markdown_and_latex() -> None:
    table = summary(RECORDS)
    said = markdown(table, "last", ["a note"])
    lines = {line.split(" | ")[0].strip("| "): line for line in said.splitlines()}
    llrd = row(table, "llrd")
    assert f"**{llrd['mean']:.4f}**" in lines["llrd"]
    assert "**" not in lines["none"]
    assert f"{llrd['delta']:+.4f}*" in lines["llrd"]
    assert f"{llrd['p_adjusted']:.3f}" in lines["llrd"]
    assert "*" not in lines["reinit"]
    assert "over 8 seeds per arm" in said
    assert "Holm over the 2 comparisons" in said
    assert said.endswith("- a note\n")

    rows = table[table["at"] == "last"].to_dict("records")
    rows[0]["arm"] = "none, 50% & more_of #1"
    text = latex("bc5cdr_chem", "minilm", rows, "last")
    assert r"none, 50\% \& more\_of \#1 & 8 & 0" in text
    assert rf"\textbf{{{llrd['mean']:.4f}}}" in text
    assert r"\label{tab:bc5cdr-chem-minilm}" in text
    assert text.count(r"\\") == 4, "headings and three arms"
    for rule in ("toprule", "midrule", "bottomrule"):
        assert rf"\{rule}" in text


def test_few_seeds_have_a_dash() -> None:
    few = summary([*plain({0: 0.5, 1: 0.6}), *plain({0: 0.7, 1: 0.9}, technique=LLRD)])
    cells = next(line for line in markdown(few, "last").splitlines() if "llrd" in line).split(" | ")
    assert cells[7] == "-"
    one = summary(plain({0: 0.5}))
    assert "intervals of the mean: none, too few seeds" in markdown(one, "last")


def test_files_of_a_report(cli: Callable[..., Any]) -> None:
    stored(Path("runs"), RECORDS)
    stale = Path("out/tables/gad_old.tex")
    stale.parent.mkdir(parents=True)
    stale.write_text("old", encoding="utf-8")
    said = cli("report", "--out", "out")
    assert (said.code, said.err) == (0, "")
    assert "95 % interval" in said.out
    assert [file.name for file in Path("out/tables").iterdir()] == ["biosses_small.tex"]
    last = Path("out/summary.md").read_text(encoding="utf-8")
    assert "at the last step" in last
    assert "biosses with small: " in last, "the advice"
    assert "biosses with small: " in said.out

    said = cli("report", "--out", "out", "--at", "best")
    assert "test score at the best step" in said.out
    best = Path("out/summary.md").read_text(encoding="utf-8")
    assert "0.9000" in best, "every best score of these records"
    assert cli("report", "--at", "first").code == 2


# --- advice --------------------------------------------------------------------------------------


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
    (candidate,) = [c for c in found.found.candidates if c.arm == "llrd"]
    assert candidate.n == 20
    known = [r.result["metrics"]["last"]["validation"]["pearson"] for r in fine[:-1]]
    assert candidate.mean == pytest.approx((sum(known) - 0.1) / 20), "the failure score is -0.1"


# --- published numbers ---------------------------------------------------------------------------


def test_beside_published_numbers() -> None:
    """Gu et al. 2022, table 6, BIOSSES: 0.9230 for PubMedBERT, without a spread."""
    runs = runs_frame(plain({0: 0.90, 1: 0.92, 2: 0.95}))
    runs["model"] = "biomedbert_base"
    (cell,) = set(runs["cell"])
    full = {cell: {"task": {"train_size": None}}}
    (found,) = published_frame(runs, full, "last").to_dict("records")
    assert (found["published_mean"], found["published_n"], found["verdict"]) == (
        0.923,
        10,
        "within",
    )
    assert found["interval_of"] == "ours"
    (said,) = published_sentences(pd.DataFrame([found]))
    assert "0.9233 (n = 3); published 0.9230 (Gu et al. 2022" in said
    assert "they agree" in said

    part = {cell: {"task": {"train_size": 64}}}
    assert published_frame(runs, part, "last").empty, "a part of the data is another task"
    runs["technique"] = "freeze"
    assert published_frame(runs, full, "last").empty, "another technique"


def test_far_from_a_published_number_and_one_seed() -> None:
    runs = runs_frame(plain({0: 0.40, 1: 0.42, 2: 0.41}))
    runs["model"] = "biomedbert_base"
    full = {cell: {"task": {}} for cell in runs["cell"]}
    (said,) = published_sentences(published_frame(runs, full, "last"))
    assert "ours is below it (our interval 0.3852 to 0.4348)" in said
    (said,) = published_sentences(published_frame(runs[runs["seed"] == 0], full, "last"))
    assert "two seeds or more would tell" in said


# --- two stores ----------------------------------------------------------------------------------


def test_the_same_cells_of_two_stores(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", RECORDS)
    moved = {seed: (x or 0) + 0.1 for seed, x in NONE.items()}
    b = stored(tmp_path / "b", [*plain(moved), *plain(BETTER, technique=LLRD)])
    found = compare(a, b)
    none, llrd = found.table.to_dict("records")
    assert (none["arm"], none["n_a"], none["n_b"], none["n_paired"]) == ("none", 8, 8, 8)
    assert none["delta"] == pytest.approx(0.1)
    assert none["p"] == pytest.approx(2 / 2**8)
    assert none["p_adjusted"] == none["p"], "of two equal arms there is nothing to test"
    assert (none["n_same_run"], none["n_same_score"], none["differs"]) == (8, 0, "")
    assert "8 of 8 runs that both hold have other scores" in mention(none)
    assert (llrd["n_same_score"], llrd["delta"], mention(llrd)) == (8, 0.0, "")
    assert found.alone == ["only in A: biosses with small, reinit (8 runs)"]


def test_arms_of_one_name_whose_configs_differ(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", plain(NONE))
    b = stored(tmp_path / "b", plain(BETTER, lr=2e-05))
    (found,) = compare(a, b).table.to_dict("records")
    assert found["differs"] == "optim.lr: 1e-05 -> 2e-05"
    assert found["n_same_run"] == 0
    assert found["delta"] == pytest.approx((values(BETTER) - values(NONE)).mean())
    two = stored(tmp_path / "c", [*plain(NONE, lr=2e-05), *plain(NONE, lr=3e-05)])
    assert compare(a, two).table.empty, "which of the two would be meant?"
    assert len(compare(a, two).alone) == 3


def test_compare_as_a_command(cli: Callable[..., Any]) -> None:
    stored(Path("a"), RECORDS)
    stored(Path("b"), RECORDS)
    said = cli("compare", "a", "b", "--out", "both.csv")
    assert (said.code, said.err) == (0, "")
    assert said.out.count("8 of 8 equal") == 3
    assert Path("both.csv").read_text(encoding="utf-8").count("\n") == 4
    assert cli("compare", "a", "nowhere").code != 0

"""Published numbers: the files that ship, what a broken one is called, and verdicts by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bluestab import stats
from bluestab.core.errors import ConfigError
from bluestab.core.paths import conf_dir
from bluestab.report.frames.published import Published, read_published, verdict
from bluestab.testing.corpora import published_tasks

HEAD = "# Somebody 2020, A paper\ntask,model,arm,metric,split,n,ddof,mean,std,table\n"


def test_shipped_files_name_tasks_models_and_metrics_of_ours() -> None:
    rows = read_published()
    assert {row.source.split(",")[0].split(" et")[0] for row in rows} >= {"Gu", "Zhang"}
    ours = {file.stem for file in published_tasks()}
    models = {file.stem for file in (conf_dir() / "model").glob("*.yaml")}
    techniques = {file.stem for file in (conf_dir() / "technique").glob("*.yaml")}
    assert {row.task for row in rows} - ours == {"rte", "mrpc", "cola", "stsb"}, "those of GLUE"
    assert {row.model for row in rows} <= models
    assert {row.technique for row in rows} - techniques == {"init_from MNLI"}
    for row in rows:
        if row.task in ours:
            yaml = (conf_dir() / "task" / f"{row.task}.yaml").read_text(encoding="utf-8")
            assert f"\nmetric: {row.metric} " in yaml + " " or f"\nmetric: {row.metric}\n" in yaml


def test_known_figures() -> None:
    """Gu et al. 2022, table 6; Du & Nguyen divide by n."""
    rows = read_published()
    ours = [r for r in rows if r.model == "biomedbert_base" and r.table == "Table 6"]
    (one,) = [r for r in ours if r.task == "biosses"]
    assert (one.mean, one.std, one.n, one.metric) == (0.9230, None, 10, "pearson")
    assert len(ours) == 13
    (dung,) = [r for r in rows if r.table == "notebooks" and r.task == "rte" and r.model ==
               "bert_large_uncased" and r.arm == "none"]  # fmt: skip
    assert dung.std == pytest.approx(0.0177 * (20 / 19) ** 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task,model\n", "line 1: expected a comment"),
        ("# a\ntask,model,mean\nx,y,0.5\n", "no column arm, metric, split, table"),
        (HEAD + "t,m,none,f1,test,5,,92.3,,T1\n", "line 3: mean is '92.3'"),
        (HEAD + "t,m,none,f1,test,5,,high,,T1\n", "line 3: mean is 'high', expected a number"),
        (HEAD + "t,m,none,f1,test,5,,nan,,T1\n", "expected a number"),
        (HEAD + "t,m,none,f1,test,5,,,,T1\n", "expected a mean"),
        (HEAD + "t,m,none,f1,test,2.5,,0.5,,T1\n", "n is '2.5'"),
        (HEAD + "t,m,none,f1,test,5,,0.5,1.2,T1\n", "std '1.2'"),
        (HEAD + "\n# more\nt,m,none,f1,test,5,,0.5\n", "line 5: it has more or fewer fields"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_published([tmp_path])


def theirs(mean: float, std: float | None, n: int | None) -> Published:
    return Published("A", "1", "biosses", "minilm", "none", "pearson", "test", n, mean, std)


def test_welch_where_both_have_a_spread() -> None:
    scores, paper = [0.70, 0.74, 0.78], theirs(0.80, 0.05, 10)
    expected = scipy_stats.ttest_ind_from_stats(0.74, 0.04, 3, 0.80, 0.05, 10, equal_var=False)
    error = abs(-0.06 / expected.statistic)
    df = error**4 / ((0.04**2 / 3) ** 2 / 2 + (0.05**2 / 10) ** 2 / 9)
    found = verdict(scores, paper)
    assert found is not None
    assert (found.word, found.spread, found.n) == ("within", "both", 10)
    half = scipy_stats.t.ppf(0.975, df) * error
    assert (found.interval.low, found.interval.high) == pytest.approx((-0.06 - half, -0.06 + half))
    for mean, word in ((0.74 + half + 0.001, "below"), (0.74 - half - 0.001, "above")):
        again = verdict(scores, theirs(mean, 0.05, 10))
        assert again is not None
        assert again.word == word
    assert 2 * scipy_stats.t.sf(abs(expected.statistic), df) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("std", "n", "runs"), [(None, 5, 5), (None, 1, 1), (None, None, 1), (0.03, None, 2)]
)
def test_ours_is_taken_where_they_give_no_spread(
    std: float | None, n: int | None, runs: int
) -> None:
    """Student's interval of two samples with one variance, which is that of ours."""
    found = verdict([0.70, 0.74, 0.78], theirs(0.75, std, n))
    assert found is not None
    assert (found.word, found.spread, found.n) == ("within", "ours", runs)
    half = scipy_stats.t.ppf(0.975, 2) * 0.04 * (1 / 3 + 1 / runs) ** 0.5
    assert (found.interval.low, found.interval.high) == pytest.approx((-0.01 - half, -0.01 + half))


@pytest.mark.parametrize("scores", [[0.7], [0.7, 0.7, 0.7]])
def test_theirs_is_taken_where_ours_have_no_spread(scores: list[float]) -> None:
    found = verdict(scores, theirs(0.80, 0.05, 10))
    assert found is not None
    assert (found.word, found.spread) == ("within" if len(scores) == 1 else "below", "theirs")
    half = scipy_stats.t.ppf(0.975, 9) * 0.05 * (1 / len(scores) + 1 / 10) ** 0.5
    assert found.interval.high == pytest.approx(-0.1 + half)


def test_no_spread_on_either_side() -> None:
    assert verdict([0.7], theirs(0.7, None, 5)) is None
    assert verdict([0.7], theirs(0.7, 0.1, None)) is None
    assert verdict([], theirs(0.7, 0.1, 5)) is None


def test_crossed_seeds_are_no_further_runs() -> None:
    seeds = [(("init", i), ("order", j)) for i in range(3) for j in range(3)]
    scores = [0.1 * i + 0.01 * j for i in range(3) for j in range(3)]
    crossed = verdict(scores, theirs(0.2, 0.05, 10), stats.design_of(seeds))
    plain = verdict(scores, theirs(0.2, 0.05, 10))
    assert crossed is not None
    assert plain is not None
    assert crossed.interval.high - crossed.interval.low > plain.interval.high - plain.interval.low


@pytest.mark.parametrize(
    ("their_n", "our_n", "known"),
    [(5, 5, True), (20, 5, True), (20, 1, True), (5, 5, False), (20, 10, False)],
)
def test_a_repetition_is_called_apart_as_often_as_said(
    their_n: int, our_n: int, known: bool
) -> None:
    """By their interval alone: 12, 35, 67 % of exact repetitions, 37 % without their std."""
    rng = np.random.default_rng([their_n, our_n])
    apart = 0
    for _ in range(2000):
        paper, ours = rng.normal(size=their_n), rng.normal(size=our_n)
        std = float(paper.std(ddof=1)) if known else None
        found = verdict(ours.tolist(), theirs(float(paper.mean()), std, their_n))
        assert found is not None
        apart += found.word != "within"
    assert 0.03 <= apart / 2000 <= 0.065

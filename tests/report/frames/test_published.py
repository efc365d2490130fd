"""Published numbers: the files that ship, what a broken one is called, and verdicts by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats as scipy_stats

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


def test_verdict_by_their_interval() -> None:
    paper = theirs(0.80, 0.05, 10)
    half = scipy_stats.t.ppf(0.975, 9) * 0.05 / 10**0.5
    for mean, word in ((0.80, "within"), (0.80 + half + 0.001, "above"), (0.70, "below")):
        found = verdict([mean, mean], paper)
        assert found is not None
        assert (found.word, found.of) == (word, "theirs")
        assert found.interval.high == pytest.approx(0.80 + half)


def test_verdict_by_our_interval_where_they_give_no_spread() -> None:
    scores = [0.70, 0.74, 0.78]
    low, high = scipy_stats.t.interval(0.95, 2, loc=0.74, scale=0.04 / 3**0.5)
    for mean, word in ((0.75, "within"), (high + 0.01, "below"), (low - 0.01, "above")):
        found = verdict(scores, theirs(mean, None, 5))
        assert found is not None
        assert (found.word, found.of) == (word, "ours")
    assert verdict([0.7], theirs(0.7, None, 5)) is None
    assert verdict([], theirs(0.7, 0.1, 5)) is None

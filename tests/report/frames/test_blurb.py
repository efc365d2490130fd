"""The BLURB score against every published column, and in a report of handmade records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats as scipy_stats

from bluestab.core.keys import cell_of, key_of
from bluestab.core.types import RunRecord
from bluestab.report.frames import blurb
from bluestab.report.frames.blurb_scores import COLUMNS, notes
from bluestab.report.frames.results import read_results
from bluestab.report.write import write_report
from tests.report.test_report import LLRD, read, record, stored

TASKS = (
    *("bc5cdr_chem", "bc5cdr_disease", "ncbi_disease", "bc2gm", "jnlpba", "ebm_pico"),
    *("chemprot", "ddi", "gad", "biosses", "hoc", "pubmedqa", "bioasq"),
)

# One column per line in the order of TASKS, and the printed BLURB score: mean test scores in
# percent. Columns are one of Gu et al. 2022 (ACM HEALTH 3(1), arXiv 2007.15779), Table 6, ...
PUBLISHED = {
    "BERT uncased": (
        *(89.25, 81.44, 85.67, 80.90, 77.69, 72.34),
        *(71.86, 80.04, 80.41, 82.68, 80.20, 51.62, 70.36),
        76.11,
    ),
    "BERT cased": (
        *(89.99, 79.92, 85.87, 81.23, 77.51, 71.70),
        *(71.54, 79.34, 79.61, 81.40, 80.12, 49.96, 74.44),
        75.86,
    ),
    "RoBERTa": (
        *(89.43, 80.65, 86.62, 80.90, 77.86, 73.02),
        *(72.98, 79.52, 80.63, 81.25, 79.66, 52.84, 75.20),
        76.46,
    ),
    "BioBERT": (
        *(92.85, 84.70, 89.13, 83.82, 78.55, 73.18),
        *(76.14, 80.88, 82.36, 89.52, 81.54, 60.24, 84.14),
        80.34,
    ),
    "SciBERT uncased": (
        *(92.49, 84.54, 88.10, 83.36, 78.68, 73.12),
        *(75.24, 81.06, 82.38, 86.25, 80.66, 57.38, 78.86),
        78.86,
    ),
    "SciBERT cased": (
        *(92.51, 84.70, 88.25, 83.36, 78.51, 73.06),
        *(75.00, 81.22, 81.34, 87.15, 81.16, 51.40, 74.22),
        78.14,
    ),
    "ClinicalBERT": (
        *(90.80, 83.04, 86.32, 81.71, 78.07, 72.06),
        *(72.04, 78.20, 80.48, 91.23, 80.74, 49.08, 68.50),
        77.29,
    ),
    "BlueBERT": (
        *(91.19, 83.69, 88.04, 81.87, 77.71, 72.54),
        *(71.46, 77.78, 79.15, 85.38, 80.48, 48.44, 68.71),
        76.27,
    ),
    "PubMedBERT": (
        *(93.33, 85.62, 87.82, 84.52, 79.10, 73.38),
        *(77.24, 82.36, 83.96, 92.30, 82.32, 55.84, 87.56),
        81.16,
    ),
    # ... of Tables 7, 9, 10 and 11 (settings of pretraining), ...
    "general vocabulary, word pieces": (
        *(93.20, 85.00, 88.39, 83.65, 78.83, 73.30),
        *(75.04, 81.30, 83.02, 91.36, 81.76, 52.20, 73.69),
        79.16,
    ),
    "general vocabulary, whole words": (
        *(93.31, 85.28, 88.53, 83.93, 78.77, 73.52),
        *(76.70, 82.60, 82.42, 91.79, 81.74, 55.92, 76.41),
        79.96,
    ),
    "PubMed vocabulary, word pieces": (
        *(92.96, 84.72, 87.26, 83.19, 78.63, 73.44),
        *(75.72, 80.84, 81.74, 92.45, 80.38, 54.76, 78.51),
        79.62,
    ),
    "PubMed vocabulary, whole words": (
        *(93.33, 85.62, 87.82, 84.52, 79.10, 73.38),
        *(77.24, 82.36, 83.96, 92.30, 82.32, 55.84, 87.56),
        81.16,
    ),
    "general text then PubMed": (
        *(93.41, 85.43, 87.60, 84.03, 79.01, 73.80),
        *(77.05, 81.96, 82.47, 89.93, 83.14, 54.84, 79.00),
        80.03,
    ),
    "PubMed, half the compute": (
        *(93.05, 85.02, 87.77, 84.11, 78.98, 73.74),
        *(76.69, 81.21, 82.80, 92.12, 82.13, 55.28, 79.43),
        80.23,
    ),
    "PubMed and PMC": (
        *(93.36, 85.62, 88.34, 84.39, 78.90, 73.64),
        *(76.96, 83.56, 84.08, 90.39, 82.16, 61.02, 83.43),
        81.01,
    ),
    "PubMed and PMC, 60 % longer": (
        *(93.34, 85.76, 88.04, 84.37, 79.16, 73.72),
        *(76.80, 82.06, 82.90, 92.31, 82.62, 60.02, 87.20),
        81.50,
    ),
    "adversarial pretraining": (
        *(93.17, 85.48, 87.99, 84.07, 79.18, 72.92),
        *(77.04, 83.62, 83.54, 94.11, 82.20, 53.30, 82.71),
        80.77,
    ),
    # ... or of Yasunaga et al. 2022 (LinkBERT, ACL 2022, arXiv 2203.15827), Table 7; its column of
    # PubMedBERT has two scores that differ from Gu et al.'s (JNLPBA, GAD).
    "PubMedBERT (LinkBERT)": (
        *(93.33, 85.62, 87.82, 84.52, 80.06, 73.38),
        *(77.24, 82.36, 82.34, 92.30, 82.32, 55.84, 87.56),
        81.10,
    ),
    "BioLinkBERT-base": (
        *(93.75, 86.10, 88.18, 84.90, 79.03, 73.97),
        *(77.57, 82.72, 84.39, 93.25, 84.35, 70.20, 91.43),
        83.39,
    ),
    "BioLinkBERT-large": (
        *(94.04, 86.39, 88.76, 85.18, 80.06, 74.19),
        *(79.98, 83.35, 84.90, 93.63, 84.87, 72.18, 94.82),
        84.30,
    ),
}


@pytest.mark.parametrize("column", PUBLISHED)
def test_published_scores_come_out_to_two_decimals(column: str) -> None:
    *scores, printed = PUBLISHED[column]
    percent = dict(zip(TASKS, scores, strict=True))
    assert f"{blurb.blurb_score(percent):.2f}" == f"{printed:.2f}"
    shares = {task: score / 100 for task, score in percent.items()}
    assert blurb.blurb_score(shares) == pytest.approx(printed / 100, abs=5e-5)


def test_the_columns_tell_other_means_apart() -> None:
    """The plain mean over 13 tasks, or one group left out, would not do."""
    for *scores, printed in PUBLISHED.values():
        assert abs(sum(scores) / 13 - printed) > 0.1
    means = blurb.group_means(dict(zip(TASKS, PUBLISHED["PubMedBERT"], strict=False)))
    assert {group: round(mean or 0, 2) for group, mean in means.items()} == {
        **{"ner": 86.08, "pico": 73.38, "relation": 81.19},
        **{"similarity": 92.30, "document": 82.32, "qa": 71.70},
    }


def test_the_benchmark() -> None:
    assert blurb.TASKS == TASKS
    assert len({*blurb.TASKS}) == 13
    assert len(blurb.GROUPS) == 6
    assert tuple(blurb.COUNTS) == TASKS
    assert all(len(counts) == 3 and min(counts) > 0 for counts in blurb.COUNTS.values())


def test_nothing_is_made_up_for_a_missing_task() -> None:
    scores = dict.fromkeys(TASKS, 0.5)
    assert blurb.missing(scores) == ()
    assert blurb.blurb_score({**scores, "other": 0.0}) == 0.5
    for task in TASKS:
        rest = {t: s for t, s in scores.items() if t != task}
        assert blurb.missing(rest) == (task,)
        assert blurb.blurb_score(rest) is None
        (gap,) = (g for g, mean in blurb.group_means(rest).items() if mean is None)
        assert task in blurb.GROUPS[gap]
    assert blurb.missing({}) == TASKS
    assert blurb.blurb_score({}) is None
    with pytest.raises(ValueError, match="nan"):
        blurb.blurb_score({**scores, "gad": math.nan})


# --- in a report -----------------------------------------------------------------------------


def score_of(task: str, seed: int) -> float:
    """0.40 for the first task, 0.52 for the last; seeds matter more for some tasks than others."""
    i = TASKS.index(task)
    return 0.4 + i / 100 + seed * (1 + i % 3) / 50


def benchmark(
    seeds: Mapping[str, Sequence[int]] | Sequence[int] = (0, 1, 2),
    *,
    tasks: Sequence[str] = TASKS,
    shift: float = 0.0,
    **options: Any,
) -> list[RunRecord]:
    """Runs of these tasks, each with a learning rate of its own, as recipes have it."""
    return [
        record(
            score_of(task, seed) + shift,
            seed=seed,
            best=score_of(task, seed) + shift + 0.1,
            task=task,
            lr=1e-5 * (1 + TASKS.index(task)),
            **options,
        )
        for task in tasks
        for seed in (seeds[task] if isinstance(seeds, Mapping) else seeds)
    ]


def frame(root: Path, records: Sequence[RunRecord]) -> pd.DataFrame:
    store = stored(root / "runs", records)
    return read_results(store, store.manifest("question")).frames["blurb"]


def row(table: pd.DataFrame, arm: str = "none", at: str = "last") -> dict[str, Any]:
    (found,) = table[(table["arm"] == arm) & (table["at"] == at)].to_dict("records")
    return {k: None if isinstance(v, float) and v != v else v for k, v in found.items()}


def by_hand(scores: Mapping[str, float]) -> float:
    """The rule of the benchmark, spelled out."""
    s = scores
    ner = s["bc5cdr_chem"] + s["bc5cdr_disease"] + s["ncbi_disease"] + s["bc2gm"] + s["jnlpba"]
    relation = s["chemprot"] + s["ddi"] + s["gad"]
    qa = s["pubmedqa"] + s["bioasq"]
    return (ner / 5 + s["ebm_pico"] + relation / 3 + s["biosses"] + s["hoc"] + qa / 2) / 6


def test_all_tasks(tmp_path: Path) -> None:
    table = frame(tmp_path, [*benchmark(), *benchmark((0, 1), technique=LLRD, shift=0.05)])
    assert list(table.columns) == list(COLUMNS)
    assert list(zip(table["arm"], table["at"], strict=True)) == [
        *(("none", "last"), ("none", "best"), ("llrd", "last"), ("llrd", "best"))
    ]
    none = row(table)
    for task in TASKS:
        assert none[task] == pytest.approx(statistics.mean(score_of(task, s) for s in (0, 1, 2)))
    assert none["relation"] == pytest.approx((none["chemprot"] + none["ddi"] + none["gad"]) / 3)
    assert none["blurb"] == pytest.approx(by_hand(none))
    per_seed = [by_hand({t: score_of(t, s) for t in TASKS}) for s in (0, 1, 2)]
    assert none["std"] == pytest.approx(statistics.stdev(per_seed))
    assert none["blurb"] == pytest.approx(statistics.mean(per_seed)), "all have the same seeds"
    assert (none["n_shared"], none["n_min"]) == (3, 3)
    assert (none["missing"], none["ambiguous"], none["cut"]) == ("", "", "")
    assert row(table, at="best")["blurb"] == pytest.approx(none["blurb"] + 0.1)
    two = statistics.mean(per_seed[:2])
    assert row(table, "llrd")["blurb"] == pytest.approx(two + 0.05)
    assert notes(table) == []


def test_unequal_seeds(tmp_path: Path) -> None:
    """The score is over all seeds of a task, its spread over those that all tasks have."""
    seeds = dict.fromkeys(TASKS, (0, 1, 2)) | {"gad": (1, 2, 3, 4), "hoc": (0, 1)}
    found = row(frame(tmp_path, benchmark(seeds)))
    means = {t: statistics.mean(score_of(t, s) for s in seeds[t]) for t in TASKS}
    assert found["blurb"] == pytest.approx(by_hand(means))
    assert (found["n_shared"], found["n_min"]) == (1, 2)
    assert found["std"] is None, "one seed has no spread"
    apart = dict.fromkeys(TASKS, (0, 1)) | {"gad": (7, 8)}
    found = row(frame(tmp_path / "apart", benchmark(apart)))
    assert (found["n_shared"], found["std"]) == (0, None)
    assert found["blurb"] is not None


def test_failed_runs_count_and_crashed_ones_do_not(tmp_path: Path) -> None:
    lr = {"task": "biosses", "lr": 1e-5 * (1 + TASKS.index("biosses"))}
    diverged = record(None, seed=3, status="diverged", failure_score=-0.1, **lr)
    crashed = record(None, seed=4, status="crashed", **lr)
    found = row(frame(tmp_path, [*benchmark(), diverged, crashed]))
    scores = [*(score_of("biosses", s) for s in (0, 1, 2)), -0.1]
    assert found["biosses"] == found["similarity"] == pytest.approx(statistics.mean(scores))
    assert found["blurb"] == pytest.approx(by_hand(found))
    assert found["n_shared"] == 3

    only_crashed = [*benchmark(tasks=TASKS[:9]), crashed]
    found = row(frame(tmp_path / "crashed", only_crashed))
    assert "biosses" in found["missing"].split()


def test_missing_tasks_are_named(tmp_path: Path) -> None:
    records = [
        *benchmark(tasks=[t for t in TASKS if t not in ("bioasq", "gad")]),
        *benchmark(technique=LLRD),
    ]
    table = frame(tmp_path, records)
    none = row(table)
    assert none["missing"] == "gad bioasq"
    assert {none[k] for k in ("blurb", "std", "relation", "qa", "gad")} == {None}
    assert none["n_shared"] == 0
    assert none["ner"] is not None
    assert none["pubmedqa"] is not None
    assert row(table, "llrd")["blurb"] is not None
    assert notes(table) == ["small, none: no BLURB score: no runs of gad, bioasq"]


def test_few_tasks_say_nothing(tmp_path: Path) -> None:
    """Five sets of entities are one task type; other tasks are none of BLURB's."""
    assert frame(tmp_path / "a", benchmark(tasks=TASKS[:5])).empty
    other = [record(0.5, task="mine"), record(0.5, task="yours")]
    assert frame(tmp_path / "b", [*benchmark(tasks=("gad",)), *other]).empty
    two = frame(tmp_path / "c", [*benchmark(tasks=("gad", "biosses")), *other])
    assert row(two)["missing"].split() == [t for t in TASKS if t not in ("gad", "biosses")]
    assert frame(tmp_path / "d", [record(None, status="crashed", task=t) for t in TASKS]).empty
    assert frame(tmp_path / "e", []).empty


def test_two_settings_of_one_task_are_not_averaged(tmp_path: Path) -> None:
    twice = [record(0.9, seed=s, task="gad", lr=3e-4) for s in (0, 1, 2)]
    table = frame(tmp_path, [*benchmark(), *twice, *benchmark(technique=LLRD)])
    none = row(table)
    assert {none[k] for k in ("blurb", "std", "relation", "gad")} == {None}
    assert none["missing"] == ""
    assert none["ambiguous"] == "gad (optim.lr=9e-05 | optim.lr=0.0003)"
    assert none["chemprot"] is not None
    (said,) = notes(table)
    assert "small, none: no BLURB score: more than one setting for gad (optim.lr=9e-05 |" in said
    assert row(table, "llrd")["blurb"] is not None
    # a setting that only crashed has no score to mix in
    crashed = record(None, seed=0, task="gad", lr=3e-4, status="crashed")
    assert row(frame(tmp_path / "b", [*benchmark(), crashed]))["ambiguous"] == ""


def test_knobs_make_an_arm_for_all_tasks(tmp_path: Path) -> None:
    """One task has both decays; on the others the arm is still the one with its own decay."""
    mild = [("llrd", {"decay": 0.9, "convention": "zhang"})]
    table = frame(
        tmp_path, [*benchmark(technique=LLRD), *benchmark(technique=mild, tasks=TASKS[5:])]
    )
    assert row(table, "llrd(decay=0.8)")["blurb"] is not None
    assert row(table, "llrd(decay=0.9)")["missing"].split() == list(TASKS[:5])


def test_models_are_never_mixed(tmp_path: Path) -> None:
    """Neither two names nor two weights of one name."""
    one, two, other = ("sha256:" + digit * 64 for digit in "123")
    records = [
        *benchmark(tasks=TASKS[:6], model=one),
        *benchmark(tasks=TASKS, model=other),
        *benchmark(tasks=TASKS[5:], model=two),
    ]
    for run in records:
        run.measured["names"]["model"] = "big" if run.result["config"]["model"] == other else "bert"
    table = frame(tmp_path, records)
    last = table[table["at"] == "last"]
    assert list(zip(last["model"], last["arm"], strict=True)) == [
        ("bert", "none, model=11111111"),
        ("bert", "none, model=22222222"),
        ("big", "none"),
    ], "arms of one model stand together"
    assert list(last["blurb"].isna()) == [True, True, False]
    assert row(table, "none, model=11111111")["missing"].split() == list(TASKS[6:])


def test_another_head_is_another_arm(tmp_path: Path) -> None:
    records = [*benchmark(), *(with_head(one, "linear") for one in benchmark(shift=0.1))]
    table = frame(tmp_path, records)
    assert row(table)["ambiguous"] == ""
    better = row(table, "none, head=linear")
    assert better["blurb"] == pytest.approx(row(table)["blurb"] + 0.1)


def with_head(run: RunRecord, head: str) -> RunRecord:
    config = {**run.result["config"], "head": head}
    keys = {"config": config, "key": key_of(config), "cell": cell_of(config)}
    return RunRecord(run.schema, {**run.result, **keys}, run.measured)


def test_a_part_of_a_test_set_is_said_to_be_one(tmp_path: Path) -> None:
    records = benchmark()
    for i, one in enumerate(records):
        if one.measured["names"]["task"] == "hoc":
            config = {**one.result["config"], "task": {"name": "hoc", "test_size": 5}}
            keys = {"config": config, "key": key_of(config), "cell": cell_of(config)}
            records[i] = RunRecord(one.schema, {**one.result, **keys}, one.measured)
    table = frame(tmp_path, records)
    assert row(table)["cut"] == "hoc"
    (said,) = notes(table)
    assert "small, none: scored on other test items of hoc (task.test_size" in said


def test_terminal_and_file(cli: Callable[..., Any]) -> None:
    store = stored(Path("runs"), [*benchmark(), *benchmark(technique=LLRD, tasks=TASKS[:9])])
    stored(Path("runs"), benchmark(tasks=("gad", "ddi")), name="relations")
    said = cli("report", "--sweep", "question", "--out", "out")
    assert (said.code, said.err) == (0, "")
    assert "out/blurb.csv" in said.out
    lines = said.out.splitlines()
    start = lines.index("BLURB: mean of the means of its six task types, at the last step")
    shown = [line.split() for line in lines[start + 2 : start + 4]]
    table = read_results(store, store.manifest("question")).frames["blurb"]
    last, best = row(table), row(table, at="best")
    numbers = [f"{last[k]:.4f}" for k in (*blurb.GROUPS, "blurb", "low")]
    numbers += ["to", *(f"{last[k]:.4f}" for k in ("high", "std"))]
    assert shown[0] == ["small", "none", *numbers, "3", "3", f"{best['blurb']:.4f}"]
    groups = [f"{row(table, 'llrd')[k]:.4f}" for k in ("ner", "pico", "relation")]
    assert shown[1] == ["llrd", *groups, *["-"] * 6, "0", "3", "-"]
    assert "  small, llrd: no BLURB score: no runs of biosses, hoc, pubmedqa, bioasq" in lines

    found = read(Path("out/blurb.csv"))
    assert list(found[0]) == list(COLUMNS)
    assert [(r["arm"], r["at"]) for r in found] == [
        *(("none", "last"), ("none", "best"), ("llrd", "last"), ("llrd", "best"))
    ]
    assert float(found[0]["blurb"]) == pytest.approx(last["blurb"])
    assert (found[2]["blurb"], found[2]["missing"]) == ("", "biosses hoc pubmedqa bioasq")
    assert "nan" not in Path("out/blurb.csv").read_text().lower()

    everything = cli("report", "--all", "--out", "all").out
    assert {line for line in lines if "BLURB" in line} <= {*everything.splitlines()}
    assert len(read(Path("all/blurb.csv"))) == 4

    # the same folder for a sweep without a BLURB score: no number of another report stays
    again = cli("report", "--sweep", "relations", "--out", "out")
    assert "BLURB" not in again.out
    assert not Path("out/blurb.csv").exists()
    assert Path("out/blurb.csv") in write_report(read_results(store, None), Path("out"))


def test_blurb_of_a_damaged_record_is_missing_it(tmp_path: Path) -> None:
    records = benchmark((0,))
    store = stored(tmp_path / "runs", records)
    (gad,) = (r for r in records if r.measured["names"]["task"] == "gad")
    (store.folder(gad.key) / "record.json").write_text("{")
    results = read_results(store, None)
    assert list(results.damaged) == [gad.key]
    assert row(results.frames["blurb"])["missing"] == "gad"


def test_the_interval_of_the_score() -> None:
    """By hand: a task has the weight of 1/6 over the number of tasks of its type."""
    store = stored(Path("runs"), benchmark())
    results = read_results(store, store.manifest("question"))
    found = row(results.frames["blurb"])
    last = results.runs[results.runs["at"] == "last"]
    parts = []
    for group in blurb.GROUPS.values():
        for task in group:
            scores = last[last["task"] == task]["score"].astype(float)
            parts.append(((1 / 6 / len(group)) ** 2 * scores.var() / len(scores), len(scores) - 1))
    variance = sum(v for v, _ in parts)
    df = variance**2 / sum(v**2 / n for v, n in parts)
    half = scipy_stats.t.ppf(0.975, df) * variance**0.5
    assert (found["low"], found["high"]) == pytest.approx(
        (found["blurb"] - half, found["blurb"] + half)
    )

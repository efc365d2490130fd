"""Every metric of every kind of task: which way it is better, and that everybody agrees on it.

The direction is told from the scores themselves: what a perfect prediction gets against a worse
one. Whoever compares scores (best step, failure, search, racing, advice, report, soup) is then
asked which of two is better, once per metric.
"""

from __future__ import annotations

import csv
import inspect
import json
import math
import pkgutil
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import bluestab.tasks
from bluestab import stats
from bluestab.core.errors import ConfigError
from bluestab.core.instantiate import instantiate
from bluestab.core.keys import cell_of, key_of
from bluestab.core.paths import conf_dir
from bluestab.core.types import Example, RunRecord
from bluestab.inference.cell import Cell
from bluestab.inference.merging import MergedTask
from bluestab.report.frames.results import read_results
from bluestab.report.page import _asset
from bluestab.report.page_data import page_data
from bluestab.report.tables import caption, latex
from bluestab.report.terminal.sparklines import strips
from bluestab.report.words.headline import headlines
from bluestab.report.words.reasons import reasons
from bluestab.stats.verdict import judge
from bluestab.store.store import Store
from bluestab.sweeps.search import curves
from bluestab.sweeps.search.findings import arm_of, best_first
from bluestab.sweeps.search.objectives import (
    OBJECTIVES,
    SECONDS,
    Outcome,
    is_of_scores,
    maximised,
    outcome,
    worth,
)
from bluestab.sweeps.search.race import Race, verdict
from bluestab.sweeps.search.worker import Worker
from bluestab.tasks.base import Task
from bluestab.tasks.classification import Classification, OneClass
from bluestab.tasks.linking import Linked
from bluestab.tasks.masked_language import MaskedLanguage
from bluestab.tasks.metric import (
    KNOWN,
    Metric,
    failure_bounds,
    metric_of,
    metric_of_result,
    metric_of_row,
)
from bluestab.tasks.multi_label import LabelSets
from bluestab.tasks.pair_regression import PairRegression
from bluestab.tasks.replaced_tokens import ReplacedTokenDetection
from bluestab.tasks.tagging import Tagging
from bluestab.tasks.visual_question_answering import ClosedAnswer, SeesImages
from bluestab.tasks.word_tagging import WordTagging
from bluestab.training.execute import execute_one
from bluestab.training.loop import diagnostics
from bluestab.training.loop.history import ValidationHistory
from tests.report.test_report import LLRD, record, stored
from tests.support import simulated_search

KINDS = {
    cls.__name__: cls
    for module in pkgutil.iter_modules(bluestab.tasks.__path__)
    for cls in vars(import_module(f"bluestab.tasks.{module.name}")).values()
    if inspect.isclass(cls) and issubclass(cls, Task) and not inspect.isabstract(cls)
}
NODES: dict[str, Any] = {}
for file in sorted((conf_dir() / "task").glob("*.yaml")):
    node: Any = OmegaConf.to_container(OmegaConf.load(file))
    NODES.setdefault(node["_target_"].rpartition(".")[2], node)

EVERY = [(kind, name) for kind, cls in KINDS.items() for name in cls.metrics]
each = pytest.mark.parametrize(("kind", "name"), EVERY, ids=["-".join(one) for one in EVERY])
by_name = pytest.mark.parametrize("name", KNOWN)

LOWER = {"rmse", "perplexity"}
"""Metrics of which lower is better, by hand."""

TARGETS: Mapping[type[Task], Sequence[Any]] = {
    WordTagging: [("I-a", "O", "I-b"), ("O", "I-b", "O"), ("I-a", "I-a", "O")] * 4,
    Tagging: [("B-a", "I-a", "O"), ("O", "B-b", "O"), ("B-b", "I-b", "B-a")] * 4,
    LabelSets: [("a", "b"), ("b",), ("c",)] * 4,
    PairRegression: [1.0, 2.5, 4.0, 0.5] * 3,
    SeesImages: [ClosedAnswer("a"), ClosedAnswer("b"), "b", "c"] * 3,
    OneClass: ["a", "b", "b", "c"] * 3,
    ReplacedTokenDetection: [(1.0, 0.0, 0.0)] * 12,
    MaskedLanguage: [0.0] * 12,
    Linked: [f"D{i}" for i in range(100)],
}
"""Kind -> what a test part may hold; the first kind of which a task is one counts."""


def items_of(cls: type[Task]) -> list[Example]:
    (targets, *_) = (found for kind, found in TARGETS.items() if issubclass(cls, kind))
    texts: Any = ("one", "two", "three") if issubclass(cls, Tagging) else "some text"
    return [Example(str(i), texts, "other", target) for i, target in enumerate(targets)]


@cache
def dictionary() -> Path:
    """A file of the concepts that linking is asked for."""
    path = Path(tempfile.mkdtemp()) / "concepts.txt"
    path.write_text("".join(f"D{i}||name {i}\n" for i in range(100)))
    return path


def task_of(kind: str, name: str) -> tuple[Task, list[Example]]:
    """A task of this kind as its yaml has it, but for the labels of these items."""
    items = items_of(KINDS[kind])
    task: Any = replace(instantiate(NODES[kind], Task, "task"), metric=name)  # type: ignore[type-abstract]
    if hasattr(task, "label_names"):
        found = (e.target if isinstance(e.target, tuple) else (str(e.target),) for e in items)
        task = replace(task, label_names=sorted({label for labels in found for label in labels}))
    if isinstance(task, Linked):
        task = replace(task, dictionary=str(dictionary()), dictionary_sha256=None)
    if isinstance(task, Classification):
        task = replace(task, positive=["a", "c"])
    return task, items


def score(task: Task, predictions: Sequence[Any], items: Sequence[Example]) -> float | None:
    answers = [list(p) if isinstance(p, tuple) else p for p in predictions]
    return task.score(answers, [e.target for e in items])[task.metric]


# --- what a metric says of itself ----------------------------------------------------------------


def test_all_of_them_are_found() -> None:
    assert set(NODES) == set(KINDS), "a kind without a yaml, or a yaml without a kind"
    assert {name for _, name in EVERY} == set(KNOWN), "a group of metrics that no kind has"
    for kind, name in EVERY:
        own: Metric = KINDS[kind].metrics[name]
        assert own.name == name
        shared = KNOWN[name]
        assert (own.higher_is_better, own.words) == (shared.higher_is_better, shared.words)
    assert {name for name, metric in KNOWN.items() if not metric.higher_is_better} == LOWER


@each
def test_a_perfect_prediction_is_the_best_there_is(kind: str, name: str) -> None:
    task, items = task_of(kind, name)
    targets = [e.target for e in items]
    others: list[Any] = [*targets[1:], targets[0]]
    if others == targets:  # of pretrainings: what was said right or wrong stands in the prediction
        others = [(1.0, 1.0, 0.0) if isinstance(t, tuple) else 1.0 for t in targets]
    perfect, wrong = score(task, targets, items), score(task, others, items)
    assert perfect is not None
    assert wrong is not None
    assert task.headline.better(perfect, wrong)
    assert task.headline.higher_is_better == (perfect > wrong), "its direction is another one"
    constants = task.constants(task.labels(items), items)
    assert constants, "no answer that ignores its input is known"
    for answer, predictions in constants.items():
        constant = score(task, predictions, items)
        assert constant is None or not task.headline.better(constant, perfect), answer


@each
def test_failure_lies_on_the_worse_side(kind: str, name: str) -> None:
    task, items = task_of(kind, name)
    metric, targets = task.headline, [e.target for e in items]
    found = task.baseline(task.labels(items), items)
    bound, failure = failure_bounds(metric, None, 0.0, found and found[1])
    done = replace(task, failed_below=bound, failure_score=failure)
    assert not metric.better(failure, bound)
    assert done.is_degenerate(failure)
    assert done.is_degenerate(None)
    assert not done.is_degenerate(score(task, targets, items))
    for predictions in task.constants(task.labels(items), items).values():
        assert done.is_degenerate(score(task, predictions, items))
    if metric.undefined is not None:
        assert not metric.better(metric.undefined, bound)


def test_bounds_by_hand() -> None:
    pearson, rmse = KNOWN["pearson"], KNOWN["rmse"]
    assert failure_bounds(pearson, 0.378, 0.0, None) == (0.378, 0.0), "as they stand in the yaml"
    assert failure_bounds(pearson, -1.0, 0.0, 0.5) == (-1.0, 0.0), "as a person wants them"
    assert failure_bounds(pearson, None, 0.0, None) == (0.0, 0.0)
    assert failure_bounds(rmse, 0.378, 0.0, 1.2) == (1.2, 1.2), "made for a correlation"
    assert failure_bounds(rmse, None, 0.0, 1.2) == (1.2, 1.2)
    assert failure_bounds(rmse, None, 3.0, 1.2) == (1.2, 3.0)
    assert failure_bounds(rmse, 0.9, 2.0, 1.2) == (0.9, 2.0), "made for an error"
    with pytest.raises(ValueError, match="no constant answer has a score"):
        failure_bounds(rmse, 0.378, 0.0, None)


def test_a_metric_of_which_only_the_name_is_known() -> None:
    assert metric_of("rmse") is KNOWN["rmse"]
    assert metric_of("my_f1").words == "my F1"
    assert metric_of("my_f1").higher_is_better
    assert not metric_of("my_loss", False).higher_is_better
    assert metric_of("rmse", math.nan) is KNOWN["rmse"]
    with pytest.raises(LookupError, match="its function is with its task"):
        metric_of("my_loss", False).function(None)  # type: ignore[arg-type]
    row = {"metric": "my_loss", "higher_is_better": stats.mean([1]) == 0}
    assert metric_of_row(row).sign == -1
    assert metric_of_result({"metric": "rmse", "config": {"task": {}}}) is KNOWN["rmse"]
    own = {"metric": "my_loss", "config": {"task": {"higher_is_better": False}}}
    assert metric_of_result(own).sign == -1


# --- who compares scores -------------------------------------------------------------------------


def better_and_worse(name: str) -> tuple[Metric, float, float]:
    """The metric, and two scores of which the first is better; by hand, not by the metric."""
    return KNOWN[name], *((0.3, 0.6) if name in LOWER else (0.6, 0.3))


@by_name
def test_the_best_step(name: str) -> None:
    metric, good, bad = better_and_worse(name)
    history = ValidationHistory(metric, torch.nn.Linear(1, 1))
    for step, value in enumerate([None, bad, good, (good + bad) / 2, good], start=1):
        history.add(step, {name: value}, loss=0.5)
    assert (history.best_step, history.best_score) == (3, good)


@by_name
def test_an_early_stop_looks_at_no_score(name: str) -> None:
    _, good, bad = better_and_worse(name)
    norms = {"grad_norm_embeddings": 1e-9, "grad_norm_top": 1.0}
    signs = [
        diagnostics.failure_sign(
            [{"step": i, "train_loss": 1.0, name: value, **norms} for i in (1, 2, 3)],
            warmup_steps=0,
            constant=1.0,
        )
        for value in (good, bad)
    ]
    assert signs[0] == signs[1] is not None


def result(metric: Metric, value: float | None) -> RunRecord:
    found = record(0.5)
    scores = {at: {s: {metric.name: value} for s in ("validation", "test")} for at in ("last",)}
    found.result.update(metric=metric.name, metrics=scores, failed_below=0.45, failure_score=0.45)
    return found


@by_name
def test_what_a_search_sees(name: str) -> None:
    metric, good, bad = better_and_worse(name)
    assert not outcome(result(metric, good), "last").failed
    for value in (bad, 0.45, None):
        assert outcome(result(metric, value), "last").failed
    for objective in (*OBJECTIVES, SECONDS):
        values = [
            worth(objective, [Outcome(v + d, False, 1.0) for d in (0.0, 0.01)], metric.sign)
            for v in (good, bad)
        ]
        if is_of_scores(objective):
            assert values[0] != values[1]
            assert (values[0] > values[1]) == maximised(objective, metric.sign)
        else:
            assert not maximised(objective, metric.sign)
    scattered, steady = ([Outcome(good + d, False, 1.0) for d in (-s, 0.0, s)] for s in (0.1, 0.01))
    for objective in ("mean_minus_std", "lower_bound", "cvar", "worst"):
        told = [worth(objective, one, metric.sign) for one in (steady, scattered)]
        assert metric.better(told[0], told[1]), objective
    arm = arm_of("winner", "", good, [result(metric, bad)], "mean", "last")
    assert arm is not None
    assert arm.shrinkage == pytest.approx(0.3), "fresh seeds are worse than the search promised"


@by_name
def test_racing_stops_the_worse(name: str) -> None:
    metric, good, bad = better_and_worse(name)
    leader = [good + 0.01 * math.sin(i) for i in range(6)]
    tail = [bad + 0.01 * math.cos(i) for i in range(6)]
    for race in (Race("halving", 2, 1.0, 0.1), Race("wilcoxon", 2, 1.0, 0.1)):
        for objective in ("mean", "worst"):
            given = (race, OBJECTIVES[objective], 6, metric.sign)
            assert verdict(tail[:5], [leader, leader], *given) is not None
            assert verdict(leader[:5], [tail, tail], *given) is None
    others = [{10: good, 50: good}, {10: good, 50: good}, {10: good, 50: good}]
    for rule in ("median", "hyperband"):
        given = {"steps": 100, "rule": rule, "number": 0, "sign": metric.sign}
        assert curves.hopeless({10: bad, 50: bad}, others, **given) is not None  # type: ignore[arg-type]
        assert curves.hopeless({10: good, 50: bad}, others, **given) is None  # type: ignore[arg-type]


def test_racing_for_a_small_spread_stops_the_scattered() -> None:
    """Of the one objective of scores that is to be small."""
    steady, scattered = [0.5, 0.51, 0.5, 0.51], [0.1, 0.9, 0.1, 0.9]
    race = Race("halving", 2, 1e9, 0.1)
    others = [steady, steady, steady]
    assert verdict(scattered[:2], others, race, OBJECTIVES["std"], 4) is not None
    assert verdict(steady[:2], [scattered] * 3, race, OBJECTIVES["std"], 4) is None


@by_name
def test_what_is_recommended(name: str) -> None:
    metric, good, bad = better_and_worse(name)
    scores = {
        "none": {i: bad + 0.02 * math.sin(3 * i) for i in range(10)},
        "freeze": {i: good + 0.01 * math.cos(2 * i) for i in range(10)},
    }
    found = judge(scores, "none", higher_is_better=metric.higher_is_better)
    assert found.arm == "freeze"
    _, freeze = found.standings
    assert freeze.mean == pytest.approx(math.fsum(scores["freeze"].values()) / 10)
    assert freeze.low is not None
    assert metric.better(freeze.mean, freeze.low)
    assert ("at most 0.3" in reasons(found, metric.sign)) == (name in LOWER)
    turned = judge({"none": scores["freeze"], "freeze": scores["none"]}, "none",
                       higher_is_better=metric.higher_is_better)  # fmt: skip
    assert turned.arm != "freeze"


def test_a_search_by_an_error_looks_for_the_smallest(small: Path, tmp_path: Path) -> None:
    """From the command line's knobs to the winner; runs are stood in for."""
    pytest.importorskip("optuna", reason="extra: search")
    store = tmp_path / "runs"
    fixed = {"task": "biosses", "task.metric": "rmse"}
    rest: dict[str, Any] = {"n_trials": 5, "seeds": 2, "confirm": 0, "objective": "mean"}
    search = simulated_search.plan(
        store, fixed=fixed, sampler="random", race={"kind": "none"}, **rest
    )
    assert search.sign == -1
    trials = simulated_search.begin(search)
    assert [direction.name for direction in trials.study.directions] == ["MINIMIZE"]
    assert Worker(search, execute=simulated_search.execute).work() == "enough"
    told = [trial.value for trial in trials.all() if trial.value is not None]
    assert len(told) == 5
    assert [trial.value for trial in best_first(trials.all(), search)] == sorted(told)


# --- what a report says --------------------------------------------------------------------------


def runs_of(metric: Metric, good: float, bad: float) -> list[RunRecord]:
    """Ten seeds of an arm that is better and steadier than the baseline, beside it."""
    found = []
    for seed in range(10):
        noise = 0.02 * math.sin(3 * seed), 0.01 * math.cos(2 * seed)
        for technique, value in ((), bad + noise[0]), (LLRD, good + noise[1]):
            one = record(value, technique, seed)
            config = one.result["config"]
            if not metric.higher_is_better:
                config["task"]["higher_is_better"] = False
            scores = {
                at: {part: {metric.name: value} for part in ("validation", "test")}
                for at in ("last", "best")
            }
            one.result.update(
                key=key_of(config), cell=cell_of(config), metric=metric.name, metrics=scores,
                score=dict.fromkeys(("last", "best"), value),
                degenerate=dict.fromkeys(("last", "best"), False),
            )  # fmt: skip
            found.append(one)
    return found


@by_name
def test_the_report_agrees(name: str, tmp_path: Path) -> None:
    metric, good, bad = better_and_worse(name)
    records = runs_of(metric, good, bad)
    store = stored(tmp_path / "runs", records)
    found = read_results(store, store.manifest("question"))
    rows = found.summary[found.summary["at"] == "last"].to_dict("records")
    better = next(row for row in rows if row["arm"] == "llrd")
    assert better["delta"] == pytest.approx(good - bad, abs=0.01), "in the units of the metric"
    assert better["improvement"] == 1.0
    (bold,) = (line for line in latex("t", "m", rows, "last").splitlines() if "textbf" in line)
    assert bold.split()[0] == "llrd"
    (advice,) = found.advice
    assert advice.found.arm == "llrd"
    (said,) = headlines(found.summary, {}, "last")
    verb = "lowered" if name in LOWER else "raised"
    assert (said.verdict, said.arm) == ("better", "llrd")
    assert said.text.startswith(f"llrd {verb} {metric.words} by 0.3")
    assert ("lower is better" in caption(rows, "last")) == (name in LOWER)
    data = page_data(found, store, store.manifest("question"))
    assert data["lower_is_better"] == ([name] if name in LOWER else [])
    assert data["metrics"] == {name: metric.words}
    assert data["headlines"][0]["text"].startswith(said.text)
    budget = {row["arm"]: data["budget"]["last"][row["cell"]] for row in rows}
    assert all(metric.better(values[-1], values[0]) for values in budget.values())
    assert data["mind"] == []
    cell = Cell([one for one in records if not one.result["config"]["technique"]])
    ranked = metric.best(cell.records, lambda one: one.result["score"]["last"])
    assert cell.rank(ranked, "last") == (1, 10)
    strip = {"none": [(bad, False)], "llrd": [(good, False)]}
    lower = {"none", "llrd"} if name in LOWER else set[str]()
    assert strips(strip, 80, 10, lower)[1].plain.split()[0] == "llrd"


@by_name
def test_an_arm_that_is_worse_is_said_to_be(name: str, tmp_path: Path) -> None:
    metric, good, bad = better_and_worse(name)
    store = stored(tmp_path / "runs", runs_of(metric, bad, good))
    found = read_results(store, store.manifest("question"))
    (said,) = headlines(found.summary, {}, "last")
    do, undo = ("lower", "raise") if name in LOWER else ("raise", "lower")
    assert said.verdict == "worse"
    assert said.text.startswith(f"No arm is shown to {do} {metric.words} over none; 1 of 1 is ")
    assert f"shown to {undo} it, most of all llrd, by 0.3" in said.text
    rows = found.summary[found.summary["at"] == "last"].to_dict("records")
    assert "textbf" not in latex("t", "m", rows, "last")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node (apt-get install nodejs)")
@by_name
def test_the_page_colours_what_is_worse(name: str) -> None:
    _, good, bad = better_and_worse(name)
    lines = [
        line for line in _asset("core.js").splitlines() if re.match("const (sign|worse) ", line)
    ]
    assert len(lines) == 2
    data = json.dumps({"lower_is_better": sorted(LOWER)})
    rows = json.dumps(
        [{"metric": name, "delta": good - bad}, {"metric": name, "delta": bad - good}]
    )
    script = f"const DATA = {data};{';'.join(lines)};console.log({rows}.map(worse).join())"
    said = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "false,true"


def test_old_runs_of_an_error_are_pointed_out(tmp_path: Path) -> None:
    """Their best step is the worst, and nobody sees it in a record."""
    records = runs_of(KNOWN["rmse"], 0.3, 0.6)
    for one in records:
        del one.result["config"]["task"]["higher_is_better"]
        config = one.result["config"]
        one.result.update(key=key_of(config), cell=cell_of(config))
    store = stored(tmp_path / "runs", records)
    found = read_results(store, store.manifest("question"))
    (said,) = headlines(found.summary, {}, "last")
    assert said.verdict == "better"
    (mind,) = page_data(found, store, store.manifest("question"))["mind"]
    assert mind.startswith("20 of 20 runs were made when every metric was taken to grow with")
    assert "rmse does not" in mind


# --- a soup --------------------------------------------------------------------------------------


@by_name
def test_a_greedy_soup_takes_what_helps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metric, good, bad = better_and_worse(name)
    kitchen: Any = object.__new__(MergedTask)
    kitchen.run = SimpleNamespace(data=SimpleNamespace(task=SimpleNamespace(headline=metric)))
    kitchen.weights, kitchen.tried = range(4), []
    monkeypatch.setattr(kitchen, "mix", lambda chosen: None, raising=False)
    scores: Any = iter([(good + bad) / 2, good, bad, None])
    monkeypatch.setattr(kitchen, "score", lambda split: ({name: next(scores)},), raising=False)
    assert kitchen.greedy() == [0, 1]
    assert [one["validation"] for one in kitchen.tried[:3]] == [(good + bad) / 2, good, bad]


# --- a real run ----------------------------------------------------------------------------------

PAIRS = ("task=pair_regression", "task.train=pairs.csv", "model=tiny", "device=cpu")


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    words = ("gene", "cancer", "colon", "protein", "mutation", "patient")
    rows = [
        f"{words[i % 6]} {words[(i + 1) % 6]} {i},{words[(i * 5) % 6]} {i},{1 + (i * 5) % 6 / 2}"
        for i in range(60)
    ]
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,score\n" + "\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_judged_by_an_error(make_run: Callable[..., Any], cli: Any, pairs: Path) -> None:
    steps = ("optim.steps=20", "trainer.eval_every=4", "optim.lr=3e-3")
    run = make_run(*PAIRS, *steps, "task.metric=rmse", f"task.data_dir={pairs}")
    plain = make_run(*PAIRS, *steps, f"task.data_dir={pairs}")
    assert run.hashed["task"]["higher_is_better"] is False
    assert "higher_is_better" not in plain.hashed["task"]
    test = [float(e.target) for e in run.data.splits["test"]]  # type: ignore[arg-type]
    mean = math.fsum(test) / len(test)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in test) / len(test))
    assert run.data.task.failed_below == pytest.approx(spread)
    assert run.data.task.failure_score == run.data.task.failed_below
    (note,) = (note for note in run.data.notes if note.startswith("lower RMSE is better"))
    assert "task.failure_score=0.0 are for a metric that grows with quality" in note

    store = Store(pairs / "runs")
    store.make_writable()
    done = execute_one(run, store, lambda *_: None)
    with (store.folder(done.key) / "curve.csv").open() as file:
        curve = {int(row["step"]): float(row["rmse"]) for row in csv.DictReader(file)}
    assert len(set(curve.values())) > 2
    assert done.result["best_step"] == min(curve, key=lambda step: curve[step])
    scores = done.result["metrics"]["best"]
    assert scores["validation"]["rmse"] == min(curve.values())
    failed = {at: done.result["score"][at] >= spread for at in ("last", "best")}
    assert done.result["degenerate"] == failed

    said = cli("report", str(store.root), "--all", "--out", "out")
    assert said.code == 0, said.err
    assert "test score at the last step (pairs: rmse, lower is better)" in said.out
    page = Path("out/report.html").read_text()
    assert f"reached RMSE {done.result['score']['last']:.3f} over one seed" in page
    assert "(lower is better)" in Path("out/summary.md").read_text()


def test_bounds_of_ones_own_are_kept(make_run: Callable[..., Any], pairs: Path) -> None:
    own = ("task.metric=rmse", "task.failed_below=0.75", "task.failure_score=9")
    task = make_run(*PAIRS, *own, f"task.data_dir={pairs}").data.task
    assert (task.failed_below, task.failure_score) == (0.75, 9)
    biosses = make_run("task=biosses", "task.metric=rmse", "model=tiny").data.task
    assert biosses.failed_below > 0.378
    assert biosses.failure_score == biosses.failed_below


def test_without_a_constant_answer_bounds_must_be_given(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PairRegression, "constants", lambda *_: {})
    with pytest.raises(ConfigError, match=r"say task\.failed_below, at or above which"):
        make_run("task=biosses", "task.metric=rmse", "task.failed_below=0.1", "model=tiny")

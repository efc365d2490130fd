"""What `import bluestab` offers: one run, tables of a store, figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bluestab
from bluestab import api
from bluestab.core.errors import ConfigError, StoreError
from bluestab.report.frames.results import read_results
from bluestab.store.store import Store
from bluestab.testing.corpora import ANY_FILE
from tests.report.frames.test_looks import added
from tests.report.test_page import CURVE
from tests.report.test_report import LLRD, RECORDS, plain, record, stored


def test_one_row_per_run(tmp_path: Path) -> None:
    store = stored(tmp_path / "runs", RECORDS)
    found = bluestab.load_store(store.root, "question").set_index("key")
    assert len(found) == len(RECORDS)
    first = found.loc[RECORDS[0].key]
    assert (first.arm, first.seed, first.score_last, first.score_best) == ("none", 0, 0.5, 0.9)
    assert (first["optim.lr"], first["task.kind"]) == (1e-5, "PairRegression")
    assert found["technique.llrd.decay"].dropna().unique() == [0.8]
    assert bool(found.loc[RECORDS[3].key].failed_last)
    assert pd.isna(found.loc[RECORDS[-1].key].score_last), "it crashed"
    assert len(bluestab.load_store(str(store.root))) == len(RECORDS) - 1, "all that has finished"


def test_the_summary_is_that_of_the_report(tmp_path: Path) -> None:
    store = stored(tmp_path / "runs", RECORDS)
    ours = bluestab.load_summary(store.root, "question")
    theirs = read_results(store, store.manifest(None)).summary
    pd.testing.assert_frame_equal(ours, theirs[ours.columns])


def test_seeds_that_were_added_later_and_what_was_declared_count_here_too(tmp_path: Path) -> None:
    store = added(tmp_path / "runs")
    for sweep in ("b", None):
        ours = bluestab.load_summary(store.root, sweep)
        theirs = read_results(store, None if sweep is None else store.manifest(sweep)).summary
        pd.testing.assert_frame_equal(ours, theirs[ours.columns])
        assert (ours["test_name"] == "signs, at any look").any()
    manifest = {**(store.manifest("b") or {}), "declared": {"baseline": "llrd", "difference": 0.2}}
    store.write_manifest("b", manifest)
    ours = bluestab.load_summary(store.root, "b")
    assert set(ours["baseline"].dropna()) == {"llrd"}
    assert set(ours["difference"].dropna()) == {0.2}


def test_the_environment_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "elsewhere", RECORDS)
    monkeypatch.setenv("BLUESTAB_STORE", str(tmp_path / "elsewhere"))
    assert len(bluestab.load_store()) == 8
    with pytest.raises(StoreError, match="no store"):
        bluestab.load_store(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="no sweep 'other'; it has: question"):
        bluestab.load_store(sweep="other")


def test_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert bluestab.load_store(tmp_path / "runs").empty
    assert "score_last" in bluestab.load_store(tmp_path / "runs").columns
    assert list(bluestab.load_curves(tmp_path / "runs").columns)[:3] == ["key", "task", "model"]


def test_a_run_and_its_predictions(small: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    overrides = [
        *("task=gad", "model=tiny", "optim.steps=1", f"store={root}"),
        *(f"task.sha256.{split}=null" for split in ("train", "validation", "test")),
    ]
    made = bluestab.run(overrides)
    assert made.status == "done"
    assert bluestab.run(overrides).measured == made.measured, "from the store the second time"
    items = bluestab.load_predictions(made.key[:6], root)
    assert list(items.columns) == ["at", "id", "prediction", "target", "logits"]
    assert len(items) == 2 * made.result["items"]["test"]
    assert len(bluestab.load_curves(root)) >= 1
    with pytest.raises(StoreError, match="no finished run has this key"):
        bluestab.load_predictions("zzzz", root)
    with pytest.raises(ConfigError):
        bluestab.run([*overrides, "optim.lr=-1"])
    with pytest.raises(TypeError, match="expected a list"):
        bluestab.run("task=gad")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "asked",
    [
        (["model=tinyy"], {}, "there is no model 'tinyy'; did you mean 'tiny'?"),
        ([], {"model": "tinyy"}, "there is no model 'tinyy'; did you mean 'tiny'?"),
        (["model"], {}, "cannot read the override 'model': expected KEY=VALUE"),
        ([], {"optim": {"lr": "fast"}}, "optim.lr is 'fast': expected a number > 0"),
        ([], {"model": "tiny,minilm"}, "model=tiny,minilm is a choice.*use bluestab.sweep to run"),
        (["-m", "model=tiny"], {}, "-m is an option of the command line"),
    ],
)
def test_what_is_wrong_with_an_override_is_one_sentence(
    asked: tuple[list[str], dict[str, Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides, knobs, said = asked
    with pytest.raises(bluestab.ConfigError, match=said) as found:
        bluestab.run(overrides, **knobs)
    assert "\n" not in str(found.value)
    assert found.value.__suppress_context__ or found.value.__context__ is None, "Hydra's lines show"
    with pytest.raises(bluestab.ConfigError) as found:
        bluestab.sweep([*overrides, "model=tinyy"], **knobs)
    assert "Hydra" not in str(found.value)
    assert not (tmp_path / "runs").exists()


def test_keyword_arguments_are_overrides() -> None:
    knobs = {
        "task": "gad",
        "technique": ["freeze", "llrd"],
        "optim": {"lr": 3e-5, "steps": np.int64(4), "epochs": None},
        "keep_text": False,
        "store": Path("here, there"),
    }
    assert api._as_overrides(["seed=3"], knobs) == [
        *("seed=3", "task=gad", "technique=[freeze,llrd]", "optim.lr=3e-05", "optim.steps=4"),
        *("optim.epochs=null", "keep_text=false", "store='here, there'"),
    ]
    for wrong in ({"task": "gad"}, "task=gad", [3]):
        with pytest.raises(TypeError, match="expected a list"):
            bluestab.run(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"seed is <object .*expected a text, a number"):
        bluestab.run(seed=object())


SHORT = [*ANY_FILE, "task=gad", "model=tiny", "optim.steps=1"]


def test_a_sweep_and_answers_for_new_text(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra.core.global_hydra import GlobalHydra

    monkeypatch.chdir(tmp_path)
    argv, around = list(sys.argv), object()
    GlobalHydra.instance().hydra = around  # type: ignore[assignment]  # an application that asks
    try:
        found = bluestab.sweep(SHORT, technique="none,reinit", sweep={"seeds": 1}, keep="last")
        assert GlobalHydra.instance().hydra is around
    finally:
        GlobalHydra.instance().hydra = None  # by now another instance
    assert (sys.argv, os.environ.get("BLUESTAB_COMMAND")) == (argv, None)
    assert sorted(found.runs["arm"]) == ["none", "reinit"]
    assert set(found.summary["arm"]) == {"none", "reinit"}
    manifest = Store(found.store).manifest(found.name)
    assert manifest is not None
    assert manifest["command"].startswith("bluestab run -m ")
    assert (tmp_path / "report" / found.name / "report.html").is_file()

    keys = list(found.runs["key"])
    answers = bluestab.predict(keys[0], ["A sentence on a gene.", ""])
    assert answers["probability"][0] == max(answers["probabilities"][0].values())
    assert pd.isna(answers["prediction"][1])
    assert "disagreement" in bluestab.predict(keys, ["A sentence on a gene."])
    with pytest.raises(bluestab.ConfigError, match=r"texts\[1\] is 3: task 'gad' reads a text"):
        bluestab.predict(keys[0], ["A sentence.", 3])  # type: ignore[list-item]
    with pytest.raises(bluestab.ConfigError, match="has no run whose key begins so"):
        bluestab.predict("ffff", ["A sentence."])


@pytest.mark.parametrize("asked", ["hydra/sweeper=optuna", "hydra/launcher=check"])
def test_what_is_no_sweep_is_refused_before_it_begins(asked: str, small: Path) -> None:
    with pytest.raises(bluestab.ConfigError, match=r"this .*bluestab run -m"):
        bluestab.sweep([*SHORT, asked])


def test_digits_that_several_runs_begin_with(tmp_path: Path) -> None:
    store = stored(tmp_path / "runs", [record(0.1 * seed, seed=seed) for seed in range(20)])
    keys = store.keys()
    key = next(k for k in keys if sum(other[0] == k[0] for other in keys) > 1)
    with pytest.raises(StoreError, match="runs begin so"):
        bluestab.load_predictions(key[0], store.root)


def test_importing_is_light_and_the_api_is_whole() -> None:
    code = (
        "import sys, bluestab\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)\n"
        "names = [name for name in dir(bluestab) if not name.startswith('__')]\n"
        "assert {*names, '__version__'} == set(bluestab.__all__)\n"
        "import bluestab.training.execute\n"
        "from bluestab.api import run\n"
        "assert bluestab.run is run\n"
        "import inspect\n"
        "for name in set(names) - {'figures'}:\n"
        "    found = getattr(bluestab, name)\n"
        "    assert callable(found) and found.__doc__, name\n"
        "    if inspect.isfunction(found):\n"
        "        said = inspect.signature(found)\n"
        "        assert 'Raises' in found.__doc__, name\n"
        "        assert said.return_annotation and said.parameters, name\n"
        "assert bluestab.figures.seeds and bluestab.__version__\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bluestab.nothing  # noqa: B018


# --- figures ---------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    records = plain({0: 0.5, 1: 0.7, 2: 0.2}) + plain({0: 0.6, 1: 0.8, 2: 0.7}, technique=LLRD)
    found = stored(tmp_path / "runs", records)
    for one in records:
        (found.folder(one.key) / "curve.csv").write_text(
            CURVE + "5,1,0.1,3,4,5\n10,1,0.2,3,1e-3,5\n"
        )
    return found


def test_every_figure_from_the_tables(store: Store, tmp_path: Path) -> None:
    f = bluestab.report.figures
    runs, summary = bluestab.load_store(store.root), bluestab.load_summary(store.root)
    evaluations = bluestab.load_curves(store.root)
    drawn: dict[str, Any] = {
        "seeds": f.seeds(runs),
        "failed": f.failed(summary),
        "changes": f.changes(summary),
        "cost": f.cost(summary),
        "memory": f.memory(summary),
        "budget": f.budget(runs),
        "curves": f.curves(evaluations),
        "loss": f.curves(evaluations, "train_loss"),
        "gradients": f.gradients(evaluations, columns=1),
    }
    widths = {name: figure.get_size_inches()[0] for name, figure in drawn.items()}
    (point,) = (line for line in drawn["memory"].axes[0].lines if line.get_marker() == "o")
    assert list(point.get_xdata()) == [0.5], "bytes of a training, in times of the baseline's"
    assert (widths["seeds"], widths["gradients"]) == (7.0, 3.4)
    (change,) = (line for line in drawn["changes"].axes[0].lines if line.get_marker() == "o")
    assert change.get_xdata()[0] == pytest.approx(0.7 - 1.4 / 3)
    assert len(drawn["curves"].axes[0].lines) == 3, "a line per run"
    good, bad = drawn["gradients"].axes
    assert (good.get_title(loc="left"), bad.get_title(loc="left")) == (
        "biosses, small: 5 runs did not fail",
        "biosses, small: 1 run failed",
    )
    values = [list(line.get_ydata()) for line in drawn["budget"].axes[0].lines]
    assert any(v[0] == pytest.approx(0.7) for v in values)
    written = f.save(drawn["seeds"], tmp_path / "figs" / "seeds")
    assert [path.read_bytes()[:4] for path in written] == [b"\x89PNG", b"<?xm", b"%PDF"]


def test_no_axis_of_scores_reaches_beyond_the_metric(tmp_path: Path) -> None:
    records = plain({0: 0.999, 1: 0.998, 2: 0.2}) + plain({0: 0.9, 1: 1.0, 2: 0.7}, technique=LLRD)
    store = stored(tmp_path / "runs", records)
    for one in records:
        (store.folder(one.key) / "curve.csv").write_text(CURVE + "5,1,0.1,3,4,5\n10,1,1,3,1,5\n")
    runs = bluestab.load_store(tmp_path / "runs")
    (seeds,) = bluestab.report.figures.seeds(runs).axes
    (budget,) = bluestab.report.figures.budget(runs).axes
    curves = bluestab.report.figures.curves(bluestab.load_curves(store.root)).axes[0]
    for _, most in (seeds.get_xlim(), budget.get_ylim(), curves.get_ylim()):
        assert most <= 1 + 0.011 * 0.9
    assert curves.get_ylim()[1] > 1, "with room for the line"
    seeds.plot([-1.5, 0.5], [0, 0])
    seeds.set_xlim(-3, 3)
    bluestab.report.figures.keep_in_range([seeds], "x", -1, 1)
    assert seeds.get_xlim() == pytest.approx((-1.56, 1.06)), "what is drawn is seen"


def test_figures_say_what_is_wrong(store: Store) -> None:
    runs = bluestab.load_store(store.root)
    with pytest.raises(ValueError, match="1 or 2 columns"):
        bluestab.report.figures.seeds(runs, columns=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing to draw"):
        bluestab.report.figures.seeds(runs[runs["status"] == "crashed"])
    with pytest.raises(ValueError, match="nothing to draw"):
        bluestab.report.figures.curves(bluestab.load_curves(store.root), "speed")


def test_report_writes_figures_when_asked(store: Store, tmp_path: Path, cli: Any) -> None:
    said = cli("report", str(store.root), "--out", str(tmp_path / "out"), "--figures")
    assert (said.code, said.err) == (0, "")
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"seeds.pdf", "changes.svg", "gradients.png", "budget.pdf", "cost.png"} <= names
    assert not any(name.startswith(".") for name in names)

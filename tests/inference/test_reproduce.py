"""Runs made again and averaged: what `reproduce` answers, and what a soup is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError, StoreError  # noqa: E402
from bluestab.core.keys import key_of  # noqa: E402
from bluestab.inference.members import members_of  # noqa: E402
from bluestab.inference.remake import checked  # noqa: E402
from bluestab.inference.reproduce import judge, reproduce, surroundings  # noqa: E402
from bluestab.inference.soup import make_soup  # noqa: E402
from bluestab.inference.weights import find_run, of_run  # noqa: E402
from bluestab.store.records import to_text  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.store.verify import problems  # noqa: E402
from bluestab.testing.corpora import ANY_FILE  # noqa: E402
from tests.conftest import Say  # noqa: E402
from tests.store.test_artefacts import SHORT, recorded, snapshot  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]


@pytest.fixture
def seeds(make_run: Make, tmp_path: Path) -> list[Any]:
    """Three seeds of a cell, one head."""
    return [
        done(
            make_run("task=gad", "model=tiny", *SHORT, "keep=last", f"seed={s}", "seeds.init=0"),
            tmp_path / "runs",
        )
        for s in range(3)
    ]


# --- reproduce -----------------------------------------------------------------------------------


def test_the_same_machine_gives_the_same_bytes(make_run: Make, cli: Say, tmp_path: Path) -> None:
    record = done(make_run("task=gad", "model=tiny", *SHORT), tmp_path / "runs")
    before = snapshot(tmp_path / "runs")
    said = cli("reproduce", record.key, "--store", str(tmp_path / "runs"), "--device", "cpu")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0] == "environment: the same"
    assert f"{record.key}: identical" in said.out
    assert snapshot(tmp_path / "runs") == before, "the store is left as it was"


def test_what_a_second_run_says(seeds: list[Any], tmp_path: Path) -> None:
    """By hand: scores 0.2, 0.4, 0.6 have std 0.2; t(2) = 4.303; the bound is 1.217."""
    from bluestab.inference.cell import cell_of_run

    store = Store(tmp_path / "runs")
    for record, score in zip(seeds, (0.2, 0.4, 0.6), strict=True):
        lie = replace(record, result={**record.result, "score": {"last": score, "best": score}})
        (store.folder(record.key) / "record.json").write_text(to_text(lie))
    run = find_run(seeds[0].key, store)
    assert cell_of_run(store, run.record).scores("last") == [0.2, 0.4, 0.6]

    def answer(score: float, same: bool = False, **more: Any) -> Any:
        scores = {"last": score, "best": score}
        again = replace(run.record, result={**run.record.result, "score": scores, **more})
        return judge(run, again, same)

    assert answer(0.2, same=True).word == "identical"
    assert answer(0.2).word == "within the noise"
    assert answer(0.2 + 1.216).word == "within the noise"
    assert answer(0.2 + 1.218).word == "different"
    assert "are within 1.216974" in answer(0.9).why[-1]
    assert answer(0.2, status="diverged").word == "different"
    for record in seeds[1:]:
        Store(tmp_path / "runs").folder(record.key).rename(tmp_path / record.key)
    assert answer(0.3).word == "different"
    assert "1 seed of this cell is too few" in answer(0.3).why[-1]


def test_another_score_is_not_identical(make_run: Make, tmp_path: Path) -> None:
    record = done(make_run("task=gad", "model=tiny", *SHORT), tmp_path / "runs")
    lie = {"last": 0.123, "best": 0.123}
    path = tmp_path / "runs" / record.key / "record.json"
    path.write_text(to_text(replace(record, result={**record.result, "score": lie})))
    verdict = reproduce(find_run(record.key, Store(tmp_path / "runs")), "cpu", tmp_path / "kept")
    assert verdict.word == "different"
    assert verdict.why[0].startswith("test positive_f1 0.123000 then, ")
    assert verdict.why[1] == "differing: score"
    assert Store(tmp_path / "kept").has(record.key)


def test_the_environment_is_named(make_run: Make, tmp_path: Path) -> None:
    record = done(make_run("task=gad", "model=tiny", *SHORT), tmp_path / "runs")
    assert surroundings(record, "cpu") == []
    then = {**record.measured, "host": "elsewhere"}
    then["versions"] = {**then["versions"], "torch": "1.0", "gone": "2"}
    lines = surroundings(replace(record, measured=then), "cpu")
    assert [line.split(":")[0] for line in lines] == ["host", "torch", "gone"]
    assert lines[1].startswith("torch: 1.0 then, ")


def test_what_cannot_be_made_again(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = done(make_run("task=gad", "model=tiny", *SHORT), tmp_path / "runs")
    store = Store(tmp_path / "runs")
    run = find_run(record.key, store)
    bent = replace(run, cfg={**run.cfg, "optim": {**run.cfg["optim"], "lr": 0.5}})
    with pytest.raises(ConfigError, match="cannot be made again here: its optim would differ"):
        checked(bent, store, "cpu")
    older = json.loads(json.dumps(run.cfg))
    for lost in ("keep_representations", "logger", "stop_degenerate", "on_oom"):
        older.pop(lost, None)
    for lost in ("folds", "fold", "split_seed"):
        older["task"].pop(lost, None)
    del older["optim"]["bias_correction"], older["trainer"]["micro_batch"], older["model"]["head"]
    del older["optim"]["bucket"], older["trainer"]["eval_tokens"]
    assert checked(replace(run, cfg=older), store, "cpu").key == record.key
    monkeypatch.setenv("BLUESTAB_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be made again here:"):
        checked(run, store, "cpu")


@pytest.mark.slow
def test_a_run_from_before_a_knob_of_its_technique(make_run: Make, tmp_path: Path) -> None:
    line = ("task=gad", "model=tiny", "technique=reinit", "technique.reinit.depth=1", *SHORT)
    record = done(make_run(*line), tmp_path / "runs")
    store = Store(tmp_path / "runs")
    run = find_run(record.key, store)
    older = json.loads(json.dumps(run.cfg))
    del older["technique"]["reinit"]["layernorms_only"]
    assert checked(replace(run, cfg=older), store, "cpu").key == record.key


# --- soups ---------------------------------------------------------------------------------------


def test_a_uniform_soup_is_the_mean(seeds: list[Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    store = Store(tmp_path / "runs")
    members = members_of([seeds[0].key], store)
    assert {m.record.key for m in members} == {r.key for r in seeds}
    soup = make_soup(members, "uniform", "cpu")
    weights = [load_file(of_run(m).folder / "model.safetensors") for m in members]
    own = load_file(store.folder(soup.record.key) / "checkpoint" / "last" / "model.safetensors")
    assert set(own) == set(weights[0])
    for name, value in own.items():
        mean = sum(w[name].double() for w in weights) / 3
        assert torch.equal(value, mean.float()), name
    # a record like any other: its key, its files, its predictions
    record = store.read(soup.record.key)
    assert key_of(record.result["config"]) == record.key
    assert list(problems(store)) == []
    assert record.measured["names"]["technique"] == ["soup"]
    assert record.result["cell"] != seeds[0].result["cell"]
    assert soup.remarks == []
    run = find_run(record.key, store)
    from bluestab.inference.predictor import Predictor

    data = checked(members[0], store, "cpu").data
    found = Predictor([of_run(run)], "cpu").logits(data.splits["test"])
    stored = recorded(store.folder(record.key), "last")
    for (_, _, (logits,)), expected in zip(found, stored, strict=True):
        assert logits.ravel().tolist() == pytest.approx(expected, abs=1e-5)
    before = snapshot(store.root)
    assert make_soup(members, "uniform", "cpu").record == record
    assert snapshot(store.root) == before, "nothing is done twice"


def test_a_greedy_soup_never_gets_worse_on_validation(seeds: list[Any], tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    soup = make_soup(members_of([r.key for r in seeds], store), "greedy", "cpu")
    own = soup.record.result["effects"]["soup"]
    best = max(r.result["metrics"]["last"]["validation"]["positive_f1"] for r in seeds)
    metrics = soup.record.result["metrics"]["last"]
    assert metrics["validation"]["positive_f1"] >= best - 1e-9
    assert len(own["tried"]) == 3
    assert own["tried"][0]["stays"]
    assert {*own["members"], *own["left_out"]} == {r.key for r in seeds}
    assert len(own["members"]) == sum(t["stays"] for t in own["tried"])


def test_the_verb(make_run: Make, cli: Say, tmp_path: Path) -> None:
    line = ("task=biosses", "model=tiny", *SHORT, *ANY_FILE)
    assert cli("run", "-m", *line, "sweep.seeds=2").code == 0
    (key, _) = sorted(Store("runs").keys())
    said = cli("soup", key, "--device", "cpu")
    assert (said.code, said.err) == (0, "")
    assert said.out.count("trained again") == 2
    assert "heads began at 2 different random values" in said.out
    assert "2 of 2 seeds are in it; alone they score" in said.out
    (made,) = set(Store("runs").keys()) - set(json.loads(_manifest())) - {"x"}
    assert cli("report", "--all").code == 0
    rows = Path("report/all/summary.csv").read_text().splitlines()
    assert sum("soup" in row for row in rows) == 2, "an arm of its own, at last and best"
    assert cli("export", made, "--out", "soup").code == 0
    said = cli("soup", key, "--kind", "greedi")
    assert (said.code, said.err.strip()) == (
        2, "bluestab: --kind is 'greedi'; did you mean 'greedy'?"
    )  # fmt: skip


def _manifest() -> str:
    (path,) = Path("runs/sweeps").glob("*.json")
    return json.dumps([run["key"] for run in json.loads(path.read_text())["runs"]])


def test_what_is_no_soup(make_run: Make, seeds: list[Any], tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    other = done(make_run("task=gad", "model=tiny", *SHORT, "technique=llrd"), tmp_path / "runs")
    with pytest.raises(ConfigError, match="differ in more than the seed"):
        members_of([seeds[0].key, other.key], store)
    with pytest.raises(ConfigError, match="a soup needs two runs"):
        members_of([other.key], store)
    with pytest.raises(ConfigError, match="choose one for all"):
        members_of([seeds[0].key, f"{seeds[1].key}:best"], store)


def test_a_crash_while_reproducing_is_said(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = done(make_run("task=gad", "model=tiny", *SHORT), tmp_path / "runs")

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("bluestab.training.prepare.load", broken)
    with pytest.raises(StoreError, match="crashed when it was made again: RuntimeError: no such"):
        reproduce(find_run(record.key, Store(tmp_path / "runs")), "cpu", None)

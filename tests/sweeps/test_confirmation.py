"""What a sweep chose, on fresh seeds: which, beside what, and what the report makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.errors import Interrupted
from bluestab.report.frames.looks import looked_cells
from bluestab.report.frames.results import read_results
from bluestab.store.store import Store
from bluestab.sweeps.lifecycle import begin, close
from bluestab.sweeps.plan import Sweep
from tests.support import simulated_search

SWEEP = """# @package _global_
# Is it the technique, or the learning rate?
# Cost: none
defaults:
  - override /task: gad
  - override /model: tiny
task: {sha256: {train: null, validation: null, test: null}}
device: cpu
sweep:
  arms:
    none: [technique=none, optim.lr=1e-3]
    worse: [technique=llrd, technique.llrd.decay=0.5, optim.lr=1e-3]
    best: [technique=llrd, technique.llrd.decay=0.8, optim.lr=1e-4]
"""
Command = Callable[..., Any]


@pytest.fixture
def command(
    small: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """`bluestab run -m +sweeps=mine sweep.name=s ...`, whose runs are stand-ins; `most` of them."""
    monkeypatch.chdir(tmp_path)
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_text(SWEEP)
    allowed: list[int] = []

    def launch(_: Any, sweep: Sweep) -> None:
        begin(sweep)
        for planned in sweep.runs:
            if not sweep.store.has(planned.run.key) and allowed[0] <= 0:
                raise Interrupted("stopped")
            allowed[0] -= not sweep.store.has(planned.run.key)
            simulated_search.execute(planned.run, sweep.store, lambda *_: None)
        close(sweep)

    monkeypatch.setattr("bluestab.sweeps.launchers.local.Local.launch", launch)

    def run(*arguments: str, most: int = 1000, verb: str = "run") -> Any:
        allowed[:] = [most]
        return cli(verb, "-m", "+sweeps=mine", "sweep.name=s", "sweep.seeds=7", *arguments)

    return run


def test_the_winner_meets_the_baseline_on_fresh_seeds(command: Command) -> None:
    said = command("sweep.confirm=8")
    assert said.code == 0, said.err
    store = Store(Path("runs"))
    second = store.manifest("s-confirmed")
    assert second is not None
    assert {run["seed"] for run in second["runs"]} == set(range(7, 15))
    arms = {told["role"]: (cell, told["arm"]) for cell, told in second["confirms"]["arms"].items()}
    assert set(arms) == {"baseline", "winner", "matched"}
    of = {r["cell"]: r["overrides"] for r in second["runs"]}
    assert {"technique=llrd", "optim.lr=1e-4"} <= {*of[arms["winner"][0]]}
    assert {"technique=none", "optim.lr=1e-3"} <= {*of[arms["baseline"][0]]}
    assert {"technique=none", "optim.lr=1e-4"} <= {*of[arms["matched"][0]]}
    frame = read_results(store, store.manifest("s")).frame("confirmed")
    assert list(frame["role"]) == ["baseline", "matched"]
    assert list(frame["delta"]) == pytest.approx([0.15, 0.05], abs=0.02)
    assert (frame["p"] == 2 / 2**8).all(), "each by itself, and of one look"
    for text in (said.out, Path("report/s/summary.md").read_text()):
        assert "on 8 fresh seeds, which chose nothing: " in text
    (advised,) = read_results(store, store.manifest("s")).advice
    assert "what fresh seeds say of it stands below" in advised.sentence()
    assert "On fresh seeds" in Path("report/s/report.html").read_text()
    assert Path("report/s/confirmed.csv").is_file()
    runs = read_results(store, None).runs
    assert {arms["winner"][0], arms["baseline"][0]} <= looked_cells(store, None, runs), "pooled"
    assert store.manifest("s")["declared"]["confirm"] == [*range(7, 15)]  # type: ignore[index]


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped(command: Command) -> None:
    assert command("sweep.confirm=8", most=20).code != 0
    store = Store(Path("runs"))
    assert "s-confirmed" not in store.manifests(), "a run of the sweep is missing"
    assert command("sweep.confirm=8", most=5).code != 0
    left = read_results(store, store.manifest("s")).frame("confirmed")
    assert set(left["left"]) <= {20}
    assert command("sweep.confirm=8").code == 0
    assert len(store.manifest("s-confirmed")["launches"]) == 1  # type: ignore[index]
    assert len(simulated_search.attempts(Path("runs"))) == 21 + 24


@pytest.mark.slow
def test_without_it_the_report_says_what_choosing_does(command: Command) -> None:
    said = command()
    assert "means that chose among 3 arms are optimistic, their bounds are not" in said.out
    assert "s-confirmed" not in Store(Path("runs")).manifests()


@pytest.mark.slow
def test_seeds_that_an_earlier_sweep_had_are_not_fresh(command: Command) -> None:
    assert command("sweep.name=earlier", "sweep.seeds=[3,11]").code == 0
    assert command("sweep.confirm=2").code == 0
    second = Store(Path("runs")).manifest("s-confirmed") or {}
    assert {run["seed"] for run in second["runs"]} == {12, 13}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["sweep.confirm=-1"], "sweep.confirm is -1: expected 0, a number of seeds"),
        (["sweep.confirm=true"], "sweep.confirm is True: expected 0"),
        (["sweep.confirm=[3,9]"], "sweep.confirm names seed 3, which the sweep itself uses"),
        (
            ["sweep.confirm=3", "sweep.arms=null", "hydra/sweeper=optuna"],
            "a search keeps fresh seeds by search.confirm",
        ),
        (["sweep.confirm=3", "seeds.init=0,1"], "so no seed would be fresh"),
    ],
)
def test_what_cannot_be_confirmed_is_said_first(
    command: Command, line: list[str], told: str
) -> None:
    said = command(*line)
    assert said.code == 2
    assert told in said.err
    assert not Path("runs/sweeps").exists()


@pytest.mark.slow
def test_check_counts_it(command: Command) -> None:
    said = command("sweep.confirm=8", "hydra.launcher.dry_step=false", verb="check")
    assert said.code == 0, said.err
    assert "at most 24 runs more, which the forecast leaves out" in said.out
    assert not Path("runs/sweeps").exists()

"""A search as a person types it, from the first point to best.yaml, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bluestab.store.store import Store
from bluestab.sweeps.search.confirm import contenders
from bluestab.testing.corpora import ANY_FILE
from tests.support import simulated_search

BASE = ("run", "-m", "hydra/sweeper=optuna", "task=gad", "model=tiny", "device=cpu")
SMALL = ("optim.steps=2", "task.max_length=32", *ANY_FILE)
LR = "optim.lr=tag(log,interval(1e-5,1e-3))"


@pytest.mark.slow
def test_from_the_first_point_to_the_winner(cli: Callable[..., Any]) -> None:
    line = (*BASE, *SMALL, LR, "technique=none,llrd", "search.space=[llrd]", "search.seeds=2")
    line += ("search.n_trials=3", "search.confirm=[7,8]", "sweep.name=mine")
    said = cli(*line)
    assert said.code == 0, said.err
    assert "[3/3]" in said.out
    assert "confirming the winner on 2 fresh seeds" in said.out
    assert "in the search" in said.out
    folder = Path("report/mine")
    page = (folder / "search.html").read_text()
    assert page.count("data:image/png;base64,") >= 3
    assert "http" not in page.replace("http-equiv", "")  # nothing is loaded from elsewhere
    rows = list(csv.DictReader((folder / "points.csv").read_text().splitlines()))
    assert len(rows) == 3
    confirmed = Store("runs").manifest("mine-confirmed")
    assert confirmed is not None
    assert {run["seed"] for run in confirmed["runs"]} == {7, 8}

    n_runs = len(Store("runs").keys())
    again = cli(*line)  # the same command: everything is there
    assert again.code == 0, again.err
    assert len(Store("runs").keys()) == n_runs
    assert "going on with search mine: 3 points are told" in again.out
    shown = cli("search", "--out", "elsewhere")
    assert shown.code == 0, shown.err
    assert "winner: technique=" in shown.out
    standing = cli("status")
    assert standing.code == 0, standing.err
    assert "search mine: 3 of 3 points told, 0 under way; best so far: mean" in standing.out
    assert "more: bluestab search runs --name mine" in standing.out
    assert "mine-confirmed" in standing.out, "and the sweep that confirmed it"
    assert Path("elsewhere/best.yaml").read_text() == (folder / "best.yaml").read_text()

    Path("sweeps").mkdir()
    Path("sweeps/best.yaml").write_text((folder / "best.yaml").read_text())
    used = cli("run", "-m", "+sweeps=best", "sweep.seeds=[7,8]", "device=cpu")
    assert used.code == 0, used.err
    assert len(Store("runs").keys()) == n_runs  # these very runs are in the store

    changed = cli(*[word for word in line if word != LR], "optim.lr=interval(1e-5,1e-4)")
    assert changed.code == 2
    assert "space.optim.lr: tag(log,interval(1e-5,1e-3)) before" in changed.err


LLRD = {"technique": "llrd", "technique.llrd.decay": 0.8}


@pytest.mark.parametrize(
    ("winner", "choices", "names"),
    [
        ({**LLRD, "optim.lr": 1e-4}, None, ["baseline", "matched", "winner"]),
        ({"technique": "none", "optim.lr": 1e-4}, None, ["baseline", "winner"]),
        (LLRD, {k: v for k, v in simulated_search.CHOICES.items() if k != "optim.lr"}, None),
    ],
)
def test_techniques_are_also_measured_at_the_same_rate(
    small: Path, tmp_path: Path, winner: dict[str, Any], choices: Any, names: list[str] | None
) -> None:
    """Else a better learning rate would be laid to them; not where it would be measured twice."""
    search = simulated_search.plan(tmp_path / "runs", n_trials=2, seeds=1, choices=choices)
    found = contenders(search, [SimpleNamespace(params=winner, value=0.5)])  # type: ignore[list-item]
    assert [one.name for one in found] == (names or ["baseline", "winner"])
    for one in found:
        if one.name == "matched":
            assert one.said == "technique=none optim.lr=0.0001"
            assert {o for job in one.jobs(search) for o in job if o.startswith("optim.lr=")} == {
                "optim.lr=0.0001"
            }
            assert one.searched is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is nothing to search"),
        (("search.space=[lrd]",), "there is no technique 'lrd'; did you mean 'llrd'?"),
        (("seed=0,1",), "seed is no knob of a search: a point is measured over search.seeds"),
        (("task=gad,biosses",), "task is no knob of a search"),
        (("model.layers=range(1,3)",), "model.layers is no knob of a search"),
        (("model.dropout=interval(0,2)",), "model.dropout is 2.0: expected a number in [0, 1)"),
        (("optim.lr=interval(-1,1)",), "optim.lr is -1.0: expected a number > 0"),
        (("technique=none", "technique.llrd.decay=interval(0,1)"), "add it to technique="),
        ((LR, "search.seeds=1,2"), "a list needs brackets"),
        ((LR, "search.sampler=gp"), "say search/sampler=gp"),
        ((LR, "search/sampler=grid"), "the space is not finite"),
        ((LR, "search.n_trial=3"), "did you mean 'search.n_trials'?"),
        ((LR, "search.confirm=[4,5]"), "search.confirm names seed 4"),
        ((LR, "search.objective=[mean,seconds]"), "say search.race.kind=none"),
        ((LR, "search.objective=seconds"), "the shortest training would win"),
        ((LR, "search.race.kind=wilcoxon", "search.race.p=0.01"), "cannot act before seed 7"),
        ((LR, "search.start=[{optim.lr: 5}]"), "optim.lr=5 is not in"),
        ((LR, "search.baseline=[technique=frieze]"), "frieze"),
        (("+search=default",), "without the plus sign: search=default"),
        (("sweep.arms.a=[technique=none]", LR), "sweep.arms"),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_starts(
    words: tuple[str, ...], said: str, cli: Callable[..., Any]
) -> None:
    found = cli(*BASE, *SMALL, *words)
    assert found.code == 2, found.out
    assert said in found.err
    assert "Traceback" not in found.err
    assert not Path("runs").exists()


def test_without_m_it_is_no_search(cli: Callable[..., Any]) -> None:
    found = cli("run", "hydra/sweeper=optuna", "task=gad", "model=tiny")
    assert found.code == 2
    assert "add -m" in found.err


def test_check_starts_nothing(cli: Callable[..., Any]) -> None:
    line = ("check", *BASE[1:], *SMALL, LR, "search.n_trials=4", "hydra.launcher.dry_step=false")
    found = cli(*line)
    assert found.code == 0, found.err
    assert "at most 20 runs" in found.out
    assert "20 runs in 4 cells, 0 done" in found.out
    assert not Path("runs").exists()


def test_a_search_whose_storage_is_away_does_not_hide_the_rest(
    cli: Callable[..., Any],
) -> None:
    folder = Path("runs/searches/far")
    folder.mkdir(parents=True)
    asked = {"node": {}, "fixed": {}, "choices": {}}
    content = {"name": "far", "storage": "postgresql://me:***@host/db", "asked": asked}
    (folder / "search.json").write_text(json.dumps(content))
    (Path("runs/searches/odd")).mkdir()
    Path("runs/searches/odd/search.json").write_text("{")
    wrong = Path("runs/searches/grouped")
    wrong.mkdir()
    (wrong / "search.json").write_text(json.dumps({**content, "group": "many"}))
    said = cli("status")
    assert said.code == 0, said.err
    assert "search far: the storage of search far needs its password" in said.out
    assert "search odd: runs/searches/odd/search.json is damaged" in said.out
    assert "search grouped: runs/searches/grouped/search.json is damaged (group is 'many')" in (
        said.out
    )


def test_a_store_without_a_search_is_named(cli: Callable[..., Any]) -> None:
    Path("runs").mkdir()
    found = cli("search")
    assert found.code == 2
    assert "the store 'runs' has no search" in found.err

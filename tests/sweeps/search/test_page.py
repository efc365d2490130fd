"""What is shown of a search: figures, search.html, and its entry for report.html."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.report.frames.results import read_results
from bluestab.report.page import page_html
from bluestab.report.page_data import page_data
from bluestab.report.searches import FILE, read_entries
from bluestab.store.store import Store
from bluestab.sweeps.search.confirm import report
from bluestab.sweeps.search.figures import figures
from bluestab.sweeps.search.findings import (
    Arm,
    Findings,
    _against,
    best_first,
    importance,
    points_frame,
)
from bluestab.sweeps.search.page import write_search
from bluestab.sweeps.search.pool import see_through
from bluestab.sweeps.search.trials import Trials
from tests.support import simulated_search

Searched = Callable[..., tuple[Any, Trials]]


@pytest.fixture
def searched(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Searched:
    """A search of stand-ins, seen through, reported, and its study."""
    monkeypatch.chdir(tmp_path)

    def see(**given: Any) -> tuple[Any, Trials]:
        search = simulated_search.plan(tmp_path / "runs", **{"n_trials": 12, "seeds": 3, **given})
        trials = simulated_search.begin(search)
        assert not see_through(search, [None], simulated_search.execute)
        report(search, trials, [])
        return search, trials

    return see


def found_of(search: Any, trials: Trials) -> Findings:
    every = trials.all()
    return Findings(
        search, points_frame(every, search), best_first(every, search), importance(every, search)
    )


def test_the_page_has_the_numbers_of_points_csv(searched: Searched, tmp_path: Path) -> None:
    search, _ = searched()
    (entry,) = read_entries(Store(tmp_path / "runs"), None)
    with Path("report/s/points.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = entry["points"]
    assert len(rows) == len(table["rows"]) == 12
    for ours, theirs in zip(table["rows"], rows, strict=True):
        found = dict(zip(table["columns"], ours, strict=True))
        for name, text in theirs.items():
            value = found[name]
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert value == float(text), name
            else:
                assert str("" if value is None else value) == text, name
    stopped = [row for row in rows if row["censored"] == "True"]
    assert stopped, "or nothing is shown of stopped points"
    assert (entry["task"], entry["model"]) == ("gad", "tiny")
    assert {knob["name"]: knob["log"] for knob in entry["knobs"]} == {
        "technique": False,
        "technique.llrd.decay": False,
        "optim.lr": True,
    }
    best = dict(zip(table["columns"], table["rows"][entry["ranked"][0]], strict=True))
    assert best["point"] in " ".join(entry["sentences"])
    assert best["mean"] == max(float(row["mean"]) for row in rows if row["mean"])
    assert search.name == entry["name"]


def test_which_page_shows_which_search(searched: Searched, tmp_path: Path) -> None:
    searched()
    store = Store(tmp_path / "runs")
    assert [one["name"] for one in read_entries(store, "s-confirmed")] == ["s"]
    assert read_entries(store, "another") == []
    data = page_data(read_results(store, None), store, None)
    assert json.loads(json.dumps(data["searches"])) == data["searches"]
    assert data["searches"] == read_entries(store, None) != []
    assert "s" in page_html(data)
    (store.root / "searches/s" / FILE).write_text('{"name": ')  # damaged: the next look mends it
    assert read_entries(store, None) == []


def test_figures_show_what_there_is(searched: Searched) -> None:
    found = found_of(*searched())
    drawn = figures(found)
    assert set(drawn) == {"history", "slice", "importance", "seeds"}
    (axis,) = drawn["history"].axes
    points = sum(len(part.get_offsets()) for part in axis.collections)
    assert points == 12, "stopped points, too"
    assert {text.get_text() for text in axis.get_legend().get_texts()} == {"all seeds", "stopped"}
    best = axis.lines[0].get_ydata()
    assert list(best) == sorted(best), "the best so far never falls"
    names = [axis.get_xlabel() for axis in drawn["slice"].axes if axis.get_visible()]
    assert names == [knob.name for knob in found.search.space.knobs]
    for limits in (
        axis.get_ylim(),
        drawn["slice"].axes[0].get_ylim(),
        drawn["seeds"].axes[0].get_xlim(),
    ):
        assert -0.011 <= limits[0] <= limits[1] <= 1.011, "F1 ends at 0 and 1"
    rows = drawn["seeds"].axes[0].collections
    assert len(rows) == 3 * len(found.ranked), "a point per seed"


def test_p_and_interval_of_a_winner_are_one_statement() -> None:
    """Six seeds, one of which gains nine times as much as the others: Student's t crosses zero."""
    gains = [0.01, 0.01, 0.01, 0.01, 0.01, 0.09]
    other = Arm("baseline", "none", None, 0.5, dict.fromkeys(range(6), 0.5), 0.0, 1)
    winner = Arm("winner", "llrd", 0.6, 0.6, {s: 0.5 + x for s, x in enumerate(gains)}, 0.0, 1)
    assert _against(winner, other, "the baseline").endswith(
        "+0.0233 (95 % +0.0100 to +0.0900) on 6 fresh seeds, p = 0.031"
    )
    assert _against(other, other, "itself").endswith("no difference on 6 fresh seeds")


def test_several_objectives_have_a_front(searched: Searched, tmp_path: Path) -> None:
    search, trials = searched(
        objective=["mean", "seconds"], race={"kind": "none"}, sampler="nsga2", n_trials=6
    )
    found = found_of(search, trials)
    assert set(figures(found)) == {"pareto"}
    files = {path.name for path in write_search(found, tmp_path / "out")}
    assert files == {"points.csv", "pareto.png", "search.html"}
    (entry,) = read_entries(Store(tmp_path / "runs"), None)
    assert entry["maximised"] == [True, False]
    assert entry["range"] == [0.0, 1.0]
    assert entry["ranges"] == {"mean": [0.0, 1.0], "seconds": [0.0, None]}
    assert 1 <= len(entry["ranked"]) <= 6


def test_own_files_end_with_page_and_winner(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An own task is called after its file, which is the name of no yaml."""
    from bluestab.core.config import compose

    lines = [f"some words number {i},{'yes' if i % 2 else 'no'}\n" for i in range(40)]
    (tmp_path / "mine.csv").write_text("text,label\n" + "".join(lines))
    search, _ = searched(
        n_trials=3, fixed={"task": "classification", "task.train": str(tmp_path / "mine.csv")}
    )
    folder = tmp_path / "report" / search.name
    assert (folder / "search.html").is_file()
    text = (folder / "best.yaml").read_text()
    assert "override /task: classification\n" in text
    assert "mine.csv" in text
    (entry,) = read_entries(Store(tmp_path / "runs"), None)
    assert entry["task"] == "mine"
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "best.yaml").write_text(text)
    assert compose(["+sweeps=best"]).task.train == str(tmp_path / "mine.csv")

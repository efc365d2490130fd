"""Seeds added after results: another test, or no p, and a first line that says so."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bluestab.report.frames.contrasts import ArmRuns, contrasts
from bluestab.report.frames.gaps import explain
from bluestab.report.frames.looks import looked_cells, looking_sentences
from bluestab.report.frames.results import read_results
from bluestab.stats.anytime import anytime_change
from bluestab.store.store import Store
from tests.report.frames.test_gaps import streams
from tests.report.test_report import LLRD, plain
from tests.support.compared_arms import REINIT
from tests.support.stored_runs import tree
from tests.sweeps.test_launches import do, launch


def added(root: Path, n: int = 12, first: int = 6) -> Store:
    """`first` seeds of none and llrd, then `n` of them; reinit from the beginning with `n`."""
    store = Store(root)
    store.make_writable()
    rng = np.random.default_rng(1)
    none = plain({s: float(x) for s, x in enumerate(rng.normal(0.5, 0.02, n))})
    llrd = plain({s: float(x) for s, x in enumerate(rng.normal(0.7, 0.02, n))}, technique=LLRD)
    other = plain({s: float(x) for s, x in enumerate(rng.normal(0.6, 0.2, n))}, technique=REINIT)
    launch(store, "a", *none[:first], *llrd[:first])
    do(store, *none[:first], *llrd[:first])
    launch(store, "b", *none, *llrd, *other)
    do(store, *none, *llrd, *other)
    return store


def rows_of(store: Store, name: str = "b") -> dict[str, dict[str, Any]]:
    table = read_results(store, store.manifest(name)).summary
    return {row["arm"]: row for row in table[table["at"] == "last"].to_dict("records")}


def rows_of_all(store: Store) -> dict[str, dict[str, Any]]:
    table = read_results(store, None).summary
    return {row["arm"]: row for row in table[table["at"] == "last"].to_dict("records")}


def test_a_test_that_holds_at_any_look(tmp_path: Path) -> None:
    store = added(tmp_path)
    found = rows_of(store)
    runs = read_results(store, store.manifest("b")).runs
    last = runs[runs["at"] == "last"].pivot(index="seed", columns="arm", values="score")
    expected = anytime_change(last["llrd"], last["none"], n_arms=2)
    row = found["llrd"]
    assert row["test_name"] == "signs, at any look"
    assert row["p_adjusted"] == pytest.approx(expected.p) == pytest.approx(2 * row["p"])
    assert (row["delta_all_low"], row["delta_all_high"]) == (expected.low, expected.high)
    assert row["effect"] == "better"
    assert pd.isna(row["p_std"])
    assert row["no_p_std"] == "seeds were added after results could be seen"
    assert found["reinit"]["looked"] is True, "its baseline was looked at"
    (said,) = looking_sentences(read_results(store, store.manifest("b")).summary, 0, 36, "last")
    assert "seeds were added after results could be seen (llrd, reinit)" in said
    assert "Ville" in said
    assert "a report made before had its own 5 %, and both together err in 10 % at most" in said


def test_too_few_for_it(tmp_path: Path) -> None:
    store = added(tmp_path, n=7, first=6)
    row = rows_of(store)["llrd"]
    assert pd.isna(row["p"])
    assert row["no_p"].endswith("fewer than 8 cannot reach 0.05 then")
    (said,) = looking_sentences(read_results(store, store.manifest("b")).summary, 0, 21, "last")
    assert "no p is printed (-)" in said


def test_the_first_line_says_it_and_reading_leaves_no_trace(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    store = added(tmp_path / "runs")
    before = tree(store.root / "sweeps")
    for _ in range(2):
        done = cli("report", str(store.root), "--sweep", "b", "--out", "out")
        assert done.code == 0
        assert done.out.lstrip().startswith("biosses with small: seeds were added after")
        cli("status", str(store.root))
    lines = [line for line in Path("out/summary.md").read_text().splitlines() if line]
    assert "seeds were added after results could be seen" in lines[1]
    assert "seeds were added after" in Path("out/report.html").read_text()
    assert tree(store.root / "sweeps") == before


def test_all_sweeps_of_a_store(tmp_path: Path) -> None:
    store = added(tmp_path)
    runs = read_results(store, None).runs
    assert (
        looked_cells(store, None, runs) == looked_cells(store, store.manifest("b"), runs) != set()
    )
    earlier = {"runs": []}
    assert looked_cells(store, earlier, runs) == frozenset(), "a manifest of an earlier version"


def test_runs_that_came_one_command_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.make_writable()
    by_hand = [
        replace(one, measured={**one.measured, "command": "bluestab run seed=1"})
        for arm, mean in (((), 0.5), (LLRD, 0.7))
        for one in plain({s: mean + 0.01 * s for s in range(9)}, technique=arm)
    ]
    do(store, *by_hand)
    row = rows_of_all(store)["llrd"]
    assert (row["looked"], row["test_name"]) == (True, "signs, at any look")
    in_one = [replace(o, measured={**o.measured, "command": "bluestab run -m"}) for o in by_hand]
    other = Store(tmp_path / "other")
    other.make_writable()
    do(other, *in_one)
    assert pd.isna(rows_of_all(other)["llrd"]["looked"])


def test_runs_that_are_missing_are_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.make_writable()
    none = plain({s: 0.5 + 0.01 * s for s in range(8)})
    llrd = plain({s: 0.6 + 0.02 * s for s in range(8)}, technique=LLRD)
    launch(store, "a", *none, *llrd)
    do(store, *none[:6], *llrd[:6])
    results = read_results(store, store.manifest("a"))
    assert results.missing == 4
    (said,) = looking_sentences(results.summary, results.missing, 16, "last")
    assert said.startswith("4 of 16 declared runs are missing: p and intervals hold for one look")


def test_declared_baseline_and_difference(tmp_path: Path) -> None:
    store = added(tmp_path)
    manifest = dict(store.manifest("b") or {})
    manifest["declared"] = {"baseline": "llrd", "difference": 0.2}
    results = read_results(store, manifest)
    assert (results.baseline, results.difference) == ("llrd", 0.2)
    assert read_results(store, manifest, "none", difference=0.3).difference == 0.3


def test_no_such_test_for_crossed_seeds() -> None:
    seeds = [streams(i, j) for i in range(4) for j in range(4)]
    rng = np.random.default_rng(3)
    arms = (
        ArmRuns(dict(zip(seeds, rng.normal(size=16), strict=True))),
        ArmRuns(dict.fromkeys(seeds, 0.0)),
    )
    plain_row, looked = contrasts({"a": arms})["a"], contrasts({"a": arms}, looked=["a"])["a"]
    assert plain_row["p"] is not None
    assert looked["p"] is looked["delta_low"] is None
    assert "no test of such runs allows for that" in looked["no_p"]
    explain(plain_row, folded=False, tied=True)  # twice is once


@pytest.mark.slow
def test_looks_after_every_seed_err_as_often_as_said() -> None:
    """From 8 to 20 seeds, four arms alike: does any look find anything?"""
    rng, m, found = np.random.default_rng(2), 60, 0
    for _ in range(m):
        base, *arms = rng.normal(size=(5, 20))
        for n in range(8, 21, 2):
            seeds = [streams(i) for i in range(n)]
            reference = ArmRuns(dict(zip(seeds, base, strict=False)))
            pairs = {
                str(i): (ArmRuns(dict(zip(seeds, own, strict=False))), reference)
                for i, own in enumerate(arms)
            }
            rows = contrasts(pairs, looked=list(pairs)).values()
            if any(row["p_adjusted"] is not None and row["p_adjusted"] < 0.05 for row in rows):
                found += 1
                break
    assert found / m <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / m)

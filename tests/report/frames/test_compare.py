"""The same cells of two stores, side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.report.frames.compare import compare, mention
from tests.report.test_report import LLRD, plain, stored
from tests.support.compared_arms import BETTER, NONE, RECORDS, values


def test_the_same_cells_of_two_stores(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", RECORDS)
    moved = {seed: (x or 0) + 0.1 for seed, x in NONE.items()}
    b = stored(tmp_path / "b", [*plain(moved), *plain(BETTER, technique=LLRD)])
    found = compare(a, b)
    none, llrd = found.table.to_dict("records")
    assert (none["arm"], none["n_a"], none["n_b"], none["n_paired"]) == ("none", 8, 8, 8)
    assert none["delta"] == pytest.approx(0.1)
    assert none["p"] == pytest.approx(2 / 2**8)
    assert none["p_adjusted"] == none["p"], "of two equal arms there is nothing to test"
    assert (none["n_same_run"], none["n_same_score"], none["differs"]) == (8, 0, "")
    assert "8 of 8 runs that both hold have other scores" in mention(none)
    assert (llrd["n_same_score"], llrd["delta"], mention(llrd)) == (8, 0.0, "")
    assert found.alone == ["only in A: biosses with small, reinit (8 runs)"]


def test_arms_of_one_name_whose_configs_differ(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", plain(NONE))
    b = stored(tmp_path / "b", plain(BETTER, lr=2e-05))
    (found,) = compare(a, b).table.to_dict("records")
    assert found["differs"] == "optim.lr: 1e-05 -> 2e-05"
    assert found["n_same_run"] == 0
    assert found["delta"] == pytest.approx((values(BETTER) - values(NONE)).mean())
    two = stored(tmp_path / "c", [*plain(NONE, lr=2e-05), *plain(NONE, lr=3e-05)])
    assert compare(a, two).table.empty, "which of the two would be meant?"
    assert len(compare(a, two).alone) == 3


def test_compare_as_a_command(cli: Callable[..., Any]) -> None:
    stored(Path("a"), RECORDS)
    stored(Path("b"), RECORDS)
    said = cli("compare", "a", "b", "--out", "both.csv")
    assert (said.code, said.err) == (0, "")
    assert said.out.count("8 of 8 equal") == 3
    assert Path("both.csv").read_text(encoding="utf-8").count("\n") == 4
    assert cli("compare", "a", "nowhere").code != 0

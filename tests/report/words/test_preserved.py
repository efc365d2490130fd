"""What became of earlier tasks: kept to the last bit, changed by so much, or not known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bluestab.report.words import preserved
from bluestab.store.store import Store

Make = Callable[..., Any]
SHORT = ("model=tiny", "device=cpu", "optim.batch_size=8", "optim.steps=3", "optim.lr=3e-3")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


def row(key: str, **changes: Any) -> dict[str, Any]:
    plain = {"key": key, "task": "new", "model": "m", "arm": "a", "init_from": None, "score": 0.5}
    return {**plain, "earlier": (), **changes}


def said(*rows: dict[str, Any]) -> list[str]:
    return list(preserved.of_arms(pd.DataFrame(rows)))


def test_arms_whose_earlier_runs_are_here() -> None:
    first = row("f", task="old", score=0.8)
    kept = [row(k, init_from="f:last", earlier=(("old", 0.8),), arm="ia") for k in "ab"]
    lost = [row(k, init_from="f:last", earlier=(("old", s),)) for k, s in (("c", 0.6), ("d", 0.8))]
    assert said(first, *kept, *lost) == [
        "new with m, ia: test scores of old are as before in all 2 runs, to the last bit",
        "new with m, a: test scores of old changed in 1 of 2 runs, by -0.1000 on average "
        "(-0.2000 to +0.0000)",
    ]


def test_a_chain_is_walked_back() -> None:
    first = row("f", task="one", score=0.8)
    second = row("s", task="two", score=0.7, init_from="f:last", earlier=(("one", 0.8),))
    earlier = (("one", 0.8), ("two", 0.7))
    third = row("t", task="three", init_from="s:last", earlier=earlier)
    assert [s.partition(": ")[2] for s in said(first, second, third)][1:] == [
        "test scores of two are as before in the one run, to the last bit",
        "test scores of one are as before in the one run, to the last bit",
    ]


@pytest.mark.parametrize("init_from", [None, "gone:last", "f:best"])
def test_what_is_not_known_is_not_said(init_from: str | None) -> None:
    later = row("b", init_from=init_from, earlier=(("old", 0.8),))
    assert said(row("f", task="old", score=0.8), later) == []
    assert said(row("f")) == []
    assert list(preserved.of_arms(pd.DataFrame([{"key": "f"}]))) == []


def test_a_run_says_it_at_its_end(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from bluestab.report.terminal.tables import print_record
    from tests.training.test_execute import done

    root = tmp_path / "runs"
    first = done(make_run("task=ncbi_disease", *SHORT, "keep=last"), root)
    line = ("task=gad", *SHORT, f"model.init_from={first.key}", "score_earlier=true")
    still = done(make_run(*line, "technique=inner_adaptors"), root)
    (sentence,) = preserved.of_run(still, Store(root))
    assert sentence.startswith("ncbi_disease scored again: entity_f1 0.")
    assert sentence.endswith("all scores as before to the last bit")
    print_record(still, str(root / still.key))
    assert sentence in capsys.readouterr().out.replace("\n", " ")
    moved = done(make_run(*line, "technique=none", "optim.lr=0.1"), root)
    (sentence,) = preserved.of_run(moved, Store(root))
    assert ", before 0." in sentence
    assert preserved.of_run(first, Store(root)) == []
    assert preserved.of_run(still, Store(tmp_path / "nowhere")) == []

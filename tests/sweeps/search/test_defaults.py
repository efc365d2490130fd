"""What a search leaves open is settled once, for all its points and all its workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.devices import Kind
from bluestab.sweeps.search.defaults import as_before, settled
from bluestab.sweeps.search.plan import plan_search
from bluestab.sweeps.search.saved import fixed_before, read_search, write_search_file
from bluestab.testing.corpora import ANY_FILE
from bluestab.training.defaults import FORMER
from tests.support.simulated_search import node

FAST, SLOW, GPU = Kind("cpu", True), Kind("cpu", False), Kind("cuda", True)
ON_CPU = "{cpu:4,cuda:4,mps:4}"


@pytest.fixture
def plan(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    common = dict(line.split("=") for line in ANY_FILE)

    def make(kind: Kind, choices: dict[str, Any] | None = None, **fixed: str) -> Any:
        given = {"task": "gad", "model": "tiny", "store": "runs", **common, **fixed}
        choices = choices or {"optim.lr": "choice(1e-4,1e-3)"}
        search = plan_search(node(), name="s", fixed=given, choices=choices)
        return settled(search, fixed_before(search), lambda device: kind)

    return make


def defaults(search: Any) -> tuple[str | None, str | None]:
    fixed = dict(line.split("=", 1) for line in search.fixed)
    assert fixed.items() <= search.asked["fixed"].items()
    return fixed.get("trainer.precision"), fixed.get("trainer.micro_batch")


@pytest.mark.slow
def test_one_precision_for_all_points(plan: Any) -> None:
    assert defaults(plan(FAST)) == ("bf16", ON_CPU)
    assert "trainer.dropout_masks={cpu:sfc64,cuda:sfc64,mps:sfc64}" in plan(FAST).fixed
    assert "trainer.embedding_rows={cpu:used,cuda:used,mps:used}" in plan(FAST).fixed
    assert defaults(plan(SLOW)) == ("32", ON_CPU)
    assert defaults(plan(GPU)) == ("bf16", "{cpu:null,cuda:null,mps:null}")
    said = {"trainer.precision": "32", "trainer.micro_batch": "2"}
    assert defaults(plan(FAST, **said)) == ("32", "2")
    lr = {"optim.lr": "choice(1e-4,1e-3)"}
    assert defaults(plan(FAST, {**lr, "technique": ["none", "r3f"],
                                "technique.r3f.weight": "choice(1,2)"}))[0] == "32"  # fmt: skip
    assert defaults(plan(FAST, {**lr, "trainer.precision": "choice(32,bf16)"}))[0] is None


def test_a_study_goes_on_as_it_was_begun(plan: Any) -> None:
    begun = plan(SLOW)
    begun.folder.mkdir(parents=True)
    write_search_file(begun)
    assert defaults(plan(FAST)) == defaults(begun)
    assert defaults(read_search(Path("runs"), "s")) == defaults(begun)
    file = begun.folder / "search.json"
    content = json.loads(file.read_text())
    for path in FORMER:
        del content["asked"]["fixed"][path]  # as an earlier version wrote it
    file.write_text(json.dumps(content))
    assert defaults(plan(FAST)) == ("32", "null")
    assert "trainer.dropout_masks=torch" in plan(FAST).fixed
    assert defaults(read_search(Path("runs"), "s")) == ("32", "null")


def test_what_was_said_before_is_left_alone() -> None:
    assert as_before({"trainer.micro_batch": "4"}, {}) == {
        "trainer.precision": "32", "trainer.micro_batch": "4", "trainer.dropout_masks": "torch",
        "trainer.embedding_rows": "all",
    }  # fmt: skip
    assert as_before({}, {"trainer.precision": "choice(32,bf16)"}) == {
        "trainer.micro_batch": "null", "trainer.dropout_masks": "torch",
        "trainer.embedding_rows": "all",
    }  # fmt: skip

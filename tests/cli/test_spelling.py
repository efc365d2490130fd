"""Flags, blanks, brackets and marks: the words that were meant stand in the refusal."""

from __future__ import annotations

import shlex

import pytest

from bluestab.cli import spelling, unknown
from bluestab.core.errors import ConfigError

KEYS = unknown.known_keys()


@pytest.fixture(autouse=True)
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "known_keys", lambda: KEYS)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("--seed 3", "seed=3"),
        ("--seed=3", "seed=3"),
        ("-seed 3", "seed=3"),
        ("--lr 3e-5", "optim.lr=3e-5"),
        ("--learning_rate 3e-5", "optim.lr=3e-5"),
        ("--num-train-epochs=3", "optim.epochs=3"),
        ("--model_name_or_path bert-base-uncased", "model=bert-base-uncased"),
        ("--output_dir out", "store=out"),
        ("--task gad", "task=gad"),
        ("--do_train", "every run trains"),
        ("--mutlirun", "--multirun"),
        ("--frob", "flags are --cfg job"),
        ("seed = 3", "seed=3"),
        ("seed =3", "seed=3"),
        ("seed= 3", "seed=3"),
        ("seed 3", "seed=3"),
        ("seed: 3", "seed=3"),
        ("optim.lr:3e-5", "optim.lr=3e-5"),
        ("seed==3", "seed=3"),
        ("technique=[freeze, llrd]", "'technique=[freeze,llrd]'"),
        ("-m technique=none, llrd", "technique=none,llrd"),
        ("quickstart", "bluestab run -m +sweeps=quickstart"),
        ("sweeps/quickstart.yaml", "bluestab run -m +sweeps=quickstart"),
        ("mine.csv", "task=classification task.train=mine.csv"),
        ("'task = gad'", "task=gad"),
        ("--multirun=true", "the flag --multirun takes no value"),
        ("technique=freeze technique=llrd", "'technique=[freeze,llrd]'"),
        ("'technique=(freeze,llrd)'", "'technique=[freeze,llrd]'"),
        ("'technique={freeze,llrd}'", "'technique=[freeze,llrd]'"),
        ("'technique=[freeze,llrd'", "'technique=[freeze,llrd]'"),
        ("technique=freeze,llrd]", "'technique=[freeze,llrd]'"),
        (r"'task.train=C:\Users\me\a.csv'", "task.train=/mnt/c/Users/me/a.csv"),
        ("gad", "task=gad"),
        ("\u2014m task=gad", "type it anew: -m"),
        ("\u2013\u2013seed=3", "type it anew: --seed=3"),
        ("task=gad \u201ctechnique=[freeze,llrd]\u201d", "type it anew: "),
    ],
)
def test_what_was_meant(line: str, meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        spelling.check_spelling(shlex.split(line))
    said = str(refused.value)
    assert meant in said
    assert len(said) < 250


@pytest.mark.parametrize(
    "line",
    [
        "task=gad 'technique=[freeze, llrd]' -m",
        "--cfg job task=gad",
        "--info plugins",
        "-m +sweeps=quickstart --debug",
        "~task.recipe",
        "'task.train=my data.csv' task.label=",
        "task.name=\u2018quoted\u2019\u2014name",
        "--config-dir elsewhere task=gad",
        "word",
        "task.train=my data.csv",
    ],
)
def test_what_is_fine_or_refused_elsewhere(line: str) -> None:
    spelling.check_spelling(shlex.split(line))


def test_flags_may_stand_anywhere() -> None:
    first = spelling.flags_first
    typed = ["a=1", "-m", "b=2", "--cfg", "job", "c=3"]
    assert first(typed) == ["-m", "--cfg", "job", "a=1", "b=2", "c=3"]
    assert first(["--info", "a=1"]) == ["--info", "all", "a=1"]
    assert first(["a=-1", "--cfg=job"]) == ["--cfg=job", "a=-1"]

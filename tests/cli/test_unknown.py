"""One short sentence with the way out, for whatever does not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bluestab.cli import unknown
from tests.support.refusals import RUN, SWEEP, refused

Say = Callable[..., Any]
KEYS = unknown.known_keys()


@pytest.fixture(autouse=True)
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown, "known_keys", lambda: KEYS)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("learning_rate=3e-5", "here it is optim.lr: optim.lr=3e-5"),
        ("optim.learning_rate=3e-5", "here it is optim.lr: optim.lr=3e-5"),
        ("Learning-Rate=3e-5", "here it is optim.lr: optim.lr=3e-5"),
        ("training_args.learning_rate=3e-5", "here it is optim.lr: optim.lr=3e-5"),
        ("trainer.max_epochs=4", "here it is optim.epochs: optim.epochs=4"),
        ("num_train_epochs=4", "optim.epochs=4"),
        ("max_seq_length=128", "task.max_length=128"),
        ("output_dir=out/a", "store=out/a"),
        ("report_to=wandb", "logger=wandb"),
        ("fp16=true", "say trainer.precision=bf16"),
        ("ckpt_path=a.ckpt", "the same command goes on"),
        ("experiment=mine", "bluestab run -m +sweeps=NAME"),
        ("lr=1", "did you mean 'optim.lr'?"),
        ("trainer.batch_size=8", "did you mean 'optim.batch_size'?"),
        ("Optim.LR=1", "did you mean 'optim.lr'?"),
        ("optim.lrr=1", "did you mean 'optim.lr'?"),
        ("tsk=gad", "did you mean 'task'?"),
        ("checkpoint_evry=10min", "did you mean 'checkpoint_every'?"),
        ("llrd.decay=0.9", "technique.llrd.decay=... where technique=llrd is"),
        ("optim.foo=1", "below optim there are lr, batch_size, bucket"),
        ("trainer.attention.tpu=eager", "below trainer.attention there are cpu, cuda, mps"),
        ("model.vision.width=8", "where model.vision is null; say model/vision=conv"),
        ("foo.bar=1", "at the top there are task, model, technique"),
        ("optim/lr=1", "did you mean 'optim.lr'?"),
        ("foo=1", "at the top there are task, model, technique"),
    ],
)
def test_keys(monkeypatch: pytest.MonkeyPatch, typed: str, expected: str) -> None:
    monkeypatch.setenv("BLUESTAB_COMMAND", f"bluestab run {typed}")
    said = unknown.unknown_key(typed.partition("=")[0])
    assert expected in said
    assert len(said) < 450
    assert said.count("optim.lr") <= 2


OPTIONS = {
    "model": ["bert_base_cased", "bert_base_uncased", "biobert_base", *map(str, range(20))],
    "model/vision": ["conv", "none", "patch"],
    "technique": ["freeze", "llrd", "none", "reinit"],
    "task": ["bc5cdr_chem", "bc5cdr_disease", "gad", *map(str, range(20))],
    "hydra/launcher": ["basic", "check", "fetch", "local", "pool", "slurm"],
    "sweeps": ["quickstart", "zhang2021"],
}


@pytest.mark.parametrize(
    ("group", "name", "expected"),
    [
        ("model", "bert_base", "did you mean 'bert_base_cased' or 'bert_base_uncased'?"),
        ("model", "bert-base-uncased", "did you mean 'bert_base_uncased'?"),
        ("model/google-bert", "bert-base-uncased", "did you mean 'bert_base_uncased'?"),
        ("model/somebody", "else-1.0", "names: model=auto model.hub=somebody/else-1.0"),
        ("model", "gpt", "bluestab list model shows all 23"),
        ("task", "bc5cdr", "'bc5cdr_chem' or 'bc5cdr_disease'"),
        ("technique", "LLRD", "did you mean 'llrd'?"),
        ("technique", "layer-wise-lr-decay", "here it is technique=llrd"),
        ("technique", "freeze+llrd", "several in one run are a list: 'technique=[freeze,llrd]'"),
        ("hydra/launcher", "submitit_slurm", "here it is hydra/launcher=slurm"),
        ("hydra/launcher", "x", "valid: local, pool, slurm"),
        ("model/vision", "resnet", "no model/vision 'resnet'; valid: conv, none, patch"),
        ("task", "mine.csv", "task=classification task.train=mine.csv"),
        ("task", "gad.yaml", "did you mean 'gad'?"),
        ("sweeps", "quick-start", "did you mean 'quickstart'?"),
    ],
)
def test_choices(group: str, name: str, expected: str) -> None:
    said = unknown.unknown_choice(group, name, OPTIONS[group.split("/so")[0].split("/go")[0]])
    assert expected in said
    assert len(said) < 300


def test_knobs_of_techniques() -> None:
    def said(key: str) -> str:
        return unknown.unknown_technique_knob(key, key.split("."))

    assert said("technique.freeze") == (
        "'technique.freeze' is no value but the knobs of freeze; say technique=freeze "
        "technique.freeze.depth=..."
    )
    assert "did you mean 'technique.freeze.depth'?" in said("technique.freeze.dpth")
    assert said("technique.llrd.decay").endswith("add technique=llrd")


LOOKS_RIGHT: list[tuple[tuple[str, ...], list[str]]] = [
    ((*RUN, "seeds=5"), ["sweep.seeds=5 with -m", "seed=3"]),
    ((*RUN, "sweep=quickstart"), ["bluestab run -m +sweeps=quickstart"]),
    ((*RUN, "hydra.run.dir=out"), ["hydra.run.dir is 'out'", "store=out"]),
    (("run", "+sweeps=quickstart"), ["add -m", "bluestab run -m +sweeps=quickstart"]),
    ((*SWEEP, "seeds=1,2"), ["'sweep.seeds=[1,2]'"]),
    ((*RUN, "sweeps=quickstart"), ["bluestab run -m +sweeps=quickstart"]),
    ((*RUN, "+experiment=mine"), ["bluestab run -m +sweeps=NAME"]),
    ((*RUN, "hydra.launcher=pool"), ["hydra/launcher=pool"]),
    ((*SWEEP, "hydra.sweep.dir=out"), ["hydra.sweep.dir is 'out'", "store=out"]),
    ((*RUN, "hydra.job.chdir=true"), ["hydra.job.chdir is True", "store=FOLDER"]),
    ((*RUN, "hydra.verbose=true"), ["no effect here"]),
    ((*RUN, "technique=[]"), ["technique=none"]),
    ((*RUN, "+seed=3"), ["without the plus: seed=3"]),
    ((*RUN, "sweep.seeds=5"), ["sweep.seeds=5 is for a sweep; add -m"]),
]
QUICK = 4  # one of each kind; the others take their time for a composition each


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(*one, marks=[] if i < QUICK else pytest.mark.slow)
        for i, one in enumerate(LOOKS_RIGHT)
    ],
)
def test_what_looks_right_to_hydra(
    cli: Say, arguments: tuple[str, ...], expected: list[str]
) -> None:
    refused(cli, arguments, *expected)

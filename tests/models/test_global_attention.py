"""Longformer's global attention on a question: the mask, the logits, the run and its refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError
from bluestab.models.global_attention import first_text
from bluestab.testing.corpora import ANY_FILE
from bluestab.training.check import check
from tests.support.encoders import checkpoint

SHORT = (
    *ANY_FILE,
    "device=cpu",
    "task.max_length=128",
    "optim.steps=2",
    "optim.epochs=null",
    "trainer.eval_every=1",
)


@pytest.fixture(autouse=True)
def small_corpora_alone(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUESTAB_DATA", str(corpora))


@pytest.fixture(scope="module")
def longformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint("longformer", tmp_path_factory.mktemp("checkpoint"))


def on_question(folder: Path, *more: str) -> dict[str, Any]:
    line = (f"model.path={folder}", "model.global_attention=first_text", "task=pubmedqa", *SHORT)
    return resolved(compose(["model=auto", *line, *more]))


def test_the_first_text_ends_before_the_first_separator() -> None:
    ids = torch.tensor([[0, 7, 8, 2, 2, 9, 2, 1], [0, 7, 2, 2, 9, 9, 9, 2]])
    expected = [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]]
    assert first_text(ids, separator=2).tolist() == expected


def test_logits_are_those_of_transformers_with_that_mask(
    make_assembly: Callable[..., Any], longformer: Path
) -> None:
    line = ("task=pubmedqa", "model=auto", f"model.path={longformer}", *SHORT)
    assembly = make_assembly(*line, "model.global_attention=first_text")
    network = assembly.built.model.eval()
    plain = copy.deepcopy(network)
    plain._forward_pre_hooks.clear()
    plain._forward_pre_hooks_with_kwargs.clear()
    batch = next(iter(assembly.loaders["test"]))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    separator = network.config.sep_token_id
    question = [row.index(separator) for row in inputs["input_ids"].tolist()]
    assert min(question) > 1, "every question has pieces"
    mask = torch.zeros_like(inputs["input_ids"])
    for row, end in enumerate(question):
        mask[row, :end] = 1
    with torch.no_grad():
        found = network(**inputs).logits
        assert torch.equal(found, plain(**inputs, global_attention_mask=mask).logits)
        assert not torch.allclose(found, plain(**inputs).logits, atol=1e-6)


def test_the_knob_enters_the_key_and_is_refused_where_it_means_nothing(longformer: Path) -> None:
    ours = check(on_question(longformer))
    usual = check(on_question(longformer, "model.global_attention=first_piece"))
    assert ours.key != usual.key
    for more, said in (
        (("task=hoc",), "task 'hoc' reads one text, all of which would attend to all"),
        (("model.global_attention=all",), "expected first_piece or first_text"),
    ):
        with pytest.raises(ConfigError) as caught:
            check(on_question(longformer, *more))
        (problem,) = caught.value.problems
        assert said in problem


def test_other_families_have_no_windows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="networks of family distilbert have no windows"):
        check(on_question(checkpoint("distilbert", tmp_path)))


@pytest.mark.slow
def test_an_export_answers_as_the_run_did_and_says_what_it_needs(
    cli: Callable[..., Any], longformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ("model=auto", f"model.path={longformer}", "model.global_attention=first_text")
    done = cli("run", "task=pubmedqa", *line, *SHORT, "optim.lr=1e-2", "keep=last", "store=runs")
    assert done.code == 0, done.err
    (key,) = [path.name for path in Path("runs").iterdir() if (path / "record.json").exists()]
    said = cli("export", key, "--out", "exported")
    assert said.code == 0, said.err
    assert "equal the recorded ones" in said.out
    card = Path("exported", "README.md").read_text()
    assert "global_attention_mask" in card
    assert "pipeline(" not in card
    Path("new.csv").write_text("question,context\nIs it?,Because it is so.\n")
    names = ("--text", "question", "--text-pair", "context")
    for number, run in enumerate((key, "exported")):
        files = ("--input", "new.csv", "--output", f"{number}.csv")
        assert cli("predict", run, *files, *names).code == 0
    assert Path("0.csv").read_text() == Path("1.csv").read_text()
